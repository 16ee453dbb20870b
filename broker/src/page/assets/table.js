// The table of mirrors: sorted by its headings, filtered by words, state and place. Rows are kept and
// changed cell by cell; a fleet at rest changes nothing.

import { byId, el, reconcile, setAttribute, setText } from './dom.js';
import { age, coarseAge, count, moment, ms, percent, place, plural } from './format.js';
import { COLUMNS, filtered, sorted } from './rows.js';
import { agreed, evidence, sign, words } from './words.js';

/** Rows shown until somebody wants all. */
const FIRST = 150;

const CELLS = ['mirror', 'state', 'reason', 'since', 'load', 'users', 'p50', 'p95'];
const LABELS = {
  mirror: 'Mirror',
  state: 'State',
  reason: 'Reason',
  since: 'Since',
  load: 'Load',
  users: 'Users',
  p50: 'RTT p50',
  p95: 'RTT p95',
};

export class MirrorTable {
  constructor() {
    this.table = byId('mirror-table');
    this.known = new Map();
    this.rows = [];
    this.column = 'state';
    this.way = 1;
    this.all = false;
    this.keys = null;
    this.headings = new Map(
      [...document.querySelectorAll('#mirrors th[data-column]')].map((th) => [th.dataset.column, th]),
    );
    for (const [column, th] of this.headings)
      th.querySelector('button').addEventListener('click', () => this.sort(column));
    byId('filter').addEventListener('input', () => this.draw());
    byId('filter-state').addEventListener('change', () => this.draw());
    byId('filter-place').addEventListener('click', () => this.only(null));
    byId('more-rows').addEventListener('click', () => {
      this.all = !this.all;
      this.draw();
    });
    this.mark();
  }

  sort(column) {
    this.way = column === this.column ? -this.way : COLUMNS[column].first;
    this.column = column;
    this.mark();
    this.draw();
  }

  mark() {
    for (const [column, th] of this.headings) {
      setAttribute(
        th,
        'aria-sort',
        column === this.column ? (this.way > 0 ? 'ascending' : 'descending') : 'none',
      );
    }
  }

  /** Shows only these mirrors, told as `what`; null shows all again. */
  only(keys, what = '') {
    this.keys = keys && new Set(keys);
    byId('filter-place').hidden = !keys;
    setText(byId('filter-place'), keys ? `Only ${what || plural(keys.length, 'mirror')} — show all` : '');
    this.draw();
  }

  /** Shows a domain's mirrors by filling in the filter. */
  search(text) {
    byId('filter').value = text;
    this.only(null);
  }

  update(rows, now) {
    this.rows = rows;
    this.now = now;
    this.draw();
  }

  draw() {
    const filter = { query: byId('filter').value, state: byId('filter-state').value, keys: this.keys };
    const passing = sorted(filtered(this.rows, filter, words), this.column, this.way);
    const shown = this.all ? passing : passing.slice(0, FIRST);
    // Each row is a body of its own: its details stay below it whatever the order.
    const after = this.table.tHead.nextSibling;
    reconcile(
      this.table,
      this.known,
      shown,
      (row) => row.key,
      make,
      (entry, row) => fill(entry, row, this.now),
      after,
    );
    const button = byId('more-rows');
    button.hidden = passing.length <= FIRST;
    setText(button, this.all ? `Show the first ${FIRST}` : `Show all ${count(passing.length)}`);
    const of = passing.length === this.rows.length ? '' : ` of ${count(this.rows.length)}`;
    setText(
      byId('row-count'),
      `${count(passing.length)}${of} ${this.rows.length === 1 ? 'mirror' : 'mirrors'}`,
    );
    byId('no-rows').hidden = passing.length > 0;
  }
}

function make(row) {
  const cells = {};
  const line = el('tr', { role: 'row' });
  for (const name of CELLS) {
    cells[name] = el(name === 'mirror' ? 'th' : 'td', {
      class: `c-${name}`,
      'data-label': LABELS[name],
      role: name === 'mirror' ? 'rowheader' : 'cell',
      scope: name === 'mirror' ? 'row' : null,
    });
    line.append(cells[name]);
  }
  const parts = {
    name: el('button', { type: 'button', class: 'name', 'aria-expanded': 'false' }),
    domain: el('span', { class: 'faint' }),
    sign: el('span', { class: 'sign', 'aria-hidden': 'true' }),
    state: el('span'),
    pill: el('span'),
    bar: el('span', { class: 'bar', 'aria-hidden': 'true' }),
    fill: el('span'),
    load: el('span'),
  };
  parts.bar.append(parts.fill);
  parts.pill.append(parts.sign, parts.state);
  cells.mirror.append(parts.name, parts.domain);
  cells.state.append(parts.pill);
  cells.load.append(parts.bar, parts.load);
  setText(parts.name, row.mirror);
  setText(parts.domain, row.domain);
  const entry = {
    element: el('tbody', { role: 'rowgroup' }, line),
    line,
    cells,
    parts,
    told: {},
    details: null,
  };
  parts.name.addEventListener('click', () => open(entry));
  return entry;
}

/** Shows or hides what is known of a mirror beyond its row. */
function open(entry) {
  if (entry.details) {
    entry.details.remove();
    entry.details = null;
  } else {
    entry.list = el('ul');
    entry.details = el(
      'tr',
      { class: 'details', role: 'row' },
      el('td', { colspan: CELLS.length, role: 'cell' }, entry.list),
    );
    entry.element.append(entry.details);
    tell(entry);
  }
  setAttribute(entry.parts.name, 'aria-expanded', String(Boolean(entry.details)));
}

function tell(entry) {
  const lines = details(entry.row);
  while (entry.list.children.length > lines.length) entry.list.lastChild.remove();
  lines.forEach((line, i) => setText(entry.list.children[i] ?? entry.list.appendChild(el('li')), line));
}

/** States by family where they differ: `v4 up · v6 down`. */
export function stateText(row) {
  const states = new Set(row.verdicts.map((v) => v.state));
  const stale = row.worst.stale ? ' (stale)' : '';
  if (states.size < 2) return `${row.state}${stale}`;
  return row.verdicts.map((v) => `${v.family} ${v.state}`).join(' · ') + stale;
}

function loadText(row) {
  const connections = row.capacity
    ? `${count(row.connections)}/${count(row.capacity)}`
    : row.connections
      ? `${count(row.connections)} conn.`
      : '';
  return [percent(row.load), connections].filter(Boolean).join(' · ');
}

/** Writes what differs from what is there. */
function fill(entry, row, now) {
  const { cells, parts, told } = entry;
  const put = (name, value, write) => {
    if (told[name] === value) return;
    told[name] = value;
    write(value);
  };
  put('pill', `pill s-${row.severity === 7 && row.state === 'up' ? 'up' : row.state}`, (v) =>
    setAttribute(parts.pill, 'class', v),
  );
  put('sign', sign(row.state), (v) => setText(parts.sign, v));
  put('state', stateText(row), (v) => setText(parts.state, v));
  put('row', row.severity <= 1 ? 'bad' : row.severity < 7 ? 'warn' : '', (v) =>
    setAttribute(entry.line, 'class', v),
  );
  const proof = agreed(row.worst.evidence);
  put('reason', words(row.worst.reason) + (row.severity < 7 && proof ? `: ${proof}` : ''), (v) =>
    setText(cells.reason, v),
  );
  put('since', row.since ? `${moment(row.since, now)} · ${coarseAge(now - row.since)}` : '–', (v) =>
    setText(cells.since, v),
  );
  put('bar', Math.round(Math.min(1, row.load) * 20) * 5, (v) => {
    parts.fill.style.width = `${v}%`;
  });
  put('load', loadText(row), (v) => setText(parts.load, v));
  put('users', count(row.users), (v) => setText(cells.users, v));
  put('p50', ms(row.p50), (v) => setText(cells.p50, v));
  put('p95', ms(row.p95), (v) => setText(cells.p95, v));
  entry.row = row;
  if (entry.details) tell(entry);
}

function details(row) {
  const node = row.node ? `node ${row.node}` : 'no node';
  const connected =
    row.connected === null
      ? ''
      : row.connected
        ? ', its agent is connected here'
        : ', its agent is not connected here';
  const verdict = (v) => {
    const rests = evidence(v.evidence, age);
    return `${v.family} ${v.address ?? 'no address'}: ${v.state}${v.eligible ? '' : ', takes no new users'}; ${words(v.reason)} (${v.vantage})${rests ? `; ${rests}` : ''}`;
  };
  return [
    `${row.domain}/${row.mirror} at ${place(row.place)}; ${node}${connected}; health by ${row.health}, weight ${row.weight}, port ${row.port}`,
    ...row.verdicts.map(verdict),
  ];
}
