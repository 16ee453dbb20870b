// Domains, users by country, and peers.

import { byId, el, reconcile, setAttribute, setText } from './dom.js';
import { age, count, country, list, moment, ms, percent, plural } from './format.js';
import { keyOf } from './model.js';

/** Most lines of users. */
const FLOWS = 12;

/** What each domain has: [{domain, mirrors, takes, out, users}], the worst first. Pure. */
export function domains(fleet, rows) {
  const all = new Map(
    fleet.domains.map((domain) => [domain, { domain, mirrors: 0, takes: 0, out: 0, users: null }]),
  );
  for (const row of rows) {
    const one = all.get(row.domain);
    if (!one) continue;
    one.mirrors += 1;
    one.takes += row.eligible ? 1 : 0;
    one.out += row.severity <= 1 ? 1 : 0;
    if (row.users !== null) one.users = (one.users ?? 0) + row.users;
  }
  const rank = (one) => (one.mirrors && !one.takes ? 0 : one.out ? 1 : 2);
  return [...all.values()].sort(
    (a, b) => rank(a) - rank(b) || (b.users ?? 0) - (a.users ?? 0) || (a.domain < b.domain ? -1 : 1),
  );
}

/**
 * Users by country: [{country, users, mirrors: [[mirror, share]]}], most users first; a mirror is told with its
 * domain where there are several. Pure.
 */
export function users(flows) {
  const all = new Map();
  const several = flows.some((flow) => flow.domain !== flows[0].domain);
  for (const flow of flows) {
    const mirror = several ? keyOf(flow) : flow.mirror;
    const one = all.get(flow.country) ?? { country: flow.country, users: 0, mirrors: new Map() };
    one.users += flow.users;
    one.mirrors.set(mirror, (one.mirrors.get(mirror) ?? 0) + flow.users);
    all.set(flow.country, one);
  }
  return [...all.values()]
    .sort((a, b) => b.users - a.users)
    .map((one) => ({
      ...one,
      mirrors: [...one.mirrors].sort((a, b) => b[1] - a[1]).map(([mirror, n]) => [mirror, n / one.users]),
    }));
}

/** How far behind a peer is, in words. Pure. */
export function lag(peer) {
  const { queue } = peer;
  const parts = [];
  if (queue.records)
    parts.push(
      `${plural(queue.records, 'record')} behind${queue.oldest_ms === null ? '' : `, the oldest ${age(queue.oldest_ms)}`}`,
    );
  if (queue.paused) parts.push(`${count(queue.paused)} paused`);
  if (peer.behind) parts.push(`may lack more (${peer.behind.replaceAll('_', ' ')})`);
  if (peer.comparing !== null && peer.comparing !== undefined) parts.push('comparing all');
  if (queue.expired) parts.push(`${count(queue.expired)} dropped`);
  if (queue.refused) parts.push(`${count(queue.refused)} refused`);
  return parts.join('; ') || 'none';
}

/** `● up`, or since when it is not and why. Pure. */
export function peerState(peer, now) {
  if (peer.state === 'up') return '● up';
  const contact = peer.last_contact_unix_ms
    ? `, last heard ${moment(peer.last_contact_unix_ms, now)}`
    : ', never heard';
  return `✕ ${peer.state}${contact}${peer.last_error ? `: ${peer.last_error}` : ''}`;
}

/** Makes a body's rows of texts; `cells` gives [class, text, label] each. */
class TextRows {
  constructor(body) {
    this.body = body;
    this.known = new Map();
  }

  update(items, keyOf, cells, make = () => el('span')) {
    reconcile(
      this.body,
      this.known,
      items,
      keyOf,
      (item) => {
        const parts = cells(item).map(([kind, , label], i) => {
          const part = i === 0 ? make(item) : el('span');
          return {
            part,
            cell: el(
              i === 0 ? 'th' : 'td',
              {
                class: kind,
                scope: i === 0 ? 'row' : null,
                role: i === 0 ? 'rowheader' : 'cell',
                'data-label': label,
              },
              part,
            ),
          };
        });
        return {
          element: el(
            'tr',
            { role: 'row' },
            parts.map((p) => p.cell),
          ),
          parts,
        };
      },
      (entry, item) =>
        cells(item).forEach(([kind, text], i) => {
          setAttribute(entry.parts[i].cell, 'class', kind);
          setText(entry.parts[i].part, text);
        }),
    );
  }
}

export class Panels {
  /** `chosen(domain)` is called for a domain that somebody clicks. */
  constructor(chosen) {
    this.chosen = chosen;
    this.domainRows = new TextRows(byId('domain-rows'));
    this.userRows = new TextRows(byId('user-rows'));
    this.peerRows = new TextRows(byId('peer-rows'));
  }

  update(model) {
    if (model.fleet) this.domains(domains(model.fleet, model.rows));
    this.users(model.traffic, model.trafficRefused);
    this.peers(model);
  }

  domains(all) {
    const how = (one) => (one.mirrors && !one.takes ? ['bad', ' ✕'] : one.out ? ['warn', ' ▲'] : ['', '']);
    const cells = (one) => {
      const [kind, mark] = how(one);
      return [
        ['', one.domain, 'Domain'],
        [kind, `${count(one.takes)} of ${count(one.mirrors)}${mark}`, 'Take users'],
        ['n', count(one.users), 'Users'],
      ];
    };
    const make = (one) =>
      el('button', { type: 'button', class: 'name', onclick: () => this.chosen(one.domain) });
    this.domainRows.update(all.slice(0, 100), (one) => one.domain, cells, make);
    byId('no-domains').hidden = all.length > 0;
  }

  users(traffic, refused) {
    byId('users').hidden = !traffic && !refused;
    byId('users-table').hidden = !traffic;
    if (!traffic) return setText(byId('users-note'), refused ?? '');
    const all = users(traffic.list);
    const cells = (one) => [
      ['', one.country ? country(one.country) : 'unknown place', 'Country'],
      ['n', count(one.users), 'Users'],
      [
        '',
        list(
          one.mirrors.map(([mirror, share]) => (share > 0.995 ? mirror : `${mirror} ${percent(share)}`)),
          3,
        ),
        'Sent to',
      ],
    ];
    this.userRows.update(all.slice(0, FLOWS), (one) => one.country ?? '?', cells);
    const rest = all.length > FLOWS ? ` The ${FLOWS} largest of ${count(all.length)} countries.` : '';
    const cut = traffic.left_out ? ` ${plural(traffic.left_out, 'small flow')} left out.` : '';
    const how = `As agents count connections, or as answers of the last ${Math.round(traffic.window_s)} s where none counts.`;
    const note = all.length ? `${how}${rest}${cut}` : 'Nobody is known to be there.';
    return setText(byId('users-note'), refused ? `${refused} ${note}` : note);
  }

  peers(model) {
    const { peers, peersRefused } = model;
    const note = peersRefused ?? (peers && !peers.peers.length ? 'This broker has no peers.' : '');
    setText(byId('peers-note'), note);
    const now = model.now();
    const cells = (peer) => [
      ['', peer.name || peer.id.slice(0, 12), 'Peer'],
      [peer.state === 'up' ? '' : 'bad', peerState(peer, now), 'State'],
      ['n', peer.rtt_ms === null ? '–' : `${ms(peer.rtt_ms)} ms`, 'RTT'],
      [peer.queue.records || peer.behind ? 'warn' : '', lag(peer), 'Lag'],
    ];
    this.peerRows.update(peers?.peers ?? [], (peer) => peer.id, cells);
    byId('peers-table').hidden = !peers?.peers.length;
    const name = (id) =>
      peers.peers.find((peer) => peer.id === id)?.name ??
      (id === peers.broker ? 'this broker' : id.slice(0, 12));
    const split = (s) =>
      `${name(s.a)} and ${name(s.b)} do not see each other since ${moment(s.since_unix_ms, now)}`;
    const alarms = [...(peers?.alarms ?? []), ...(peers?.splits ?? []).map(split)];
    const told = alarms.join('\n');
    if (told === this.alarms) return;
    this.alarms = told;
    byId('peer-alarms').replaceChildren(...alarms.map((alarm) => el('li', {}, alarm)));
  }
}
