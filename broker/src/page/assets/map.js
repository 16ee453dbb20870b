// The world, and the layers that others draw on.
//
// sea, net, land (once) ─ flows ─ explained ─ brokers ─ mirrors
//
// Layers are in the projection's units; `scale` is how many of them a pixel is, so that marks keep their
// size on a phone.

import { el, svg, setAttribute } from './dom.js';
import { FRAME, decode, graticule, isPlace, outlines, project, sphere } from './geo.js';

export class WorldMap {
  constructor(host) {
    this.host = host;
    this.scale = 1;
    this.onscale = [];
    const layer = (name) => svg('g', { class: name });
    this.land = svg('path', { class: 'land' });
    this.flows = layer('flows');
    this.explained = layer('explained');
    this.brokers = layer('brokers');
    this.mirrors = svg('g', {
      class: 'mirrors',
      role: 'group',
      'aria-label': 'Mirrors; arrow keys go from one to the next',
    });
    // What it tells describes the mark that has the focus.
    this.tip = el('div', { class: 'tip', id: 'map-tip', hidden: true });
    this.svg = svg(
      'svg',
      {
        viewBox: FRAME.map((v) => v.toFixed(1)).join(' '),
        role: 'group',
        'aria-label': 'World map of mirrors, brokers and users',
      },
      svg('path', { class: 'sea', d: sphere(), 'aria-hidden': 'true' }),
      svg('path', { class: 'net', d: graticule(), 'aria-hidden': 'true' }),
      this.land,
      this.flows,
      this.explained,
      this.brokers,
      this.mirrors,
    );
    this.land.setAttribute('aria-hidden', 'true');
    this.flows.setAttribute('aria-hidden', 'true');
    host.append(this.svg, this.tip);
    new ResizeObserver(() => this.resized()).observe(host);
    this.resized();
  }

  /** Draws the outlines; without them the map still has all its marks. */
  setWorld(topology) {
    this.land.setAttribute('d', outlines(decode(topology)));
  }

  resized() {
    const width = this.host.clientWidth;
    if (!width) return;
    const scale = FRAME[2] / width;
    if (Math.abs(scale - this.scale) < 0.001) return;
    this.scale = scale;
    this.onscale.forEach((told) => told());
  }

  /** The attribute that puts a mark of pixels at a place. */
  at(x, y) {
    return `translate(${x.toFixed(1)} ${y.toFixed(1)}) scale(${this.scale.toFixed(4)})`;
  }

  /** Shows `children` beside a point of the map. */
  showTip(x, y, ...children) {
    this.tip.replaceChildren(...children);
    this.tip.hidden = false;
    const [left, top] = [(x - FRAME[0]) / this.scale, (y - FRAME[1]) / this.scale];
    const { offsetWidth: width, offsetHeight: height } = this.tip;
    const fits = left + width + 16 < this.host.clientWidth;
    this.tip.style.left = `${Math.max(4, fits ? left + 14 : left - width - 14)}px`;
    this.tip.style.top = `${Math.max(4, Math.min(top - height / 2, this.host.clientHeight - height - 4))}px`;
  }

  hideTip() {
    this.tip.hidden = true;
  }
}

/** Brokers, where their place is known: as flags, since a mirror is often at the same place. */
export class BrokerMarks {
  constructor(map) {
    this.map = map;
    this.drawn = '';
    /** Whether one is drawn. */
    this.any = false;
    map.onscale.push(() => {
      this.drawn = '';
      this.update(this.brokers ?? []);
    });
  }

  update(brokers) {
    this.brokers = brokers;
    const shown = brokers.filter(isPlace);
    this.any = shown.length > 0;
    const told = JSON.stringify(shown);
    if (told === this.drawn) return;
    this.drawn = told;
    this.map.brokers.replaceChildren(
      ...shown.map((broker) => {
        const name = `${broker.me ? 'this broker' : 'broker'} ${broker.name}`;
        const mark = svg(
          'g',
          { class: broker.me ? 'broker me' : 'broker', role: 'img', 'aria-label': name },
          svg('title', {}, name),
          svg('path', { d: 'M0,0V-12' }),
          svg('rect', { x: -5, y: -22, width: 10, height: 10, rx: 2 }),
          svg('path', { class: 'cross', d: 'M-2.5,-17H2.5M0,-19.5V-14.5' }),
        );
        setAttribute(mark, 'transform', this.map.at(...project(broker.longitude, broker.latitude)));
        return mark;
      }),
    );
  }
}
