// The list of events, newest first, and what a screen reader hears of them.

import { byId, el, setText } from './dom.js';
import { clock, count, moment, plural } from './format.js';
import { sentence } from './headline.js';
import { agreed, sign } from './words.js';

/** Most events in the list; the newest are what is looked for. */
const SHOWN = 200;
/** A reader hears at most one message in this long: of a storm the number, not every line. */
const HEARD_MS = 2500;

export class EventList {
  constructor(model) {
    this.model = model;
    this.list = byId('event-list');
    this.lines = new Map();
    this.newest = null;
    this.heard = [];
    this.timer = null;
  }

  /** Adds what is new at the top; `live` events are spoken. */
  update() {
    const fresh = [];
    for (const event of this.model.events) {
      // Not by number: a broker that begins anew with its clock set back counts from below.
      if (event === this.newest || fresh.length >= SHOWN) break;
      fresh.push(event);
    }
    if (fresh.length) {
      [this.newest] = fresh;
      this.list.prepend(...fresh.map((event) => this.line(event)));
      while (this.list.children.length > SHOWN) {
        this.lines.delete(Number(this.list.lastChild.dataset.number));
        this.list.lastChild.remove();
      }
    }
    this.prove();
    byId('no-events').hidden = this.model.events.length > 0;
    const { missed } = this.model;
    byId('missed').hidden = missed === null;
    if (missed !== null)
      setText(
        byId('missed'),
        missed.number === null ? 'Some events were missed.' : `${plural(missed.number, 'event')} were missed.`,
      );
  }

  line(event) {
    const told = sentence(event);
    const why = el('span', { class: 'why' }, told.why);
    this.lines.set(event.number, { event, why });
    return el(
      'li',
      { class: `s-${event.to}`, 'data-number': event.number },
      el(
        'time',
        { datetime: new Date(event.at_unix_ms).toISOString() },
        moment(event.at_unix_ms, this.model.now()),
      ),
      el('span', { class: 'sign', 'aria-hidden': 'true' }, sign(event.to)),
      el('span', { class: 'text' }, el('b', {}, told.who), ` ${told.from} → ${told.to}: `, why),
    );
  }

  /** Says who agreed, where the state still is the one that the mirror's last event told of. */
  prove() {
    const latest = this.model.latest();
    for (const row of this.model.rows.filter((row) => row.severity < 7)) {
      for (const verdict of row.verdicts) {
        const event = latest.get(`${row.key} ${verdict.family}`);
        const line = event && this.lines.get(event.number);
        if (!line || line.proven || event.to !== verdict.state) continue;
        const proof = agreed(verdict.evidence);
        if (!proof) continue;
        line.proven = true;
        setText(line.why, sentence(event, proof).why);
      }
    }
  }

  /** Has an event spoken. */
  hear(event) {
    this.heard.push(event);
    this.timer ??= setTimeout(() => this.speak(), 300);
  }

  speak() {
    const events = this.heard.splice(0);
    const say = ({ domain, mirror, family, from, to, reason, vantage, at_unix_ms: at }) => {
      const told = sentence({ domain, mirror, family, from, to, reason, vantage });
      return `${clock(at)} ${told.who} from ${told.from} to ${told.to}: ${told.why}`;
    };
    const text =
      events.length <= 3
        ? events.map(say).join('. ')
        : `${count(events.length)} changes of state; the last: ${say(events[events.length - 1])}`;
    if (events.length) setText(byId('spoken'), text);
    this.timer = events.length ? setTimeout(() => this.speak(), HEARD_MS) : null;
  }
}
