// What somebody woken at three in the morning reads first: what is out, why, whom it concerns, and what
// was done about it. Pure: model in, sentences out.

import { age, clock, count, country, list, percent, plural } from './format.js';
import { agreed, isWanted, words } from './words.js';

/** Most lines; the rest is counted, worst first. */
const LINES = 5;
/** From this many of the same kind on, they are one line. */
const MANY = 4;

const isOut = (row) => row.severity <= 1;
const isDoubtful = (row) => row.severity > 1 && row.severity < 7;

/**
 * `{level, title, lines: [{level, what, why, who, did, keys}], planned}`; `level` is `bad`, `warn`, `ok` or
 * `none`, `keys` are the mirrors that a line speaks of.
 */
export function headline(model, now) {
  const { fleet, rows } = model;
  if (!fleet) return { level: 'none', title: 'Asking the broker …', lines: [], planned: '' };
  const domains = mirrorsOf(fleet, rows);
  const empty = [...domains.keys()].filter((domain) => !domains.get(domain).length);
  const lines = [...doubt(fleet), ...dead(domains), ...incidents(model, now), ...bare(empty)];
  const planned = rows.filter((row) => row.severity === 7);
  const worst = lines.some((line) => line.level === 'bad') ? 'bad' : lines.length ? 'warn' : 'ok';
  const more = lines.length - LINES;
  const shown = more > 0 ? lines.slice(0, LINES) : lines;
  if (more > 0)
    shown.push({ level: 'warn', what: `and ${more} more`, why: 'the table has all, worst first', keys: [] });
  return {
    level: rows.length ? worst : 'none',
    title: title(rows, empty.length),
    lines: shown,
    planned: planned.length ? wanted(planned) : '',
  };
}

function title(rows, empty) {
  if (!rows.length) return 'No mirrors are registered yet';
  const [out, doubtful] = [rows.filter(isOut).length, rows.filter(isDoubtful).length];
  const takes = rows.filter((row) => row.eligible).length;
  // Users of a mirror that is out ask again elsewhere: they would be counted twice.
  const users = rows.every((row) => row.users === null)
    ? null
    : rows.reduce((sum, row) => sum + (row.eligible ? (row.users ?? 0) : 0), 0);
  const tail = users === null ? '' : `, ${plural(users, 'user')} now`;
  const takers = `${count(takes)} of ${plural(rows.length, 'mirror')} ${takes === 1 ? 'takes' : 'take'} users${tail}`;
  const wrong = [
    out ? `${plural(out, 'mirror')} out` : '',
    doubtful ? `${out ? count(doubtful) : plural(doubtful, 'mirror')} doubtful` : '',
    empty ? `${plural(empty, 'domain')} without mirrors` : '',
  ].filter(Boolean);
  return wrong.length ? `${list(wrong)}: ${takers}` : `All is well: ${takers}`;
}

function doubt(fleet) {
  if (!fleet.doubts_itself) return [];
  const why = 'it may be cut off, and takes no mirror out for silence meanwhile';
  return [{ level: 'bad', what: 'This broker doubts itself', why, keys: [] }];
}

/** Puts `item` to the others of its key. */
function gather(groups, key, item) {
  const group = groups.get(key);
  if (group) group.push(item);
  else groups.set(key, [item]);
}

/** Mirrors by domain; of a domain without any, none. */
function mirrorsOf(fleet, rows) {
  const of = new Map(fleet.domains.map((domain) => [domain, []]));
  for (const row of rows) gather(of, row.domain, row);
  return of;
}

/** Domains that nobody can be sent anywhere for, since there is no mirror. */
function bare(domains) {
  if (!domains.length) return [];
  const what = `${list(domains, 4)} ${domains.length === 1 ? 'has' : 'have'} no mirrors`;
  return [{ level: 'warn', what, why: 'none are registered', keys: [] }];
}

/** Domains with mirrors of which none takes users. */
function dead(domains) {
  const all = [...domains].filter(([, mirrors]) => mirrors.length && mirrors.every((row) => !row.eligible));
  return all.map(([domain, mirrors]) => ({
    level: 'bad',
    what: `${domain} has no mirror that takes users`,
    why: `${plural(mirrors.length, 'mirror')}, none eligible; what is answered is as its policy for this says`,
    keys: mirrors.map((row) => row.key),
  }));
}

function incidents(model, now) {
  const wrong = model.rows.filter((row) => row.severity < 7);
  wrong.sort((a, b) => a.severity - b.severity || b.since - a.since);
  const groups = new Map();
  for (const row of wrong) {
    const kind = `${row.domain} ${row.state} ${row.worst.reason}`;
    gather(groups, kind, row);
  }
  const lines = [...groups.values()].flatMap((group) =>
    group.length >= MANY ? [group] : group.map((row) => [row]),
  );
  const context = { model, now, shared: sharedPlaces(lines, model) };
  return lines.map((group) => (group.length > 1 ? together(group, context) : alone(group[0], context)));
}

/** Countries, `domain country`, that several lines tell users of: who of them went where is not known. */
function sharedPlaces(lines, model) {
  const seen = new Set(),
    shared = new Set();
  for (const group of lines) {
    const places = new Set(
      group.flatMap((row) => (model.hit.get(row.key)?.countries ?? []).map((code) => `${row.domain} ${code}`)),
    );
    for (const place of places) (seen.has(place) ? shared : seen).add(place);
  }
  return shared;
}

function level(row) {
  return isOut(row) ? 'bad' : 'warn';
}

function alone(row, context) {
  const { now } = context;
  const families = row.verdicts
    .filter((v) => v.state === row.state)
    .map((v) => v.family)
    .join(' and ');
  const partly = row.verdicts.length > 1 && families !== row.verdicts.map((v) => v.family).join(' and ');
  const proof = agreed(row.worst.evidence);
  return {
    level: level(row),
    what: `${row.key} ${partly ? `${families} ` : ''}${row.state}${row.since ? ` since ${clock(row.since)}` : ''}`,
    why: words(row.worst.reason) + (proof ? ` (${proof})` : ''),
    ...affected([row], context),
    age: row.since ? age(now - row.since) : '',
    keys: [row.key],
  };
}

function together(group, context) {
  const { now } = context;
  const [first] = group;
  const earliest = Math.min(...group.map((row) => row.since || now));
  return {
    level: level(first),
    what: `${count(group.length)} mirrors of ${first.domain} ${first.state} since ${clock(earliest)}`,
    why: `${words(first.worst.reason)}: ${list(
      group.map((row) => row.mirror),
      5,
    )}`,
    ...affected(group, context),
    age: age(now - earliest),
    keys: group.map((row) => row.key),
  };
}

/** Who was on mirrors that went out, and where they are now. */
function affected(rows, { model, shared }) {
  const hits = rows.map((row) => model.hit.get(row.key)).filter(Boolean);
  if (!hits.length) return { who: '', did: rows.some((row) => !row.eligible) ? spare(rows[0], model) : '' };
  const users = hits.reduce((sum, hit) => sum + hit.users, 0);
  const countries = [...new Set(hits.flatMap((hit) => hit.countries))];
  const from = list(
    countries.map((code) => (code ? country(code) : 'unknown places')),
    4,
  );
  return {
    who: `${plural(users, 'user')} from ${from} ${users === 1 ? 'was' : 'were'} on it`,
    did: moved(rows, hits, countries, { model, shared }),
  };
}

/** Where they are, where that is known: what others gained since, of each country as many as were hit at most. */
function moved(rows, hits, countries, { model, shared }) {
  const { domain } = rows[0];
  const known = hits.every((hit) => hit.before) && !countries.some((code) => shared.has(`${domain} ${code}`));
  if (!known) return spare(rows[0], model);
  const takes = new Set(model.rows.filter((row) => row.domain === domain && row.eligible).map((row) => row.mirror));
  const places = new Set(countries);
  const gains = new Map();
  for (const flow of model.traffic?.list ?? []) {
    if (flow.domain !== domain || !takes.has(flow.mirror) || !places.has(flow.country)) continue;
    const had = Math.max(...hits.map((hit) => hit.before.get(`${flow.country} ${flow.mirror}`) ?? 0));
    if (flow.users > had) gather(gains, flow.country, [flow.mirror, flow.users - had]);
  }
  const gained = new Map();
  for (const [code, more] of gains) {
    const hit = hits.reduce((sum, one) => sum + (one.by.get(code) ?? 0), 0);
    const part = Math.min(1, hit / more.reduce((sum, [, users]) => sum + users, 0));
    for (const [mirror, users] of more) gained.set(mirror, (gained.get(mirror) ?? 0) + part * users);
  }
  const total = [...gained.values()].reduce((sum, users) => sum + users, 0);
  if (!total) return spare(rows[0], model);
  const shares = [...gained].sort((a, b) => b[1] - a[1]);
  if (shares.length === 1) return `now sent to ${shares[0][0]}`;
  const told = shares.map(([mirror, users]) => `${mirror} ${percent(users / total)}`);
  return `now sent to ${list(told, 4)}`;
}

function spare(row, model) {
  const left = model.rows.filter((other) => other.domain === row.domain && other.eligible);
  if (!left.length) return '';
  const who = left.length === 1 ? left[0].mirror : `the nearest of ${count(left.length)} others`;
  return `new users are sent to ${who}`;
}

function wanted(rows) {
  const by = new Map();
  for (const row of rows) gather(by, words(row.worst.reason), row.key);
  return `As people want it: ${[...by].map(([why, keys]) => `${list(keys, 4)} ${why}`).join('; ')}`;
}

/** `play.example/lon v4 up → down: its agent is silent, and probes fail`. */
export function sentence(event, proof = '') {
  const by = proof || (['none', ''].includes(event.vantage) ? '' : event.vantage.replaceAll('+', ' and '));
  const why = words(event.reason) + (by && !isWanted(event.reason) ? ` (${proof ? by : `says ${by}`})` : '');
  return { who: `${event.domain}/${event.mirror} ${event.family}`, from: event.from, to: event.to, why };
}
