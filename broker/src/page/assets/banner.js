// Draws the headline. Lines are kept and rewritten, so that a click or the focus is not lost to an age that
// goes on.

import { byId, el, reconcile, setAttribute, setText } from './dom.js';
import { headline } from './headline.js';

export class Banner {
  /** `chosen(keys)` is called with the mirrors of a line that somebody clicks. */
  constructor(model, chosen) {
    this.model = model;
    this.chosen = chosen;
    this.lines = new Map();
  }

  update(now) {
    const said = headline(this.model, now);
    setAttribute(byId('headline'), 'data-level', said.level);
    setText(byId('title'), said.title);
    const numbered = said.lines.map((line, i) => ({ line, i }));
    reconcile(
      byId('incidents'),
      this.lines,
      numbered,
      ({ i }) => i,
      () => this.make(),
      (entry, { line }) => write(entry, line),
    );
    setText(byId('planned'), said.planned);
    byId('planned').hidden = !said.planned;
    const mark = { bad: '✕', warn: '▲' }[said.level];
    const title = mark ? `${mark} nearmost: ${said.title}` : 'nearmost';
    if (document.title !== title) document.title = title;
  }

  make() {
    const what = el('button', { type: 'button', class: 'what' });
    const parts = {
      what,
      age: el('span', { class: 'faint' }),
      why: el('span'),
      who: el('span', { class: 'who' }),
    };
    const entry = { element: el('li', {}, what, parts.age, parts.why, parts.who), parts, keys: [] };
    what.addEventListener('click', () => this.chosen(entry.keys));
    return entry;
  }
}

function write(entry, line) {
  const { parts } = entry;
  entry.keys = line.keys;
  setAttribute(entry.element, 'data-level', line.level);
  setText(parts.what, line.what);
  parts.what.disabled = line.keys.length === 0;
  setText(parts.age, line.age ? ` (${line.age})` : '');
  setText(parts.why, `: ${line.why}.`);
  const affected = [line.who, line.did].filter(Boolean).join(', ');
  setText(parts.who, affected ? ` ${affected}.` : '');
}
