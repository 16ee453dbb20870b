// Puts the page together: asks, follows, and draws what changed.
//
//  /v1/fleet, /v1/traffic, /v1/peers ─ one after the other, at most once a second ─┐
//  /v1/events ─ a stream ──────────────────────────────────────────────────────────┼─▶ Model ─▶ one drawing a frame
//                                                                                  ┘

import { ApiError, follow, get, token } from './api.js';
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
import { Poller } from './poll.js';
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

/** How the page stands with the broker. */
const link = { stream: 'connecting', polled: 0, error: '' };
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
  if (!field.value.trim()) return;
  token.set(field.value.trim());
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
    askForToken(error);
    return waitForToken();
  },
  polled: (error) => {
    if (error) link.error = error.message;
    else Object.assign(link, { polled: Date.now(), error: '' });
    redraw();
  },
});

follow({
  live: () => {
    link.stream = 'live';
    redraw();
  },
  lost: (error) => {
    link.stream = error instanceof ApiError && error.wantsToken ? 'refused' : 'reconnecting';
    if (link.stream === 'refused') askForToken(error);
    redraw();
  },
  admitted: waitForToken,
  lagged: (missed) => model.addMissed({ number: missed }),
  transition: (event) => {
    const isNew = model.addEvent(event);
    if (isNew && model.now() - event.at_unix_ms < 10_000) events.hear(event);
    redraw();
  },
});

/** No answer for this long, and what is shown is called old. */
const STALE_MS = 5000;

function drawLink(now) {
  const stale = link.polled && now - link.polled > STALE_MS;
  const state = !link.polled
    ? link.stream === 'refused'
      ? 'refused'
      : 'connecting'
    : stale
      ? 'stale'
      : link.stream;
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
  setAttribute(document.documentElement, 'data-stale', stale ? 'yes' : null);
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

async function start() {
  // Neither is needed to see what is wrong.
  const [words, world] = await Promise.allSettled([
    get('/page/words.json', 'no-cache'),
    get('/page/world.json', 'no-cache'),
  ]);
  if (words.status === 'fulfilled') setWords(words.value);
  if (world.status === 'fulfilled') map.setWorld(world.value);
  redraw();
}

// Ages go on, and what is old is called so, even when nothing comes.
setInterval(() => {
  if (!document.hidden) redraw();
}, 1000);
document.addEventListener('visibilitychange', () => {
  if (document.hidden) return;
  poller.soon();
  redraw();
});
// The time of the words: sentences of events are made once, so those come first.
start().finally(() => poller.run());

export { model };
