// The live page's logic that needs no browser. `tests/page_logic.rs` puts the page's modules, its map and
// its words beside this file and runs it with `node --test`.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';

import { wrongToken } from './api.js';
import { staying } from './dom.js';
import { listed } from './explain.js';
import { arcs, width } from './flows.js';
import { age, coarseAge, count, country, list, ms, place, plural } from './format.js';
import { FRAME, arc, cluster, cut, decode, greatCircle, outlines, project } from './geo.js';
import { headline, sentence } from './headline.js';
import { Model, rowOf, severity } from './model.js';
import { domains, lag, users } from './panels.js';
import { standing } from './poll.js';
import { COLUMNS, filtered, sorted } from './rows.js';
import { backoff, parser } from './sse.js';
import { agreed, evidence, isWanted, setWords, words } from './words.js';

const read = (name) => JSON.parse(readFileSync(new URL(name, import.meta.url)));
const topology = read('./world.json');
setWords(read('./words.json'));

const near = (a, b, by = 0.01) => assert.ok(Math.abs(a - b) < by, `${a} is not ${b}`);

// -- geometry

test('the projection is the Natural Earth one', () => {
  assert.deepEqual(
    project(0, 0).map((v) => v + 0),
    [0, 0],
  );
  // The equator is 0.8707 of a full turn wide; the pole line 0.5 of it or so, and as high as its polynomial says.
  near(project(180, 0)[0], 100 * Math.PI * 0.8707);
  near(project(180, 90)[0] / project(180, 0)[0], 0.547, 0.01);
  near(project(0, 90)[1], -142.4, 0.2);
  for (const [lon, lat] of [
    [10, 20],
    [179, -56],
    [-77, 51],
  ]) {
    const [x, y] = project(lon, lat),
      [mx, my] = project(-lon, -lat);
    near(mx, -x, 1e-9);
    near(my, -y, 1e-9);
    assert.ok(x >= FRAME[0] && x <= FRAME[0] + FRAME[2] && y >= FRAME[1] && y <= FRAME[1] + FRAME[3]);
  }
});

test('countries are decoded to closed rings where they are', () => {
  const all = decode(topology);
  assert.ok(all.length > 170);
  for (const { name, rings } of all) {
    for (const ring of rings) {
      assert.ok(ring.length >= 4, name);
      near(ring[0][0], ring.at(-1)[0], 1e-6);
      near(ring[0][1], ring.at(-1)[1], 1e-6);
    }
  }
  const britain = all.find((c) => c.id === '826').rings.flat();
  assert.ok(britain.every(([lon, lat]) => lon > -9 && lon < 3 && lat > 49 && lat < 60));
});

const span = (ring) => ring.map((p, i) => Math.abs(p[0] - ring[(i + 1) % ring.length][0]));

test('rings are cut at the antimeridian, and lose nothing', () => {
  const area = (ring) =>
    Math.abs(
      ring.reduce((sum, [x, y], i) => {
        const [nx, ny] = ring[(i + 1) % ring.length];
        return sum + x * ny - nx * y;
      }, 0),
    ) / 2;
  // A square of four by two degrees across it.
  const pieces = cut([
    [178, 0],
    [-178, 0],
    [-178, 2],
    [178, 2],
    [178, 0],
  ]);
  assert.equal(pieces.length, 2);
  near(
    pieces.reduce((sum, piece) => sum + area(piece), 0),
    8,
  );
  assert.deepEqual(pieces.map((piece) => Math.sign(piece[0][0])).sort(), [-1, 1]);
  const whole = cut([
    [0, 0],
    [10, 0],
    [10, 10],
    [0, 10],
    [0, 0],
  ]);
  assert.equal(whole.length, 1);
  for (const { id, name, rings } of decode(topology)) {
    if (id === '010') continue;
    for (const piece of rings.flatMap(cut)) {
      assert.ok(
        piece.every(([lon]) => lon >= -180 && lon <= 180),
        name,
      );
      assert.ok(Math.max(...span(piece)) < 180, `${name} goes across the map`);
    }
  }
  const russia = decode(topology)
    .find((c) => c.id === '643')
    .rings.flatMap(cut)
    .flat();
  assert.ok(russia.some(([lon]) => lon < -170) && russia.some(([lon]) => lon > 170));
});

test('outlines are path data of numbers only', () => {
  const d = outlines(decode(topology));
  assert.match(d, /^[MLZ0-9.,-]+$/);
  assert.ok(d.length > 50_000);
});

test('ways are great circles, and leave the map where it ends', () => {
  const london = [-0.13, 51.51],
    york = [-74, 40.71],
    tokyo = [139.7, 35.7],
    angeles = [-118.2, 34];
  assert.equal(arc(london, york).match(/M/g).length, 1);
  assert.equal(arc(tokyo, angeles).match(/M/g).length, 2);
  assert.equal(arc(angeles, tokyo).match(/M/g).length, 2);
  const middle = greatCircle(london, york, 2)[1];
  assert.ok(middle[1] > 51.6, 'the way to New York goes north first');
  // From a place to itself, to the opposite one, along the antimeridian: all finite.
  for (const [from, to] of [
    [london, london],
    [
      [0, 0],
      [180, 0],
    ],
    [
      [180, 10],
      [-180, 20],
    ],
    [
      [0, 90],
      [0, -90],
    ],
  ]) {
    assert.doesNotMatch(arc(from, to), /NaN|Infinity/);
  }
  const edge = arc(tokyo, angeles).split('M')[1].split('L').at(-1).split(',').map(Number);
  near(edge[0], project(180, 38)[0], 12);
});

test('marks that would overlap are one, and the others stay their own', () => {
  const at = (key, longitude, latitude) => ({ key, longitude, latitude });
  const found = cluster([at('a', 0, 50), at('b', 1, 50), at('c', 60, 0), at('d', 0.5, 50.5)], 5);
  assert.deepEqual(
    found.map((c) => c.members.map((m) => m.key).join('')),
    ['abd', 'c'],
  );
  const many = cluster(
    Array.from({ length: 5000 }, (_, i) => at(String(i), ((i * 7.7) % 360) - 180, ((i * 3.3) % 140) - 56)),
    8,
  );
  assert.equal(
    many.reduce((sum, c) => sum + c.members.length, 0),
    5000,
  );
  many.forEach((c, i) => many.slice(0, i).forEach((d) => assert.ok(Math.hypot(c.x - d.x, c.y - d.y) >= 8)));
});

// -- events

test('events are the same however the stream is broken up', () => {
  const stream =
    ': hello\n\nid: 7\nevent: transition\ndata: {"a":\ndata: 1}\n\nevent: lagged\r\ndata:{"missed":3}\r\n\r\nid: 8\rdata: x\r\r\n:\n\ndata: never ended\n';
  const expected = [
    { event: 'transition', data: '{"a":\n1}', id: '7' },
    { event: 'lagged', data: '{"missed":3}', id: '7' },
    { event: 'message', data: 'x', id: '8' },
  ];
  for (let first = 0; first <= stream.length; first++) {
    for (const second of [first, Math.min(stream.length, first + 3)]) {
      const got = [];
      const feed = parser((event) => got.push(event));
      [stream.slice(0, first), stream.slice(first, second), stream.slice(second)].forEach(feed);
      assert.deepEqual(got, expected, `broken at ${first} and ${second}`);
    }
  }
});

test('attempts at connecting get rarer, up to a bound', () => {
  const waits = [0, 1, 5, 100].map((failures) => backoff(failures, () => 1));
  assert.deepEqual(waits, [750, 1250, 15_250, 15_250]);
  assert.equal(
    backoff(3, () => 0),
    250,
  );
});

// -- words and numbers

test('numbers, ages and places read well', () => {
  assert.deepEqual([0, 0.3, 999, 1240, 1_000_000, null, NaN].map(count), [
    '0',
    '1',
    '999',
    '1\u202f240',
    '1\u202f000\u202f000',
    '–',
    '–',
  ]);
  assert.deepEqual([900, 42_000, 200_000, 7_200_000, 200_000_000].map(age), [
    '0 s',
    '42 s',
    '3 min',
    '2 h',
    '2 d',
  ]);
  assert.equal(coarseAge(59_000), '< 1 min');
  assert.deepEqual([3.14, 34.6, null].map(ms), ['3.1', '35', '–']);
  assert.equal(plural(1, 'mirror') + plural(2, 'mirror'), '1 mirror2 mirrors');
  assert.deepEqual(
    [[], ['a'], ['a', 'b', 'c']].map((l) => list(l)),
    ['', 'a', 'a, b and c'],
  );
  assert.equal(list(['a', 'b', 'c', 'd'], 3), 'a, b and 2 more');
  assert.equal(country('GB'), 'United Kingdom');
  assert.deepEqual([country('<b>'), country(null)], ['<b>', 'unknown country']);
  assert.equal(place({ country: 'BR', latitude: -23.55, longitude: -46.63 }), 'Brazil, 23.55 S 46.63 W');
  assert.equal(place({ latitude: null, longitude: null, country: null }), 'unknown place');
});

test('reasons are told as the command line tells them', () => {
  assert.equal(words('silent_and_unreachable'), 'its agent is silent, and probes fail');
  assert.equal(words('struck_by_lightning'), 'struck by lightning');
  assert.equal(words('constructor'), 'constructor');
  assert.ok(isWanted('maintenance') && !isWanted('probe_failed'));
  const said = (one) => ({ node: 'n', said: one, ms_ago: 5 });
  const view = {
    broker: { reached: false, ms_ago: 20 },
    witnesses: [said('failed'), said('passed'), said('failed')],
    peers: [],
    complaints: 0,
    penalty: 0,
  };
  assert.equal(agreed(view), 'broker and 2 of 3 witnesses failed');
  assert.equal(agreed({ ...view, witnesses: [] }), 'the broker’s own probe failed');
  assert.equal(
    agreed({ ...view, witnesses: [], complaints: 1 }),
    'the broker’s own probe failed, clients of 1 network complain',
  );
  assert.equal(
    agreed({ ...view, broker: null, complaints: 2 }),
    '2 of 3 witnesses failed, clients of 2 networks complain',
  );
  assert.equal(agreed(null), '');
  assert.match(
    evidence({ ...view, agent_heard_ms_ago: 3000 }, age),
    /^agent heard 3 s ago, broker failed 0 s ago, 2 of 3 witnesses failed$/,
  );
});

// -- the model

const T = 1_700_000_000_000;
const verdict = (state, more = {}) => ({
  family: 'v4',
  address: '192.0.2.1',
  state,
  eligible: state === 'up',
  reason: state === 'up' ? 'proven' : 'silent_and_unreachable',
  vantage: 'broker+witnesses',
  since_unix_ms: T - 60_000,
  age_ms: 60_000,
  stale: false,
  ...more,
});
const mirror = (name, state = 'up', more = {}) => ({
  domain: 'play.test',
  mirror: name,
  node: name,
  health: 'agent',
  port: 80,
  weight: 100,
  cpu: 0.25,
  memory: 0.5,
  connections: 10,
  capacity: 100,
  place: {
    latitude: 1,
    longitude: 2,
    country: 'GB',
    country_name: 'United Kingdom',
    asn: null,
    source: 'given',
  },
  verdicts: [verdict(state)],
  ...more,
});
const fleet = (...mirrors) => ({
  broker: 'nb1x',
  version: 3,
  domains: ['play.test'],
  nodes: [],
  mirrors,
  doubts_itself: false,
});
const flow = (mirrorName, code, n) => ({
  domain: 'play.test',
  mirror: mirrorName,
  country: code,
  latitude: 50,
  longitude: 0,
  users: n,
});
const traffic = (...flows) => {
  const names = [...new Set(flows.map((f) => f.mirror))];
  const sum = (name) => flows.filter((f) => f.mirror === name).reduce((total, f) => total + f.users, 0);
  return {
    at_unix_ms: T,
    window_s: 60,
    flows,
    brokers: [],
    mirrors: names.map((name) => ({
      domain: 'play.test',
      mirror: name,
      users: sum(name),
      rtt_p50_ms: 20,
      rtt_p95_ms: null,
    })),
  };
};
const event = (number, name, from, to, more = {}) => ({
  number,
  at_unix_ms: T,
  domain: 'play.test',
  mirror: name,
  family: 'v4',
  from,
  to,
  reason: to === 'up' ? 'proven' : 'silent_and_unreachable',
  vantage: 'broker+witnesses',
  ...more,
});

test('an event counts until a fleet that was asked for later says more', () => {
  const model = new Model();
  model.setFleet(fleet(mirror('lon'), mirror('nyc')), T - 1000, T - 990);
  assert.equal(model.addEvent(event(1, 'lon', 'up', 'down'), T + 5), true);
  assert.equal(model.addEvent(event(1, 'lon', 'up', 'down'), T + 6), false);
  const state = () => model.rows.map((row) => `${row.mirror} ${row.state} ${row.eligible}`);
  assert.deepEqual(state(), ['lon down false', 'nyc up true']);
  // Asked before the event came, answered after it: still from before it.
  model.setFleet(fleet(mirror('lon'), mirror('nyc')), T, T + 10);
  assert.deepEqual(state(), ['lon down false', 'nyc up true']);
  model.setFleet(
    fleet(
      mirror('lon', 'down', { verdicts: [verdict('down', { since_unix_ms: T, age_ms: 900 })] }),
      mirror('nyc'),
    ),
    T + 900,
    T + 905,
  );
  assert.deepEqual(state(), ['lon down false', 'nyc up true']);
  model.setFleet(fleet(mirror('lon'), mirror('nyc')), T + 1900, T + 1905);
  assert.deepEqual(state(), ['lon up true', 'nyc up true']);
});

test('events are kept newest first and within bounds, also before there is a fleet', () => {
  const model = new Model();
  for (let number = 1; number <= 1100; number++) model.addEvent(event(number, 'lon', 'up', 'down'));
  assert.deepEqual([model.events.length, model.events[0].number, model.seen.size], [1024, 1100, 1024]);
});

test('the worst verdict speaks for a mirror, and people’s wishes are no trouble', () => {
  const both = rowOf(mirror('lon', 'up', { verdicts: [verdict('up'), verdict('down', { family: 'v6' })] }));
  assert.deepEqual([both.state, both.severity, both.eligible], ['down', 0, true]);
  assert.equal(severity(verdict('down', { reason: 'maintenance' })), 7);
  assert.equal(severity(verdict('up', { stale: true })), 6);
  assert.equal(severity(verdict('up', { reason: 'cap_reached' })), 2);
  assert.equal(rowOf(mirror('lon', 'up', { verdicts: [] })).state, 'unknown');
  near(rowOf(mirror('lon', 'up', { connections: 90 })).load, 0.9);
});

test('a state lasts since its event, although its reason changed', () => {
  const model = new Model();
  model.addEvent(event(1, 'lon', 'up', 'suspect', { at_unix_ms: T - 500 }));
  model.addEvent(event(2, 'lon', 'suspect', 'down', { at_unix_ms: T }));
  const later = verdict('down', { since_unix_ms: T + 700, age_ms: 0 });
  model.setFleet(fleet(mirror('lon', 'down', { verdicts: [later] }), mirror('nyc')), T + 900, T + 900);
  assert.deepEqual(
    model.rows.map((row) => row.since),
    [T, T - 60_000],
  );
});

test('the clock of the broker is the one that counts', () => {
  const model = new Model();
  model.setFleet(
    fleet(mirror('lon', 'up', { verdicts: [verdict('up', { since_unix_ms: T, age_ms: 5000 })] })),
    T + 65_000,
    T + 65_000,
  );
  assert.equal(model.now(T + 65_000), T + 5000);
});

// -- the headline

test('the headline tells what is out, why, who was on it, and where they went', () => {
  const model = new Model();
  model.setFleet(fleet(mirror('lon'), mirror('nyc'), mirror('sao')), T - 1000, T - 990);
  model.setTraffic(
    traffic(flow('lon', 'GB', 100), flow('lon', 'FR', 20), flow('nyc', 'US', 50), flow('nyc', 'GB', 10)),
  );
  assert.equal(headline(model, T).level, 'ok');
  assert.equal(headline(model, T).title, 'All is well: 3 of 3 mirrors take users, 180 users now');
  model.addEvent(event(1, 'lon', 'up', 'down'), T);
  model.setTraffic(
    traffic(
      flow('lon', 'GB', 100),
      flow('lon', 'FR', 20),
      flow('nyc', 'US', 50),
      flow('nyc', 'GB', 100),
      flow('sao', 'FR', 30),
    ),
  );
  const evidenced = verdict('down', {
    since_unix_ms: T,
    age_ms: 2000,
    evidence: { broker: { reached: false, ms_ago: 1 }, witnesses: [], peers: [], complaints: 0, penalty: 0 },
  });
  model.setFleet(
    fleet(mirror('lon', 'down', { verdicts: [evidenced] }), mirror('nyc'), mirror('sao')),
    T + 2000,
    T + 2000,
  );
  const said = headline(model, T + 2000);
  assert.equal(said.level, 'bad');
  assert.match(said.title, /^1 mirror out: 2 of 3 mirrors take users/);
  const [line] = said.lines;
  assert.match(line.what, /^play\.test\/lon down since \d\d:\d\d:\d\d$/);
  assert.equal(line.why, 'its agent is silent, and probes fail (the broker’s own probe failed)');
  assert.equal(line.who, '120 users from United Kingdom and France were on it');
  // Ninety more of GB at nyc; of thirty more of FR at sao, twenty can be those of before. US is not concerned.
  assert.equal(line.did, 'now sent to nyc 82\u00a0% and sao 18\u00a0%');
  // Users of the mirror that is out are counted where they are now.
  assert.match(said.title, /, 180 users now$/);
  assert.deepEqual([line.age, line.keys], ['2 s', ['play.test/lon']]);
  // Back again: it is forgotten.
  model.setFleet(fleet(mirror('lon'), mirror('nyc'), mirror('sao')), T + 9000, T + 9000);
  assert.deepEqual([headline(model, T + 9000).lines.length, model.hit.size], [0, 0]);
});

test('the headline puts dead domains and doubt first, groups what is alike, and keeps wishes apart', () => {
  const model = new Model();
  const names = Array.from({ length: 9 }, (_, i) => `m${i}`);
  model.setFleet({ ...fleet(...names.map((name) => mirror(name, 'down'))), doubts_itself: true }, T, T);
  const dead = headline(model, T);
  assert.match(dead.lines[0].what, /doubts itself/);
  assert.equal(dead.lines[1].what, 'play.test has no mirror that takes users');
  assert.match(dead.lines[2].what, /^9 mirrors of play\.test down since/);
  assert.equal(dead.lines.length, 3);
  const wish = mirror('lon', 'draining', { verdicts: [verdict('draining', { reason: 'drained_by_order' })] });
  model.setFleet(fleet(wish, mirror('nyc')), T, T);
  const calm = headline(model, T);
  assert.deepEqual(
    [calm.level, calm.lines.length, calm.planned],
    ['ok', 0, 'As people want it: play.test/lon drained by a person'],
  );
  const many = Array.from({ length: 12 }, (_, i) => ({ ...mirror('m', 'down'), domain: `d${i}.test` }));
  model.setFleet({ ...fleet(...many, mirror('nyc')) }, T, T);
  assert.match(headline(model, T).lines.at(-1).what, /^and \d+ more$/);
  assert.equal(headline(new Model(), T).level, 'none');
});

test('where users went is told only where it is known', () => {
  const others = ['nyc', 'sao'].map((name) => mirror(name));
  const opened = (...flows) => {
    const model = new Model();
    model.setFleet(fleet(mirror('lon'), mirror('par'), ...others), T - 1000, T - 990);
    model.setTraffic(traffic(...flows));
    assert.equal(model.rows.length, 4);
    return model;
  };
  const did = (model) => headline(model, T).lines.map((line) => line.did);
  const spare = 'new users are sent to the nearest of 2 others';
  // Two mirrors with users of one country: who gained whose is not known.
  const two = opened(flow('lon', 'GB', 50), flow('par', 'GB', 40));
  two.addEvent(event(1, 'lon', 'up', 'suspect'), T);
  two.addEvent(event(2, 'lon', 'suspect', 'down'), T);
  two.addEvent(event(3, 'par', 'up', 'down', { reason: 'probe_failed' }), T);
  two.setTraffic(traffic(flow('nyc', 'GB', 90)));
  assert.deepEqual(did(two), [spare, spare]);
  // Of different countries each has its own, and none to a mirror that is out itself.
  const apart = opened(flow('lon', 'GB', 50), flow('par', 'FR', 40));
  apart.addEvent(event(1, 'lon', 'up', 'down'), T);
  apart.addEvent(event(2, 'par', 'up', 'down', { reason: 'probe_failed' }), T);
  apart.setTraffic(traffic(flow('nyc', 'GB', 50), flow('par', 'GB', 9), flow('sao', 'FR', 40)));
  assert.deepEqual(did(apart).sort(), ['now sent to nyc', 'now sent to sao']);
  // Opened when it was out already: what others had before is not known.
  const late = new Model();
  late.setFleet(fleet(mirror('lon', 'down'), ...others), T, T);
  late.setTraffic(traffic(flow('lon', 'GB', 50), flow('nyc', 'GB', 70)));
  assert.deepEqual(did(late), [spare]);
});

test('a domain without mirrors is told of', () => {
  const model = new Model();
  model.setFleet({ ...fleet(mirror('lon')), domains: ['play.test', 'empty.test'] }, T, T);
  const said = headline(model, T);
  assert.deepEqual(
    [said.level, said.lines.map((line) => line.what), said.title],
    ['warn', ['empty.test has no mirrors'], '1 domain without mirrors: 1 of 1 mirror takes users'],
  );
});

test('what is shown is old only when it is', () => {
  const link = { stream: 'live', refused: false, polled: T, heard: T, shown: 0, failures: 0, pace: 1000 };
  const at = (more, now) => standing({ ...link, ...more }, T + now);
  assert.equal(at({ polled: 0 }, 0), 'connecting');
  assert.equal(at({}, 10_900), 'live', 'a slow answer is no failure');
  assert.equal(at({}, 11_100), 'stale');
  assert.equal(at({ heard: T + 9000 }, 11_100), 'live', 'events are life');
  assert.equal(at({ pace: 30_000 }, 35_000), 'live', 'asked for seldom');
  assert.equal(at({ failures: 1 }, 4000), 'live');
  assert.equal(at({ failures: 1, heard: T + 5900 }, 6000), 'stale', 'polls fail');
  // Hidden for an hour: old once the first poll failed.
  const hour = 3_600_000;
  assert.equal(at({ shown: T + hour }, hour + 500), 'live');
  assert.equal(at({ shown: T + hour, failures: 1 }, hour + 500), 'stale');
  assert.equal(at({ refused: true, failures: 9 }, hour), 'refused');
  assert.equal(at({ stream: 'reconnecting' }, 10), 'reconnecting');
});

test('a token that cannot be sent is refused in words', () => {
  assert.equal(wrongToken('nm-Secret_1.~!'), '');
  for (const text of ['two words', 'sécret', 'a\nb', '“secret”', '', 'a\u200b']) assert.match(wrongToken(text), /ASCII/, text);
});

test('as few elements as possible are moved, and never the one with the focus', () => {
  const stay = (...args) => [...staying(...args)].sort((a, b) => a - b);
  assert.deepEqual(stay([0, 1, 2, 3]), [0, 1, 2, 3]);
  assert.deepEqual(stay([1, 2, 3, 0]), [0, 1, 2], 'the first went last: one is moved');
  assert.deepEqual(stay([-1, 0, -1, 1]), [1, 3], 'new ones are put in');
  assert.deepEqual(stay([1, 2, 3, 0], 3), [3], 'but all others where that one has the focus');
  assert.deepEqual(stay([3, 0, 1, 2], 0), [0]);
  assert.ok(stay([2, 0, 3, 1, 4], 2).includes(2));
  assert.deepEqual(stay([]), []);
  // Whatever the order, moving the others in from the end gives what is wanted.
  for (let seed = 1; seed < 300; seed++) {
    let state = seed;
    const dice = (n) => (state = (state * 48271) % 2147483647) % n;
    const before = Array.from({ length: dice(12) }, (_, i) => i);
    const wanted = before.slice();
    for (let i = wanted.length - 1; i > 0; i--) {
      const j = dice(i + 1);
      [wanted[i], wanted[j]] = [wanted[j], wanted[i]];
    }
    const pinned = wanted.length ? dice(wanted.length + 1) - 1 : -1;
    const stays = staying(wanted, pinned);
    if (pinned >= 0) assert.ok(stays.has(pinned));
    const list = before.slice();
    for (let i = wanted.length - 1, next = null; i >= 0; next = wanted[i--]) {
      if (stays.has(i)) continue;
      list.splice(list.indexOf(wanted[i]), 1);
      list.splice(next === null ? list.length : list.indexOf(next), 0, wanted[i]);
    }
    assert.deepEqual(list, wanted, `of seed ${seed}`);
  }
});

test('mirrors that are answered are listed with their rank, however far down', () => {
  const mirrors = Array.from({ length: 9 }, (_, i) => ({ mirror: `m${i}`, chosen: i === 7 }));
  assert.deepEqual(
    listed(mirrors, 2).map(([rank, one]) => `${rank} ${one.mirror}`),
    ['1 m0', '2 m1', '8 m7'],
  );
});

test('one family out is said to be one, and the mirror still takes users', () => {
  const model = new Model();
  model.setFleet(
    fleet(mirror('lon', 'up', { verdicts: [verdict('up'), verdict('down', { family: 'v6' })] })),
    T,
    T,
  );
  const said = headline(model, T);
  assert.match(said.lines[0].what, /^play\.test\/lon v6 down/);
  assert.match(said.title, /1 of 1 mirror takes users/);
});

test('an event is a sentence', () => {
  const told = sentence(event(1, 'lon', 'up', 'down'), 'broker and 2 of 3 witnesses failed');
  assert.deepEqual(told, {
    who: 'play.test/lon v4',
    from: 'up',
    to: 'down',
    why: 'its agent is silent, and probes fail (broker and 2 of 3 witnesses failed)',
  });
  assert.match(sentence(event(1, 'lon', 'up', 'down')).why, /\(says broker and witnesses\)$/);
  assert.equal(
    sentence(event(1, 'lon', 'up', 'draining', { reason: 'drained_by_order', vantage: 'operator' })).why,
    'drained by a person',
  );
});

// -- table and panels

test('every column sorts both ways, by name among equals, with what is unknown last', () => {
  const rows = [
    ['c', 5],
    ['a', null],
    ['b', 9],
    ['d', 5],
  ].map(([name, n]) => ({ ...rowOf(mirror(name)), users: n }));
  const names = (column, way) =>
    sorted(rows, column, way)
      .map((row) => row.mirror)
      .join('');
  assert.equal(names('users', 1), 'cdba');
  assert.equal(names('users', -1), 'bcda');
  assert.equal(names('mirror', -1), 'dcba');
  for (const column of Object.keys(COLUMNS)) {
    for (const way of [1, -1]) assert.equal(sorted(rows, column, way).length, 4, column);
  }
});

test('the filter looks at names, places, addresses and reasons', () => {
  const rows = [
    rowOf(mirror('lon')),
    rowOf(mirror('nyc', 'down')),
    rowOf(mirror('sao', 'up', { place: { country: 'BR', country_name: 'Brazil' } })),
  ];
  const names = (filter) =>
    filtered(rows, filter, words)
      .map((row) => row.mirror)
      .join(' ');
  assert.equal(names({}), 'lon nyc sao');
  assert.equal(names({ query: 'PROBES fail' }), 'nyc');
  assert.equal(names({ query: 'brazil' }), 'sao');
  assert.equal(names({ query: '192.0.2.1 lon' }), 'lon');
  assert.equal(names({ state: 'down' }), 'nyc');
  assert.equal(names({ state: 'trouble' }), 'nyc');
  assert.equal(names({ keys: new Set(['play.test/sao']) }), 'sao');
  assert.equal(names({ query: '(.*' }), '');
});

test('domains, users and lag are added up', () => {
  const rows = [
    rowOf(mirror('lon')),
    rowOf(mirror('nyc', 'down')),
    { ...rowOf(mirror('x', 'down')), domain: 'dead.test' },
  ];
  const all = domains({ domains: ['play.test', 'dead.test', 'empty.test'] }, rows);
  assert.deepEqual(
    all.map((d) => [d.domain, d.takes, d.mirrors]),
    [
      ['dead.test', 0, 1],
      ['play.test', 1, 2],
      ['empty.test', 0, 0],
    ],
  );
  const found = users([flow('lon', 'GB', 30), flow('nyc', 'GB', 10), flow('nyc', null, 5)]);
  assert.deepEqual(
    found.map((u) => [u.country, u.users, u.mirrors]),
    [
      [
        'GB',
        40,
        [
          ['lon', 0.75],
          ['nyc', 0.25],
        ],
      ],
      [null, 5, [['nyc', 1]]],
    ],
  );
  const other = { ...flow('lon', 'GB', 10), domain: 'other.test' };
  assert.deepEqual(users([flow('lon', 'GB', 30), other])[0].mirrors, [
    ['play.test/lon', 0.75],
    ['other.test/lon', 0.25],
  ]);
  const queue = { records: 0, paused: 0, in_flight_bytes: 0, oldest_ms: null, expired: 0, refused: 0 };
  assert.equal(lag({ queue, behind: null, comparing: null }), 'none');
  assert.equal(
    lag({ queue: { ...queue, records: 12, oldest_ms: 90_000 }, behind: 'expired', comparing: null }),
    '12 records behind, the oldest 1 min; may lack more (expired)',
  );
});

test('flows to one mark are one arc, the widest first', () => {
  const mark = { key: 'm', worst: 8 };
  const found = arcs(
    [flow('a', 'GB', 4), flow('b', 'GB', 5), flow('a', 'FR', 1), { ...flow('a', 'US', 9), latitude: null }],
    () => mark,
    (key) => key === 'play.test/b',
  );
  assert.deepEqual(
    found.map((f) => [f.users, f.lost]),
    [
      [9, 5],
      [1, 0],
    ],
  );
  near(width(100, 100), 6);
  assert.ok(width(1, 100) < 1.5);
});
