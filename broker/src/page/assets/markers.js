// Mirrors on the map. Those that would overlap are one mark with their number; a mark's shape and letter
// tell the worst state in it, not its colour alone.

import { el, reconcile, setAttribute, setText, svg } from './dom.js';
import { cluster, isPlace } from './geo.js';
import { count, plural } from './format.js';
import { sign, words } from './words.js';

/** Pixels within which marks would overlap. */
const NEAR = 17;
/** With more marks than this, only those with something wrong have their names beside them. */
const NAMED = 16;
/** Mirrors listed beside a mark. */
const LISTED = 8;

const SHAPES = {
  up: 'M0,-6A6,6 0 1 1 0,6A6,6 0 1 1 0,-6Z',
  down: 'M-7,-7H7V7H-7Z',
  suspect: 'M0,-8.5L8.5,6.5H-8.5Z',
  unattended: 'M0,-8.5L8.5,0L0,8.5L-8.5,0Z',
  draining: 'M-6.5,-6.5H6.5V6.5H-6.5Z',
  warming: 'M0,-6.5A6.5,6.5 0 1 1 0,6.5A6.5,6.5 0 1 1 0,-6.5Z',
  unknown: 'M0,-7A7,7 0 1 1 0,7A7,7 0 1 1 0,-7Z',
};
const radius = (n) => (n < 10 ? 9 : n < 100 ? 11 : 13);
const disc = (r) => `M0,-${r}A${r},${r} 0 1 1 0,${r}A${r},${r} 0 1 1 0,-${r}Z`;
const GLYPHS = { down: '✕', suspect: '!', unattended: '•', draining: '–', warming: '…', unknown: '?' };

/** What a mark tells: the worst of its mirrors, and how many are not well. */
export function summary(members) {
  const worst = members.reduce((a, b) => (b.severity < a.severity ? b : a));
  const wrong = members.filter((row) => row.severity < 7);
  const states = new Map();
  for (const row of members) states.set(row.state, (states.get(row.state) ?? 0) + 1);
  const told =
    members.length === 1
      ? `${worst.key}, ${worst.state}, ${words(worst.worst.reason)}${worst.users === null ? '' : `, ${plural(worst.users, 'user')}`}`
      : `${plural(members.length, 'mirror')} near ${worst.mirror}: ${[...states].map(([state, n]) => `${n} ${state}`).join(', ')}`;
  return { worst, wrong: wrong.length, told };
}

export class Markers {
  /** `chosen(keys)` is called with the mirrors of a mark that somebody clicks. */
  constructor(map, chosen) {
    this.map = map;
    this.chosen = chosen;
    this.known = new Map();
    this.clusters = [];
    this.byMirror = new Map();
    this.shape = '';
    this.focused = null;
    /** The mark whose details a finger asked for: its next tap lists its mirrors. */
    this.tapped = null;
    map.onscale.push(() => {
      this.shape = '';
      if (this.rows) this.update(this.rows);
    });
    map.mirrors.addEventListener('keydown', (event) => this.key(event));
    map.host.addEventListener('pointerleave', () => map.hideTip());
  }

  clusterOf(key) {
    return this.byMirror.get(key);
  }

  update(rows) {
    this.rows = rows;
    this.place(rows.filter(isPlace));
    const current = new Map(rows.map((row) => [row.key, row]));
    for (const one of this.clusters) {
      one.members = one.members.map((row) => current.get(row.key) ?? row);
      one.summary = summary(one.members);
      one.worst = one.summary.worst.severity;
    }
    // The worst are drawn last, above the others.
    const drawn = this.clusters
      .slice()
      .sort((a, b) => b.worst - a.worst || a.x - b.x || (a.key < b.key ? -1 : 1));
    const names = this.clusters.length <= NAMED && this.map.host.clientWidth > 520;
    const hadFocus = this.map.mirrors.contains(document.activeElement);
    reconcile(
      this.map.mirrors,
      this.known,
      drawn,
      (one) => one.key,
      (one) => this.make(one),
      (entry, one) => this.draw(entry, one, names),
    );
    this.keepFocus(hadFocus);
  }

  /** Groups anew only when a mirror came, went or moved. */
  place(rows) {
    const shape = rows.map((row) => `${row.key}@${row.latitude},${row.longitude}`).join(' ');
    if (shape === this.shape) return;
    this.shape = shape;
    this.clusters = cluster(rows, NEAR * this.map.scale);
    this.byMirror = new Map(this.clusters.flatMap((one) => one.members.map((row) => [row.key, one])));
  }

  make(one) {
    const shape = svg('path', { class: 'shape' }),
      glyph = svg('text', { class: 'glyph' });
    const name = svg('text', { class: 'name', x: 12 }),
      badge = svg('text', { class: 'badge' });
    const target = svg('circle', { class: 'target', r: 15 }),
      part = svg('path', { class: 'part', pathLength: 100 });
    const element = svg('g', { role: 'button', tabindex: '-1' }, target, shape, part, glyph, badge, name);
    const entry = { element, shape, part, glyph, name, badge, one };
    element.addEventListener('pointerenter', () => this.tell(entry.one));
    element.addEventListener('focus', () => {
      this.focused = entry.one.key;
      this.rove();
      this.tell(entry.one);
      setAttribute(element, 'aria-describedby', this.map.tip.id);
    });
    element.addEventListener('blur', () => {
      this.tapped = null;
      this.map.hideTip();
      setAttribute(element, 'aria-describedby', null);
    });
    let touched = false;
    element.addEventListener('pointerdown', (event) => {
      touched = event.pointerType === 'touch';
    });
    element.addEventListener('click', () => {
      // A finger does not hover: its first tap tells, and does not scroll away what it tells of.
      const tells = touched && this.tapped !== entry.one.key;
      touched = false;
      this.tapped = tells ? entry.one.key : null;
      if (tells) this.tell(entry.one);
      else this.chosen(entry.one.members.map((row) => row.key));
    });
    return entry;
  }

  draw(entry, one, names) {
    entry.one = one;
    const { worst, wrong, told } = one.summary;
    const many = one.members.length > 1;
    const all = many && (wrong === one.members.length || one.members.every((row) => row.severity === 7));
    setAttribute(
      entry.element,
      'class',
      `marker s-${worst.state}${many ? ' many' : ''}${all ? ' all' : ''}${worst.severity <= 1 ? ' out' : ''}`,
    );
    setAttribute(entry.element, 'transform', this.map.at(one.x, one.y));
    setAttribute(entry.element, 'aria-label', told);
    setAttribute(
      entry.shape,
      'd',
      many ? disc(radius(one.members.length)) : (SHAPES[worst.state] ?? SHAPES.unknown),
    );
    // Around a number: how many of them are not well.
    setAttribute(entry.part, 'd', many && wrong ? disc(radius(one.members.length)) : null);
    setAttribute(
      entry.part,
      'stroke-dasharray',
      many && wrong ? `${Math.max(6, Math.round((100 * wrong) / one.members.length))} 100` : null,
    );
    setText(entry.glyph, many ? count(one.members.length) : (GLYPHS[worst.state] ?? ''));
    setText(entry.badge, many && wrong ? `${sign(worst.state)}${wrong}` : '');
    setText(
      entry.name,
      names || (worst.severity <= 1 && this.clusters.length < 200 && !many) ? worst.mirror : '',
    );
  }

  tell(one) {
    const shown = one.members
      .slice()
      .sort((a, b) => a.severity - b.severity)
      .slice(0, LISTED);
    const line = (row) =>
      el(
        'li',
        { class: `s-${row.state}` },
        el('span', { class: 'sign', 'aria-hidden': 'true' }, sign(row.state)),
        ` ${row.key} `,
        el('b', {}, row.state),
        ` ${words(row.worst.reason)}`,
        row.users === null ? '' : ` · ${plural(row.users, 'user')}`,
      );
    const rest = one.members.length - shown.length;
    this.map.showTip(
      one.x,
      one.y,
      el('ul', {}, shown.map(line)),
      rest > 0 ? el('p', {}, `and ${count(rest)} more; press to list them`) : '',
    );
  }

  /** One stop of the tab key for all marks; arrows go on from west to east. */
  rove() {
    const first = this.focused && this.known.has(this.focused) ? this.focused : this.byPlace()[0]?.key;
    for (const [key, entry] of this.known) setAttribute(entry.element, 'tabindex', key === first ? '0' : '-1');
  }

  byPlace() {
    return this.clusters.slice().sort((a, b) => a.x - b.x || a.y - b.y);
  }

  keepFocus(had) {
    this.rove();
    const entry = this.known.get(this.focused);
    if (had && entry && document.activeElement !== entry.element) entry.element.focus({ preventScroll: true });
  }

  key(event) {
    const order = this.byPlace();
    const at = order.findIndex((one) => one.key === this.focused);
    const to = {
      ArrowRight: at + 1,
      ArrowDown: at + 1,
      ArrowLeft: at - 1,
      ArrowUp: at - 1,
      Home: 0,
      End: order.length - 1,
    }[event.key];
    if (event.key === 'Escape') this.map.hideTip();
    if ((event.key === 'Enter' || event.key === ' ') && order[at]) {
      event.preventDefault();
      this.chosen(order[at].members.map((row) => row.key));
    }
    if (to === undefined || !order.length) return;
    event.preventDefault();
    this.known.get(order[(to + order.length) % order.length].key)?.element.focus();
  }
}
