// Puts the page together: asks, follows, and draws what changed.
//
//  /v1/fleet, /v1/traffic, /v1/peers ─ one after the other, at most once a second ─┐
//  /v1/events ─ a stream ──────────────────────────────────────────────────────────┼─▶ Model ─▶ one drawing a frame
//                                                                                  ┘

import { ApiError, follow, get, token, wrongToken } from './api.js';
import { Banner } from './banner.js';
import { byId, coalesced, setAttribute, setText } from './dom.js';
import { EventList } from './events.js';
import { Explain } from './explain.js';
import { Flows } from './flows.js';
import { clock } from './format.js';
import { BrokerMarks, WorldMap } from './map.js';
import { Markers } from './markers.js';
import { Model } from './model.js';
import { Panels } from './panels.js';
import { Poller, standing } from './poll.js';
import { backoff } from './sse.js';
import { MirrorTable } from './table.js';
import { setWords } from './words.js';

const model = new Model(() => (document.hidden ? titleSoon() : redraw()));
const table = new MirrorTable();
const show = (keys) => {
  table.only(keys);
  byId('mirrors').scrollIntoView({ block: 'start' });
};
const banner = new Banner(model, show);
const map = new WorldMap(byId('map'));
const markers = new Markers(map, show);
const flows = new Flows(map);
const brokers = new BrokerMarks(map);
const events = new EventList(model);
const panels = new Panels((domain) => {
  table.search(domain);
  byId('mirrors').scrollIntoView({ block: 'start' });
});
const explain = new Explain(model, map, askForToken);

/** How the page stands with the broker, as `standing` has it. */
const link = {
  stream: 'connecting',
  refused: false,
  polled: 0,
  heard: 0,
  shown: 0,
  failures: 0,
  pace: 0,
  error: '',
};
/** Resolved when a token was given. */
let admitted = null;
let admit = () => {};

function askForToken(error) {
  const box = byId('token');
  setText(
    byId('token-said'),
    token.get()
      ? `The broker refused this token: ${error.message}.`
      : 'This broker shows its fleet to those who have a token.',
  );
  if (!box.hidden) return;
  box.hidden = false;
  byId('token-text').focus();
}

function waitForToken() {
  admitted ??= new Promise((resolve) => {
    admit = resolve;
  });
  return admitted;
}

byId('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const field = byId('token-text');
  const text = field.value.trim();
  if (!text) return;
  const wrong = wrongToken(text);
  if (wrong) {
    setText(byId('token-said'), wrong);
    return;
  }
  token.set(text);
  link.refused = false;
  field.value = '';
  byId('token').hidden = true;
  byId('forget').hidden = false;
  admit();
  admitted = null;
  poller.soon();
});
byId('forget').hidden = !token.get();
byId('forget').addEventListener('click', () => {
  token.forget();
  location.reload();
});

const poller = new Poller(model, {
  refused: (error) => {
    link.refused = true;
    redraw();
    askForToken(error);
    return waitForToken();
  },
  polled: (error, pace) => {
    link.pace = pace;
    if (error) Object.assign(link, { failures: link.failures + 1, error: error.message });
    else Object.assign(link, { polled: Date.now(), failures: 0, refused: false, error: '' });
    redraw();
  },
});

/** That events were missed is said for this long. */
const MISSED_MS = 120_000;
let missedTimer = null;

follow({
  live: () => {
    Object.assign(link, { stream: 'live', heard: Date.now() });
    // What is missed now, the stream says anew.
    model.addMissed(null);
    redraw();
  },
  heard: () => {
    link.heard = Date.now();
  },
  lost: (error) => {
    link.stream = 'reconnecting';
    if (error instanceof ApiError && error.wantsToken) {
      link.refused = true;
      askForToken(error);
    }
    redraw();
  },
  admitted: waitForToken,
  lagged: (missed) => {
    model.addMissed({ number: missed });
    clearTimeout(missedTimer);
    missedTimer = setTimeout(() => model.addMissed(null), MISSED_MS);
  },
  transition: (event) => {
    const isNew = model.addEvent(event);
    if (isNew) explain.touched(event);
    if (isNew && model.now() - event.at_unix_ms < 10_000) events.hear(event);
    redraw();
  },
});

function drawLink(now) {
  const state = standing(link, now);
  const told = {
    connecting: '◌ connecting',
    refused: '⚿ token needed',
    live: '● live',
    reconnecting: '◌ events reconnecting',
    stale: `✕ stale since ${clock(link.polled)}`,
  }[state];
  setAttribute(byId('link'), 'data-state', state);
  setText(byId('link'), told);
  byId('link').title = link.error;
  const old = state === 'stale' || (state === 'refused' && link.polled);
  setAttribute(document.documentElement, 'data-stale', old ? 'yes' : null);
  // Why there is nothing to see, where a token would not help.
  if (!model.fleet && link.error && state !== 'refused')
    setText(byId('title'), `The broker does not show its fleet: ${link.error}`);
}

/** Drawn in two frames: words first, then the map, so that neither holds up who scrolls. */
function drawWords() {
  const ours = Date.now(),
    now = model.now(ours);
  drawLink(ours);
  if (!model.fleet) return;
  setText(byId('broker'), `${model.fleet.broker.slice(0, 12)}… · registry ${model.fleet.version}`);
  byId('broker').title = model.fleet.broker;
  banner.update(now);
  events.update();
  table.update(model.rows, now);
  drawMapSoon();
}

const drawMapSoon = coalesced(() => {
  markers.update(model.rows);
  const out = new Set(model.rows.filter((row) => !row.eligible).map((row) => row.key));
  const left = flows.update(
    model.traffic?.list ?? [],
    (key) => markers.clusterOf(key),
    (key) => out.has(key),
  );
  brokers.update(model.traffic?.brokers ?? []);
  byId('legend-broker').hidden = !brokers.any;
  const note = left ? `arcs: users by country, ${left} small ones left out` : 'arcs: users by country';
  setText(byId('flow-note'), model.traffic ? note : '');
  explain.offer(model.fleet.domains);
  panels.update(model);
});

/** Between two drawings: soon enough for people, seldom enough for a storm of events. */
const REST_MS = 150;
const redraw = coalesced(drawWords, REST_MS);

let titleTimer = null;

/** In a tab that is not looked at, the title is what tells of trouble. */
function titleSoon() {
  titleTimer ??= setTimeout(() => {
    titleTimer = null;
    if (model.fleet) banner.update(model.now());
  }, 500);
}

/** Sentences of events are made once, so their words come first; without them codes are shown. */
async function start() {
  try {
    setWords(await get('/page/words.json', 'no-cache'));
  } catch {
    // Nothing that is wrong is hidden by it.
  }
  redraw();
}

/** Tries for outlines; without them the map still has all its marks. */
const OUTLINES = 10;

async function outline() {
  for (let failures = 0; failures < OUTLINES; failures++) {
    try {
      map.setWorld(await get('/page/world.json', 'no-cache'));
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, backoff(failures)));
    }
  }
}

// Ages go on, and what is old is called so, even when nothing comes.
const TICK_MS = 1000;
let ticked = Date.now();
setInterval(() => {
  // This machine slept, and asked nobody meanwhile.
  if (Date.now() - ticked > 5 * TICK_MS) link.shown = Date.now();
  ticked = Date.now();
  if (!document.hidden) redraw();
}, TICK_MS);
document.addEventListener('visibilitychange', () => {
  if (document.hidden) return;
  link.shown = Date.now();
  poller.soon();
  redraw();
});
start().finally(() => {
  poller.run();
  outline();
});

export { events, model };
