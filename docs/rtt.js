// Tells a nearmost broker how far its mirrors are from this visitor; see rtt.md beside this file.
// <script async src="rtt.js" data-domain="play.example.com" data-broker="https://broker.example.com"></script>
async function nearmostRtt(domain, broker) {
  // HEAD without cookies or referrer: only the time matters. What is not readable here ("no-cors") is timed all the same.
  const quiet = (ms) => ({ method: "HEAD", mode: "no-cors", cache: "no-store", credentials: "omit",
                           referrerPolicy: "no-referrer", signal: AbortSignal.timeout(ms) });
  // A name that nobody else asks for: whoever asks the broker for it is this visitor's resolver. Whether
  // anything answers there does not matter.
  const nonce = Array.from(crypto.getRandomValues(new Uint8Array(24)), (b) => "abcdefghijklmnopqrstuvwxyz234567"[b & 31]).join("");
  const scheme = globalThis.location?.protocol ?? "http:";
  const looked = fetch(`${scheme}//${nonce}.probe.${domain}/`, quiet(2000)).catch(() => {});

  const told = await fetch(`${broker}/v1/resolve/${domain}`, { cache: "no-store", credentials: "omit" });
  const { session, measure, mirrors } = await told.json();
  const milliseconds = async (url) => {
    await fetch(url, quiet(5000)); // opens the connection
    const start = performance.now();
    await fetch(url, quiet(5000)); // one round trip on it
    const taken = performance.now() - start;
    await new Promise((done) => setTimeout(done)); // the entry comes a moment after the answer
    // Without Timing-Allow-Origin there is an entry too, but its times are 0.
    const entry = performance.getEntriesByName(new URL(url).href).filter((e) => e.startTime >= start).pop();
    return entry?.requestStart > 0 && entry.responseStart > entry.requestStart ? entry.responseStart - entry.requestStart : taken;
  };
  // A failure here need not be the mirror's: pages may not fetch everything, certificates are for names, and not
  // all that listens speaks HTTP. So it is told only of URLs by name, which were given for users, and only once
  // something else was reached from here.
  const telling = (url) => {
    const { hostname, protocol } = new URL(url);
    return !/^[\d.]+$|^\[/.test(hostname) && !(scheme === "https:" && protocol === "http:");
  };
  let reached = false;
  const unreached = [];
  // The answer to each report names the mirrors to measure next, given what was found; five in all, and no
  // broker can make it more.
  const total = { accepted: 0, tied: false }, asked = [];
  let next = measure, first = true;
  while (first || next.length > 0) {
    const rtts = [];
    for (const mirror of next) {
      asked.push(mirror);
      const url = mirrors.find((m) => m.mirror === mirror)?.url;
      if (!url) continue; // nothing to ask there
      try {
        const rtt_ms = await milliseconds(url);
        reached = true;
        if (rtt_ms > 0) rtts.push({ mirror, rtt_ms });
      } catch {
        if (telling(url)) unreached.push(mirror); // or too slow; the broker has it probed before it believes that
      }
    }
    const failed = reached ? unreached.splice(0) : [];
    if (first) await looked;
    else if (rtts.length + failed.length === 0) break;
    const tried = asked.filter((mirror) => !rtts.some((r) => r.mirror === mirror));
    const body = JSON.stringify({ session, rtts, tried, failed, ...(first && { nonce }) });
    // A body of plain text needs no preflight.
    const sent = await fetch(`${broker}/v1/rtt`, { method: "POST", credentials: "omit", body });
    const taken = await sent.json();
    if (!sent.ok) return { ...total, ...taken };
    total.accepted += taken.accepted;
    total.tied ||= taken.tied;
    next = taken.measure.filter((mirror) => !asked.includes(mirror)).slice(0, 5 - asked.length);
    first = false;
  }
  return total;
}

// On a page: once it has loaded, for the share of visits that data-share names (all, unless given).
if (globalThis.document?.currentScript?.dataset.domain) {
  const { domain, broker, share = "1" } = document.currentScript.dataset;
  if (Math.random() < Number(share)) addEventListener("load", () => nearmostRtt(domain, broker).catch(() => {}));
}
