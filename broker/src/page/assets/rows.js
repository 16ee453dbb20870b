// Which mirrors the table shows, and in which order. Pure.

const text = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
/** What is not known comes last whichever way is up. */
const numbers = (of) => (a, b, way) => {
  const [x, y] = [of(a), of(b)];
  if (x === null || y === null) return x === y ? 0 : x === null ? 1 : -1;
  return way * (x - y);
};
const texts = (of) => (a, b, way) => way * text(of(a), of(b));

/** How each column compares, `(a, b, way)`, and which way it begins with. */
export const COLUMNS = {
  mirror: { compare: texts((row) => row.key), first: 1 },
  state: { compare: numbers((row) => row.severity), first: 1 },
  reason: { compare: texts((row) => row.worst.reason), first: 1 },
  since: { compare: numbers((row) => row.since || null), first: -1 },
  load: { compare: numbers((row) => row.load), first: -1 },
  users: { compare: numbers((row) => row.users), first: -1 },
  p50: { compare: numbers((row) => row.p50), first: -1 },
  p95: { compare: numbers((row) => row.p95), first: -1 },
};

/** Rows in order; equals are by name, so that nothing jumps. */
export function sorted(rows, column, way) {
  const { compare } = COLUMNS[column];
  return rows.slice().sort((a, b) => compare(a, b, way) || text(a.key, b.key));
}

/**
 * Rows that pass. `query` is words that must all occur in name, node, address, place, state or reason;
 * `state` is a state, `trouble` or empty; `keys` is a set of mirrors or null.
 */
export function filtered(rows, { query = '', state = '', keys = null } = {}, words = String) {
  const wanted = query.toLowerCase().split(/\s+/).filter(Boolean);
  const passes = (row) => {
    if (keys && !keys.has(row.key)) return false;
    if (state === 'trouble' ? row.severity >= 8 : state && !row.verdicts.some((v) => v.state === state))
      return false;
    if (!wanted.length) return true;
    const all = [
      row.key,
      row.node,
      row.health,
      row.place.country,
      row.place.country_name,
      ...row.verdicts.flatMap((v) => [v.address, v.state, v.family, words(v.reason)]),
    ]
      .filter(Boolean)
      .join(' ')
      .toLowerCase();
    return wanted.every((word) => all.includes(word));
  };
  return rows.filter(passes);
}
