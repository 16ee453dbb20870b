// Asks the broker again and again, gently: one question at a time, each at most once a second, none while
// nobody looks.

import { PATIENCE_MS, get } from './api.js';

/** Between two rounds, in milliseconds. */
const PERIOD = 1000;
/** Peers change slowly. */
const PEERS_EVERY = 5;
/** Asking takes at most this share of the time: a large fleet over a slow line is asked for less often. */
const SHARE = 0.25;
/** Wait after a failure, growing up to this many periods; a side question rests for as many rounds. */
const PATIENT = 10;
/** Users that were not answered this often are not shown any more. */
const FORGOTTEN = 3;
/** Polls fail for this long, and what is shown is called old. */
const STALE_MS = 5000;

/**
 * How the page stands with the broker: `refused`, `connecting`, `stale` or as the stream of events is. `link` is
 * `{stream, refused, polled, heard, shown, failures, pace}`, times are ours. Pure.
 */
export function standing(link, now) {
  if (link.refused) return 'refused';
  if (!link.polled) return 'connecting';
  if (link.failures && now - link.polled > STALE_MS) return 'stale';
  // Nothing failed yet, but nothing comes: events are life, too, and nobody asked while nobody looked.
  const life = Math.max(link.polled, link.heard, link.shown);
  return now - life > link.pace + PATIENCE_MS ? 'stale' : link.stream;
}

/** A question beside that for the fleet: when it fails, its own part of the page says so, and nothing else. */
class Side {
  constructor(path, every, got, failed) {
    Object.assign(this, { path, every, got, failed, next: 0, failures: 0 });
  }

  /** Asks where it is time to; returns for how many milliseconds in vain. Throws what wants a token. */
  async ask(round) {
    if (round < this.next) return 0;
    const began = performance.now();
    try {
      this.got(await get(this.path));
      this.failures = 0;
      this.next = round + this.every;
      return 0;
    } catch (error) {
      if (error.wantsToken) throw error;
      this.failures += 1;
      this.next = round + Math.max(this.every, Math.min(this.failures, PATIENT));
      this.failed(error, this.failures);
      return performance.now() - began;
    }
  }
}

export class Poller {
  /** `on.refused(error)` returns what to wait for, `on.polled(error, pace)` is told of each answer of the fleet. */
  constructor(model, on) {
    this.model = model;
    this.on = on;
    this.round = 0;
    this.failures = 0;
    this.pace = PERIOD;
    this.sides = [
      new Side('/v1/traffic', 1, (traffic) => model.setTraffic(traffic), this.noTraffic.bind(this)),
      new Side('/v1/peers', PEERS_EVERY, (peers) => model.setPeers(peers), this.noPeers.bind(this)),
    ];
    this.wake = () => {};
  }

  /** Asks within a period. */
  soon() {
    this.wake();
  }

  async run() {
    for (;;) {
      if (document.hidden) await this.shown();
      const began = performance.now();
      let error = null,
        vain = 0;
      try {
        await this.fleet();
        for (const side of this.sides) vain += await side.ask(this.round);
        this.round += 1;
      } catch (refusal) {
        error = refusal;
      }
      if (error?.wantsToken) {
        await this.on.refused(error);
        this.failures = 0;
        continue;
      }
      const took = performance.now() - began - vain;
      this.pace = Math.max(
        PERIOD,
        took / SHARE,
        error?.retryMs ?? 0,
        PERIOD * Math.min(this.failures, PATIENT),
      );
      await this.pause(began, this.pace);
    }
  }

  /** The question that all else stands on. */
  async fleet() {
    const askedAt = Date.now();
    try {
      this.model.setFleet(await get('/v1/fleet'), askedAt);
      this.failures = 0;
    } catch (error) {
      this.failures += 1;
      this.on.polled(error, this.pace);
      throw error;
    }
    this.on.polled(null, this.pace);
  }

  noTraffic(error, failures) {
    const gone = error.status === 404 || error.status >= 500 || failures >= FORGOTTEN;
    this.model.setTraffic(gone ? null : this.model.traffic, `Users are not known: ${error.message}.`);
  }

  noPeers(error) {
    if (error.code === 'peers_disabled') {
      this.sides = this.sides.filter((side) => side.path !== '/v1/peers');
      return this.model.setPeers(null, 'This broker has no peers, as its configuration says.');
    }
    return this.model.setPeers(this.model.peers, `Not answered now: ${error.message}.`);
  }

  /** Until the pace allows the next round; somebody who looks again or gave a token waits a period at most. */
  pause(began, pace) {
    return new Promise((resolve) => {
      const left = (ms) => Math.max(0, began + ms - performance.now());
      let timer = setTimeout(resolve, left(pace));
      this.wake = () => {
        clearTimeout(timer);
        timer = setTimeout(resolve, left(Math.min(pace, PERIOD)));
      };
    });
  }

  shown() {
    return new Promise((resolve) => {
      const look = () => {
        if (document.hidden) return;
        document.removeEventListener('visibilitychange', look);
        resolve();
      };
      document.addEventListener('visibilitychange', look);
    });
  }
}
