// Users by country, drawn from their country to the mirrors that they use now.

import { reconcile, setAttribute, svg } from './dom.js';
import { arc, isPlace, project } from './geo.js';

/** Most arcs: the widest are drawn, the rest would hide them. */
const ARCS = 240;

/**
 * Flows added up from a place to a cluster of mirrors: [{key, flow, to, users, lost}], widest first. `lost` are
 * users who were sent to mirrors that are out now, as `isOut` says.
 */
export function arcs(flows, clusterOf, isOut = () => false) {
  const sums = new Map();
  for (const flow of flows) {
    const mirror = `${flow.domain}/${flow.mirror}`,
      to = clusterOf(mirror);
    if (!to || !isPlace(flow) || !(flow.users > 0)) continue;
    const key = `${flow.country ?? ''} ${flow.latitude} ${flow.longitude} ${to.key}`;
    const sum = sums.get(key) ?? { key, flow, to, users: 0, lost: 0 };
    sum.users += flow.users;
    if (isOut(mirror)) sum.lost += flow.users;
    sums.set(key, sum);
  }
  return [...sums.values()].sort((a, b) => b.users - a.users);
}

/** Width of an arc in pixels: the area tells the users, within what can be seen. */
export const width = (users, most) => 0.8 + 5.2 * Math.sqrt(users / most);

export class Flows {
  constructor(map) {
    this.map = map;
    this.lines = new Map();
    this.sources = new Map();
    this.lineLayer = svg('g');
    this.sourceLayer = svg('g');
    map.flows.append(this.lineLayer, this.sourceLayer);
  }

  /** Draws what changed; `clusterOf` finds the mark that a mirror is in, by key. Returns how many were left out. */
  update(flows, clusterOf, isOut) {
    const all = arcs(flows, clusterOf, isOut);
    const shown = all.slice(0, ARCS);
    const most = shown.length ? shown[0].users : 1;
    reconcile(
      this.lineLayer,
      this.lines,
      shown,
      (one) => one.key,
      () => ({ element: svg('path', { class: 'flow' }) }),
      (entry, one) => {
        const { flow, to } = one;
        const [first] = to.members;
        // A mirror may be moved: the way is made anew only then.
        const end = `${first.longitude} ${first.latitude}`;
        if (entry.end !== end) {
          entry.end = end;
          const d = arc([flow.longitude, flow.latitude], [first.longitude, first.latitude]);
          setAttribute(entry.element, 'd', d);
        }
        // Half pixels: what differs less is not seen, and would be drawn anew every second.
        const wide = (Math.round(width(one.users, most) * 2) / 2).toFixed(1);
        if (entry.wide !== wide) setAttribute(entry.element, 'stroke-width', (entry.wide = wide));
        const hit = one.lost * 2 > one.users ? 'flow hit' : 'flow';
        if (entry.hit !== hit) setAttribute(entry.element, 'class', (entry.hit = hit));
      },
    );
    const sources = new Map(shown.map(({ flow }) => [`${flow.latitude} ${flow.longitude}`, flow]));
    reconcile(
      this.sourceLayer,
      this.sources,
      [...sources],
      ([key]) => key,
      ([, flow]) => {
        const [x, y] = project(flow.longitude, flow.latitude);
        return { element: svg('circle', { class: 'source', cx: x.toFixed(1), cy: y.toFixed(1) }) };
      },
      (entry) => setAttribute(entry.element, 'r', (2.2 * this.map.scale).toFixed(2)),
    );
    return all.length - shown.length;
  }
}
