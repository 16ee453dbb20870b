// What somebody woken at three in the morning reads first: what is out, why, whom it concerns, and what
// was done about it. Pure: model in, sentences out.

import { age, clock, count, country, list, percent, plural } from './format.js';
import { agreed, isWanted, words } from './words.js';

/** Most lines; the rest is counted, worst first. */
const LINES = 5;
/** From this many of the same kind on, they are one line. */
const MANY = 4;

const isOut = (row) => row.severity <= 1;
const isDoubtful = (row) => row.severity > 1 && row.severity < 7;

/**
 * `{level, title, lines: [{level, what, why, who, did, keys}], planned}`; `level` is `bad`, `warn`, `ok` or
 * `none`, `keys` are the mirrors that a line speaks of.
 */
export function headline(model, now) {
  const { fleet, rows } = model;
  if (!fleet) return { level: 'none', title: 'Asking the broker …', lines: [], planned: '' };
  const lines = [...doubt(fleet), ...dead(fleet, rows), ...incidents(model, now)];
  const planned = rows.filter((row) => row.severity === 7);
  const worst = lines.some((line) => line.level === 'bad') ? 'bad' : lines.length ? 'warn' : 'ok';
  const more = lines.length - LINES;
  const shown = more > 0 ? lines.slice(0, LINES) : lines;
  if (more > 0)
    shown.push({ level: 'warn', what: `and ${more} more`, why: 'the table has all, worst first', keys: [] });
  return {
    level: rows.length ? worst : 'none',
    title: title(rows),
    lines: shown,
    planned: planned.length ? wanted(planned) : '',
  };
}

function title(rows) {
  if (!rows.length) return 'No mirrors are registered yet';
  const [out, doubtful] = [rows.filter(isOut).length, rows.filter(isDoubtful).length];
  const takes = rows.filter((row) => row.eligible).length;
  const users = rows.every((row) => row.users === null)
    ? null
    : rows.reduce((sum, row) => sum + (row.users ?? 0), 0);
  const tail = users === null ? '' : `, ${plural(users, 'user')} now`;
  const takers = `${count(takes)} of ${plural(rows.length, 'mirror')} ${takes === 1 ? 'takes' : 'take'} users${tail}`;
  const wrong = [
    out ? `${plural(out, 'mirror')} out` : '',
    doubtful ? `${out ? count(doubtful) : plural(doubtful, 'mirror')} doubtful` : '',
  ].filter(Boolean);
  return wrong.length ? `${list(wrong)}: ${takers}` : `All is well: ${takers}`;
}

function doubt(fleet) {
  if (!fleet.doubts_itself) return [];
  const why = 'it may be cut off, and takes no mirror out for silence meanwhile';
  return [{ level: 'bad', what: 'This broker doubts itself', why, keys: [] }];
}

/** Domains without any mirror that takes users. */
function dead(fleet, rows) {
  const of = new Map();
  for (const row of rows) of.set(row.domain, [...(of.get(row.domain) ?? []), row]);
  const all = [...of].filter(([, mirrors]) => mirrors.every((row) => !row.eligible));
  return all.map(([domain, mirrors]) => ({
    level: 'bad',
    what: `${domain} has no mirror that takes users`,
    why: `${plural(mirrors.length, 'mirror')}, none eligible; what is answered is as its policy for this says`,
    keys: mirrors.map((row) => row.key),
  }));
}

function incidents(model, now) {
  const wrong = model.rows.filter((row) => row.severity < 7);
  wrong.sort((a, b) => a.severity - b.severity || b.since - a.since);
  const groups = new Map();
  for (const row of wrong) {
    const kind = `${row.domain} ${row.state} ${row.worst.reason}`;
    groups.set(kind, [...(groups.get(kind) ?? []), row]);
  }
  return [...groups.values()].flatMap((group) =>
    group.length >= MANY ? [together(group, model, now)] : group.map((row) => alone(row, model, now)),
  );
}

function level(row) {
  return isOut(row) ? 'bad' : 'warn';
}

function alone(row, model, now) {
  const families = row.verdicts
    .filter((v) => v.state === row.state)
    .map((v) => v.family)
    .join(' and ');
  const partly = row.verdicts.length > 1 && families !== row.verdicts.map((v) => v.family).join(' and ');
  const proof = agreed(row.worst.evidence);
  return {
    level: level(row),
    what: `${row.key} ${partly ? `${families} ` : ''}${row.state}${row.since ? ` since ${clock(row.since)}` : ''}`,
    why: words(row.worst.reason) + (proof ? ` (${proof})` : ''),
    ...affected([row], model),
    age: row.since ? age(now - row.since) : '',
    keys: [row.key],
  };
}

function together(group, model, now) {
  const [first] = group;
  const earliest = Math.min(...group.map((row) => row.since || now));
  return {
    level: level(first),
    what: `${count(group.length)} mirrors of ${first.domain} ${first.state} since ${clock(earliest)}`,
    why: `${words(first.worst.reason)}: ${list(
      group.map((row) => row.mirror),
      5,
    )}`,
    ...affected(group, model),
    age: age(now - earliest),
    keys: group.map((row) => row.key),
  };
}

/** Who was on mirrors that went out, and where they are now. */
function affected(rows, model) {
  const hits = rows.map((row) => model.hit.get(row.key)).filter(Boolean);
  if (!hits.length) return { who: '', did: rows.some((row) => !row.eligible) ? spare(rows[0], model) : '' };
  const users = hits.reduce((sum, hit) => sum + hit.users, 0);
  const countries = [...new Set(hits.flatMap((hit) => hit.countries))];
  const from = list(
    countries.map((code) => (code ? country(code) : 'unknown places')),
    4,
  );
  return {
    who: `${plural(users, 'user')} from ${from} ${users === 1 ? 'was' : 'were'} on it`,
    did: moved(rows, hits, countries, model),
  };
}

function moved(rows, hits, countries, model) {
  const out = new Set(rows.map((row) => row.key));
  const gained = new Map();
  const known = hits.every((hit) => hit.before);
  for (const flow of model.traffic?.list ?? []) {
    if (
      flow.domain !== rows[0].domain ||
      out.has(`${flow.domain}/${flow.mirror}`) ||
      !countries.includes(flow.country)
    )
      continue;
    const had = known
      ? Math.max(...hits.map((hit) => hit.before.get(`${flow.country} ${flow.mirror}`) ?? 0))
      : 0;
    if (flow.users > had) gained.set(flow.mirror, (gained.get(flow.mirror) ?? 0) + flow.users - had);
  }
  const total = [...gained.values()].reduce((sum, users) => sum + users, 0);
  if (!total) return spare(rows[0], model);
  const shares = [...gained].sort((a, b) => b[1] - a[1]);
  if (shares.length === 1) return `now sent to ${shares[0][0]}`;
  const told = shares.map(([mirror, users]) => `${mirror} ${percent(users / total)}`);
  return `now sent to ${list(told, 4)}`;
}

function spare(row, model) {
  const left = model.rows.filter((other) => other.domain === row.domain && other.eligible);
  if (!left.length) return '';
  const who = left.length === 1 ? left[0].mirror : `the nearest of ${count(left.length)} others`;
  return `new users are sent to ${who}`;
}

function wanted(rows) {
  const by = new Map();
  for (const row of rows)
    by.set(words(row.worst.reason), [...(by.get(words(row.worst.reason)) ?? []), row.key]);
  return `As people want it: ${[...by].map(([why, keys]) => `${list(keys, 4)} ${why}`).join('; ')}`;
}

/** `play.example/lon v4 up → down: its agent is silent, and probes fail`. */
export function sentence(event, proof = '') {
  const by = proof || (['none', ''].includes(event.vantage) ? '' : event.vantage.replaceAll('+', ' and '));
  const why = words(event.reason) + (by && !isWanted(event.reason) ? ` (${proof ? by : `says ${by}`})` : '');
  return { who: `${event.domain}/${event.mirror} ${event.family}`, from: event.from, to: event.to, why };
}
