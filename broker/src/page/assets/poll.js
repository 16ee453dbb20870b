// Asks the broker again and again, gently: one question at a time, each at most once a second, none while
// nobody looks.

import { get } from './api.js';

/** Between two rounds, in milliseconds. */
const PERIOD = 1000;
/** Peers change slowly. */
const PEERS_EVERY = 5;
/** Asking takes at most this share of the time: a large fleet over a slow line is asked for less often. */
const SHARE = 0.25;
/** Wait after a failure, growing up to this many periods. */
const PATIENT = 10;

export class Poller {
  /** `on.refused(error)` returns what to wait for, `on.polled(error)` is told of each round. */
  constructor(model, on) {
    this.model = model;
    this.on = on;
    this.round = 0;
    this.failures = 0;
    this.hasPeers = true;
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
      let error = null;
      try {
        await this.ask();
        this.failures = 0;
      } catch (refusal) {
        error = refusal;
        this.failures += 1;
      }
      this.on.polled(error);
      if (error?.wantsToken) {
        await this.on.refused(error);
        this.failures = 0;
        continue;
      }
      const took = performance.now() - began;
      const pace = Math.max(
        PERIOD,
        took / SHARE,
        error?.retryMs ?? 0,
        PERIOD * Math.min(this.failures, PATIENT),
      );
      await this.pause(began, pace);
    }
  }

  async ask() {
    const askedAt = Date.now();
    this.model.setFleet(await get('/v1/fleet'), askedAt);
    this.model.setTraffic(await get('/v1/traffic'));
    if (this.hasPeers && this.round % PEERS_EVERY === 0) await this.peers();
    this.round += 1;
  }

  async peers() {
    try {
      this.model.setPeers(await get('/v1/peers'));
    } catch (error) {
      if (error.code !== 'peers_disabled') throw error;
      this.hasPeers = false;
      this.model.setPeers(null, 'This broker has no peers, as its configuration says.');
    }
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
