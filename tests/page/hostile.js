// The body of a function that `tests/page.rs` runs in the page: names that no registry permits, in every place
// that a text of others is shown. Returns how many elements they made, what they ran, and where they never were.

const { events, model } = await import('/page/main.js');
const evil = `<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>"'&\u202e</text><a href="javascript:pwned=1">`;
const count = () => document.querySelectorAll('img, iframe, a:not(.skip), script:not([src]), [onerror], [style*=url]').length;
const before = count();
const spoil = () => {
  const fleet = structuredClone(model.fleet);
  fleet.domains = [evil]; fleet.broker = evil;
  fleet.nodes.forEach((n) => { n.name = evil; });
  fleet.mirrors.forEach((m, i) => {
    Object.assign(m, { domain: evil, mirror: evil + i, node: evil, health: evil });
    m.place.country = evil; m.place.country_name = evil;
    m.verdicts.forEach((v) => Object.assign(v, { state: i ? evil : 'down', reason: evil, vantage: evil, address: evil, family: evil }));
  });
  model.setFleet(fleet, Date.now());
  model.setTraffic({ at_unix_ms: 1, window_s: 60, left_out: 0,
    flows: [{ domain: evil, mirror: `${evil}0`, country: evil, latitude: 1, longitude: 2, users: 3 }],
    mirrors: [], brokers: [{ id: evil, name: evil, me: true, latitude: 3, longitude: 4 }] });
  model.setPeers({ broker: evil, alarms: [evil], splits: [{ a: evil, b: evil, since_unix_ms: 5 }],
    peers: [{ id: evil, name: evil, state: 'down', last_error: evil, last_contact_unix_ms: 1, rtt_ms: null, behind: evil,
      queue: { records: 1, paused: 0, oldest_ms: 2, expired: 0, refused: 0 } }] });
  model.addEvent({ number: 9e15, at_unix_ms: Date.now(), domain: evil, mirror: evil, family: evil, from: evil, to: evil, reason: evil, vantage: evil });
};
const place = { source: evil, asn: 1, country: evil, country_name: evil, latitude: 5, longitude: 6 };
const explained = { client: evil, domain: evil, place,
  answers: [{ family: evil, addresses: [evil], how: evil, basis: evil, scope: evil, ttl_s: 1 }],
  mirrors: [{ mirror: `${evil}0`, rtt_ms: 1, distance_km: 2, chosen: true, eligible: true, reasons: [evil],
    verdicts: [{ state: evil, eligible: true }], sharing: {}, prediction: { shares: { [evil]: 50 } } }] };
const ask = window.fetch;
window.fetch = (path, ...more) => {
  const answer = path.startsWith('/v1/explain') ? explained : path.startsWith('/v1/geo/') ? { place, cell: evil } : null;
  return answer ? Promise.resolve(new Response(JSON.stringify(answer))) : ask(path, ...more);
};
spoil();
events.hear(model.events[0]);
document.querySelector('#explain-address').value = '192.0.2.1';
document.querySelector('#explain-form').requestSubmit();
const shows = (element) => element.textContent.includes('<img src=x');
// Asked for by a person; the next answer of the broker takes it away again.
const open = () => {
  if (document.querySelector('.details')) return;
  [...document.querySelectorAll('#mirror-table .name')].find(shows)?.click();
  document.activeElement.blur();
  document.querySelector('.marker[aria-label*="<img"]')?.focus();
};
const left = new Set(['#incidents', '#mirror-table', '#event-list', '#domain-rows', '#user-rows', '#peer-rows', '#peer-alarms',
  '#world', '#explain-domain', '#explain-said', '#explain-list', '.tip', '.details', '#spoken']);
let made = 0;
for (let i = 0; i < 50 && left.size; i++) {
  spoil();
  await new Promise((done) => setTimeout(done, 200));
  open();
  for (const s of left) if ([...document.querySelectorAll(s)].some(shows)) left.delete(s);
  made = Math.max(made, count() - before);
}
window.fetch = ask;
return [made, window.pwned ?? null, [...left]];
