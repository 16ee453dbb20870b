// What the page knows: the last answers of the broker, and what events said since then.
//
// fleet ─┐                 ┌─▶ rows, one a mirror
// events ┼─▶ Model ────────┼─▶ events, newest first
// traffic┘                 └─▶ hit: who was on a mirror when it went out

import { isWanted } from './words.js';

/** Most events kept: as many as the broker keeps. */
const EVENTS = 1024;
/** A fleet that was asked for this soon after an event may be from before it. */
const PUBLISHED_MS = 100;

export const keyOf = (thing) => `${thing.domain}/${thing.mirror}`;

const simplyUp = (v) => v.state === 'up' && !v.stale && (v.reason === 'proven' || v.reason === 'manual');

/** How bad a verdict is, 0 the worst: as `nearmost status` sorts. 8 is well. */
export function severity(verdict) {
  const { state, reason } = verdict;
  if (simplyUp(verdict)) return 8;
  if (isWanted(reason)) return 7;
  if (state === 'down') return 0;
  if (state === 'unknown') return 1;
  if (['self_doubt', 'cap_reached', 'panic'].includes(reason)) return 2;
  if (state === 'suspect') return 3;
  if (state === 'unattended') return 4;
  if (reason === 'partly_reachable' || reason === 'clients_fail') return 5;
  return 6;
}

const NONE = {
  family: '',
  address: null,
  state: 'unknown',
  eligible: false,
  reason: 'no_address',
  vantage: 'none',
  since_unix_ms: 0,
  stale: false,
};

/** One mirror as the table has it: the worst of its verdicts speaks for it. */
export function rowOf(mirror, traffic, nodes = new Map(), latest = new Map()) {
  const verdicts = mirror.verdicts.length ? mirror.verdicts : [NONE];
  const worst = verdicts.reduce((a, b) => (severity(b) < severity(a) ? b : a));
  const used = traffic?.mirrors.get(keyOf(mirror));
  return {
    key: keyOf(mirror),
    domain: mirror.domain,
    mirror: mirror.mirror,
    node: mirror.node,
    connected: nodes.get(mirror.node)?.connected ?? null,
    health: mirror.health,
    port: mirror.port,
    weight: mirror.weight,
    place: mirror.place,
    latitude: mirror.place.latitude,
    longitude: mirror.place.longitude,
    verdicts,
    worst,
    state: worst.state,
    severity: severity(worst),
    eligible: verdicts.some((v) => v.eligible),
    since: since(worst, latest.get(`${keyOf(mirror)} ${worst.family}`)),
    load: load(mirror),
    cpu: mirror.cpu,
    memory: mirror.memory,
    connections: mirror.connections,
    capacity: mirror.capacity,
    users: used?.users ?? (traffic ? 0 : null),
    p50: used?.rtt_p50_ms ?? null,
    p95: used?.rtt_p95_ms ?? null,
  };
}

/** Since when the state is what it is; a verdict's own time begins anew when only its reason changes. */
function since(verdict, event) {
  const same = event?.to === verdict.state && event.at_unix_ms < verdict.since_unix_ms;
  return same ? event.at_unix_ms : verdict.since_unix_ms;
}

/** How full a mirror is: the fuller of its connections and its processor, 0 to 1. */
function load(mirror) {
  const full = mirror.capacity > 0 ? mirror.connections / mirror.capacity : 0;
  return Math.max(full, mirror.cpu || 0);
}

function indexTraffic(traffic) {
  const flows = new Map();
  for (const flow of traffic.flows) {
    const key = keyOf(flow);
    if (flows.has(key)) flows.get(key).push(flow);
    else flows.set(key, [flow]);
  }
  return {
    ...traffic,
    list: traffic.flows,
    flows,
    mirrors: new Map(traffic.mirrors.map((m) => [keyOf(m), m])),
  };
}

/** The page's knowledge. `changed` is called after each change. */
export class Model {
  constructor(changed = () => {}) {
    this.changed = changed;
    this.fleet = null;
    this.known = [];
    this.old = false;
    this.index = new Map();
    this.traffic = null;
    this.trafficRefused = null;
    this.peers = null;
    this.peersRefused = null;
    this.events = [];
    this.missed = null;
    /** Who was on a mirror when it went out: key → {users, countries, by, before}. */
    this.hit = new Map();
    /** The broker's clock minus ours, in milliseconds: ages are of the broker's. */
    this.skew = 0;
    this.patches = new Map();
    this.seen = new Set();
  }

  /** One row a mirror; made anew only when somebody looks and something changed. */
  get rows() {
    if (this.old) this.rebuild();
    return this.known;
  }

  now(ours = Date.now()) {
    return ours + this.skew;
  }

  /** An answer of /v1/fleet to a question asked at `askedAt` (our clock). */
  setFleet(fleet, askedAt, receivedAt = Date.now()) {
    this.fleet = fleet;
    const aged = fleet.mirrors.flatMap((m) => m.verdicts).find((v) => v.since_unix_ms > 0);
    if (aged) this.skew = Math.round(aged.since_unix_ms + aged.age_ms - (askedAt + receivedAt) / 2);
    if (Math.abs(this.skew) < 500) this.skew = 0;
    for (const [key, patch] of this.patches) {
      if (patch.receivedAt + PUBLISHED_MS < askedAt) this.patches.delete(key);
    }
    this.index = new Map(fleet.mirrors.map((mirror) => [keyOf(mirror), mirror]));
    for (const mirror of fleet.mirrors) {
      for (const verdict of mirror.verdicts) this.patch(mirror, verdict);
    }
    this.outdate();
  }

  /** What an event said that a fleet does not know yet. */
  patch(mirror, verdict) {
    const event = this.patches.get(`${keyOf(mirror)} ${verdict.family}`)?.event;
    if (!event || event.at_unix_ms < verdict.since_unix_ms) return;
    Object.assign(verdict, {
      state: event.to,
      reason: event.reason,
      vantage: event.vantage,
      since_unix_ms: event.at_unix_ms,
      eligible: !['down', 'draining', 'unknown'].includes(event.to),
      stale: false,
      evidence: null,
    });
  }

  /** An answer of /v1/traffic; null and why where there is none, or the one of before and why. */
  setTraffic(traffic, refused = null) {
    // What is out now was hit by what was known before.
    if (this.old) this.rebuild();
    this.trafficRefused = refused;
    if (traffic !== this.traffic) this.traffic = traffic && indexTraffic(traffic);
    this.outdate();
  }

  setPeers(peers, refused = null) {
    this.peers = peers;
    this.peersRefused = refused;
    this.changed();
  }

  /** A transition; returns whether it is new. */
  addEvent(event, receivedAt = Date.now()) {
    if (this.seen.has(event.number)) return false;
    this.seen.add(event.number);
    this.events.unshift(event);
    if (this.events.length > EVENTS) this.seen.delete(this.events.pop().number);
    const key = keyOf(event);
    const mirror = this.index.get(key);
    const verdict = mirror?.verdicts.find((v) => v.family === event.family);
    if (!verdict || event.at_unix_ms < verdict.since_unix_ms) return true;
    this.patches.set(`${key} ${event.family}`, { event, receivedAt });
    this.patch(mirror, verdict);
    this.outdate();
    return true;
  }

  /** The last event of each mirror and family, as far as they are kept: `domain/mirror family` → event. */
  latest() {
    const latest = new Map();
    for (const event of this.events) {
      const key = `${keyOf(event)} ${event.family}`;
      if (!latest.has(key)) latest.set(key, event);
    }
    return latest;
  }

  /** The broker lost count of events; of how many may not be known. */
  addMissed(missed) {
    this.missed = missed;
    this.changed();
  }

  outdate() {
    this.old = this.fleet !== null;
    this.changed();
  }

  rebuild() {
    this.old = false;
    const before = new Map(this.known.map((row) => [row.key, row]));
    const nodes = new Map(this.fleet.nodes.map((node) => [node.name, node]));
    const latest = this.latest();
    this.known = this.fleet.mirrors.map((mirror) => rowOf(mirror, this.traffic, nodes, latest));
    this.known.forEach((row) => this.noteHit(row, before.get(row.key)));
  }

  /** Remembers who is on a mirror at the moment it goes out, for as long as it is out. */
  noteHit(row, before) {
    if (row.eligible) {
      this.hit.delete(row.key);
      return;
    }
    if (this.hit.has(row.key) || !this.traffic) return;
    const flows = this.traffic.flows.get(row.key) ?? [];
    if (!flows.length) return;
    // Where the others of these countries were then: what grew since is where users went.
    const sawIt = Boolean(before?.eligible);
    const others = sawIt ? this.traffic.list.filter((f) => f.domain === row.domain) : null;
    const by = new Map();
    for (const flow of flows) by.set(flow.country, (by.get(flow.country) ?? 0) + flow.users);
    this.hit.set(row.key, {
      users: flows.reduce((sum, flow) => sum + flow.users, 0),
      countries: flows
        .slice()
        .sort((a, b) => b.users - a.users)
        .map((flow) => flow.country),
      by,
      before: others && new Map(others.map((f) => [`${f.country} ${f.mirror}`, f.users])),
    });
  }
}
