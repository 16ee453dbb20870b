// Why an address is sent where it is sent: asked of the broker, listed, and drawn on the map.

import { get } from './api.js';
import { byId, el, setAttribute, setText, svg } from './dom.js';
import { clock, count, ms, percent, place } from './format.js';
import { arc, isPlace, project } from './geo.js';
import { keyOf } from './model.js';
import { sign } from './words.js';

/** Most mirrors that lines are drawn to. */
const DRAWN = 8;
/** Most mirrors that are listed. */
const LISTED = 30;
/** An answer that events touch is asked for again after this long: once for a storm of them. */
const AGAIN_MS = 1500;

/** The first `most` of mirrors in their order and all that are answered, with their ranks: [[rank, mirror]]. Pure. */
export const listed = (mirrors, most) =>
  mirrors.map((mirror, i) => [i + 1, mirror]).filter(([rank, mirror]) => rank <= most || mirror.chosen);

export class Explain {
  /** `refused(error)` is told of answers that want a token. */
  constructor(model, map, refused) {
    this.model = model;
    this.map = map;
    this.refused = refused;
    this.answer = null;
    this.domains = '';
    this.turn = 0;
    this.again = null;
    this.pending = false;
    byId('explain-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.ask();
    });
    byId('explain-clear').addEventListener('click', () => this.clear());
    map.onscale.push(() => this.draw());
  }

  /** Offers the fleet's domains. */
  offer(domains) {
    const told = domains.join(' ');
    if (told === this.domains) return;
    this.domains = told;
    const select = byId('explain-domain');
    const chosen = select.value;
    select.replaceChildren(...domains.map((domain) => el('option', { value: domain }, domain)));
    if (domains.includes(chosen)) select.value = chosen;
  }

  async ask() {
    const address = byId('explain-address').value.trim();
    const domain = byId('explain-domain').value;
    if (!address || !domain)
      return this.say(address ? 'There is no domain yet.' : 'Type an IPv4 or IPv6 address.');
    if (!/^[0-9a-f:.]+$/i.test(address)) return this.say(`“${address}” is no IPv4 or IPv6 address.`);
    this.say('Asking …');
    return this.look(address, domain, false);
  }

  /** Asks; what is asked `again` stays as it was, with its time, where it is not answered. */
  async look(address, domain, again) {
    const turn = ++this.turn;
    this.pending = true;
    const query = new URLSearchParams({ domain, client: address });
    // What is known of the address is true of every domain, so it is told even where nothing can be ranked.
    const [geo, answer] = await Promise.allSettled([
      get(`/v1/geo/${encodeURIComponent(address)}`),
      get(`/v1/explain?${query}`),
    ]);
    if (turn !== this.turn) return;
    this.pending = false;
    if (answer.status === 'fulfilled') {
      this.show(geo.value, answer.value, again);
      return;
    }
    const error = answer.reason;
    if (error.wantsToken) this.refused(error);
    if (again) return;
    const known = geo.value ? `${address} is at ${place(geo.value.place)}. ` : '';
    this.clear(`${known}Not explained: ${error.message}`);
  }

  /** Has the answer asked for again when an event changed one of its mirrors. */
  touched(event) {
    if (this.again || !this.concerns(event)) return;
    this.again = setTimeout(() => {
      this.again = null;
      // What a person asked meanwhile is newer.
      if (this.answer && !this.pending) this.look(this.answer.client, this.answer.domain, true);
    }, AGAIN_MS);
  }

  concerns({ domain, mirror }) {
    return this.answer?.domain === domain && this.answer.mirrors.some((one) => one.mirror === mirror);
  }

  say(text) {
    setText(byId('explain-said'), text);
  }

  clear(text = '') {
    this.turn++;
    this.pending = false;
    this.answer = null;
    this.say(text);
    byId('explain-list').replaceChildren();
    byId('explain-list').hidden = true;
    byId('explain-clear').hidden = true;
    this.draw();
  }

  show(geo, answer, again) {
    this.answer = answer;
    const list = byId('explain-list');
    const scrolled = list.scrollTop;
    const source = answer.place.source.replaceAll('_', ' ');
    const first = answer.mirrors.find((m) => m.chosen);
    const goes = first ? `goes to ${first.mirror}` : 'gets no mirror';
    const asn = answer.place.asn ? `, AS${answer.place.asn}` : '';
    this.say(`${answer.client} is at ${place(answer.place)}${asn} (says ${source}${geo ? `, ${geo.cell}` : ''}) and ${goes}, as of ${clock(Date.now())}.`);
    const shown = listed(answer.mirrors, LISTED);
    const rest = answer.mirrors.length - shown.length;
    list.replaceChildren(
      ...answer.answers.filter((a) => a.addresses.length).map(told),
      el('ol', { class: 'ranking' }, shown.map(ranked)),
      ...(rest > 0 ? [el('p', { class: 'faint' }, `and ${count(rest)} more`)] : []),
    );
    list.hidden = false;
    if (again) list.scrollTop = scrolled;
    byId('explain-clear').hidden = false;
    this.draw();
  }

  /** The client, and a line with its rank to each of the first mirrors. */
  draw() {
    const layer = this.map.explained;
    layer.replaceChildren();
    setAttribute(this.map.host, 'data-explains', this.answer ? 'yes' : null);
    if (!this.answer || !isPlace(this.answer.place)) return;
    const from = [this.answer.place.longitude, this.answer.place.latitude];
    const places = new Map(this.model.rows.map((row) => [row.key, row]));
    const marks = [];
    listed(this.answer.mirrors, DRAWN).forEach(([rank, mirror]) => {
      const row = places.get(keyOf({ domain: this.answer.domain, mirror: mirror.mirror }));
      if (!row || !isPlace(row)) return;
      const kind = mirror.chosen ? 'way chosen' : mirror.eligible ? 'way' : 'way out';
      layer.append(
        svg('path', { class: kind, d: arc(from, [row.longitude, row.latitude]), 'aria-hidden': 'true' }),
      );
      const [x, y] = project(row.longitude, row.latitude);
      marks.push(
        svg(
          'g',
          {
            class: `rank${mirror.chosen ? ' chosen' : ''}`,
            transform: this.map.at(x, y),
            'aria-hidden': 'true',
          },
          svg('circle', { cx: -11, cy: -11, r: 8 }),
          svg('text', { x: -11, y: -11 }, rank),
        ),
      );
    });
    const name = `the client ${this.answer.client}`;
    marks.push(
      svg(
        'g',
        { class: 'client', transform: this.map.at(...project(...from)), role: 'img', 'aria-label': name },
        svg('title', {}, name),
        svg('circle', { r: 9 }),
        svg('path', { d: 'M-13,0H-5M5,0H13M0,-13V-5M0,5V13' }),
      ),
    );
    layer.append(...marks);
  }
}

function told(answer) {
  return el(
    'p',
    { class: 'faint' },
    `${answer.family}: ${answer.addresses.join(', ')} (${answer.how.replaceAll('_', ' ')}, ${answer.basis.replaceAll('_', ' ')}), for ${answer.scope} and ${answer.ttl_s} s`,
  );
}

/** `95 % network, 5 % distance`. */
function shares(prediction) {
  const all = Object.entries(prediction.shares).filter(([, value]) => value >= 0.5);
  const names = { asn: 'AS' };
  const name = (key) => key.replace('_percent', '');
  return all.map(([key, value]) => `${percent(value / 100)} ${names[name(key)] ?? name(key)}`).join(', ');
}

function ranked([rank, mirror]) {
  const distance = Number.isFinite(mirror.distance_km) ? `, ${count(mirror.distance_km)} km` : '';
  const state = mirror.verdicts.find((v) => v.eligible)?.state ?? mirror.verdicts[0]?.state ?? 'unknown';
  const share = mirror.sharing.share_v4_percent || mirror.sharing.share_v6_percent;
  return el(
    'li',
    { class: mirror.chosen ? 'chosen' : mirror.eligible ? '' : 'out', value: rank },
    el(
      'div',
      {},
      el('b', {}, mirror.mirror),
      ` ${ms(mirror.rtt_ms)} ms${distance} `,
      el(
        'span',
        { class: `pill s-${state}` },
        el('span', { class: 'sign', 'aria-hidden': 'true' }, sign(state)),
        state,
      ),
      mirror.chosen ? el('span', { class: 'tag' }, 'answered') : null,
      share ? el('span', { class: 'faint' }, ` ${percent(share / 100)} of such users`) : null,
    ),
    el(
      'ul',
      {},
      mirror.reasons.map((reason) => el('li', {}, reason)),
    ),
    el('div', { class: 'faint' }, `predicted from ${shares(mirror.prediction) || 'nothing'}`),
  );
}
