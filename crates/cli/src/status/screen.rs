//! One screen: so many columns, so many rows, the worst first.

use super::Told;
use super::trouble::{Out, Trouble, evidence, state};
use crate::colour::{Tone, of_state, paint};
use crate::peer::list as peer_list;
use crate::reason::words;
use crate::table::cut;
use crate::time::age;
use nearmost_client::api::{EventView, FleetResponse, MirrorTrafficView};
use nearmost_client::moment;
use nearmost_client::text::printable;

/// Most lines of findings, of peers, and of last changes.
const FINDINGS: usize = 3;
const PEERS: usize = 3;
const EVENTS: usize = 4;
/// Columns of a mirror's state.
const STATE: usize = 10;

/// Lines, each within the columns.
struct Screen {
    columns: usize,
    lines: Vec<String>,
}

impl Screen {
    fn line(&mut self, tone: Tone, text: &str) {
        let text = cut(&printable(text), self.columns);
        self.lines.push(paint(tone, &text));
    }

    /// A text on as many lines as it needs, at most `most`, indented.
    fn wrapped(&mut self, tone: Tone, text: &str, most: usize) {
        let width = self.columns.saturating_sub(4).max(20);
        let mut lines: Vec<String> = vec![String::new()];
        for word in printable(text).split(' ') {
            let last = lines.last().map_or(0, |l| l.chars().count());
            match lines.last_mut() {
                Some(line) if last == 0 => line.push_str(word),
                Some(line) if last + 1 + word.chars().count() <= width => {
                    line.push(' ');
                    line.push_str(word);
                }
                _ => lines.push(word.into()),
            }
        }
        lines.into_iter().take(most).for_each(|line| self.line(tone, &format!("    {line}")));
    }
}

/// Who answers, and how much there is.
pub fn head(fleet: &FleetResponse) -> String {
    format!(
        "broker {}, registry version {}: {} domains, {} nodes, {} mirrors\n",
        fleet.broker,
        fleet.version,
        fleet.domains.len(),
        fleet.nodes.len(),
        fleet.mirrors.len()
    )
}

/// The whole screen.
pub fn render(told: &Told, trouble: &Trouble<'_>, columns: usize, rows: usize) -> String {
    let mut screen = Screen { columns, lines: Vec::new() };
    counts(&mut screen, &told.fleet);
    broker(&mut screen, told);
    let mut below = Screen { columns, lines: Vec::new() };
    peers(&mut below, told);
    events(&mut below, &told.events);
    last(&mut below, told, trouble);
    // One row is the shell's.
    let room = rows.saturating_sub(1 + screen.lines.len() + below.lines.len());
    // On a short terminal what changed last gives way to what is wrong now; the count stays.
    let end = below.lines.len().saturating_sub(1);
    let give = 4usize.saturating_sub(room).min(end);
    below.lines.drain(end - give..end);
    let room = room + give;
    let mut middle = Screen { columns, lines: Vec::new() };
    dead(&mut middle, trouble, told, room / 2);
    let room = room.saturating_sub(middle.lines.len());
    mirrors(&mut middle, trouble, told, room);
    let all = screen.lines.into_iter().chain(middle.lines).chain(below.lines);
    all.map(|line| line + "\n").collect()
}

/// The broker's id is long: it has what room is left.
fn counts(screen: &mut Screen, fleet: &FleetResponse) {
    let what = format!(
        "registry version {}: {} domains, {} nodes, {} mirrors",
        fleet.version,
        fleet.domains.len(),
        fleet.nodes.len(),
        fleet.mirrors.len()
    );
    let room = screen.columns.saturating_sub(what.chars().count() + "broker , ".len());
    screen.line(Tone::Heading, &format!("broker {}, {what}", cut(&fleet.broker, room.max(8))));
}

fn broker(screen: &mut Screen, told: &Told) {
    if let Some(missing) = &told.not_ready {
        screen.line(Tone::Bad, &format!("this broker is not ready: {missing}"));
    }
    if told.fleet.doubts_itself {
        screen.line(Tone::Bad, "this broker doubts itself: it may be cut off, and evicts nobody for silence");
    }
    if !told.unanswered.is_empty() {
        let what = told.unanswered.join(", ");
        screen.line(Tone::Doubtful, &format!("this broker did not answer in time about: {what}"));
    }
    let failing: Vec<_> = told.failing().collect();
    for finding in failing.iter().take(FINDINGS) {
        screen.line(Tone::Bad, &format!("this broker: {}: {}", finding.subject, finding.message));
    }
    if !failing.is_empty() {
        screen.line(Tone::Plain, "    `nearmost doctor` says how to fix it");
    }
}

fn dead(screen: &mut Screen, trouble: &Trouble<'_>, told: &Told, room: usize) {
    let most = if trouble.dead.len() > room { room.saturating_sub(1) } else { room };
    for (domain, mirrors) in trouble.dead.iter().take(most) {
        let users =
            users_of(told, domain).map(|n| format!("; some {n:.0} users are affected")).unwrap_or_default();
        let text = match mirrors {
            0 => format!("{domain}: it has no mirror"),
            _ => format!("{domain}: none of its {mirrors} mirrors takes new users{users}"),
        };
        screen.line(Tone::Bad, &text);
    }
    if trouble.dead.len() > most {
        screen.line(Tone::Bad, &format!("and {} more domains like these", trouble.dead.len() - most));
    }
}

fn mirrors(screen: &mut Screen, trouble: &Trouble<'_>, told: &Told, room: usize) {
    if trouble.out.is_empty() {
        return;
    }
    let longest = trouble.out.iter().map(|out| name(out).chars().count()).max().unwrap_or(0);
    let columns = Columns { name: longest.clamp(6, (screen.columns / 3).max(20)) };
    let heading = columns.before("MIRROR", "") + &columns.after("STATE", "USERS", "FOR", "WHY");
    screen.line(Tone::Heading, &heading);
    let begun = screen.lines.len();
    // Two lines belong to the headings and to what is left out.
    let room = room.saturating_sub(2);
    let mut shown = 0;
    for (i, out) in trouble.out.iter().enumerate() {
        let used = screen.lines.len() - begun;
        let left = trouble.out.len() - i;
        if used >= room {
            break;
        }
        let whole = mirror(screen, &columns, out);
        shown += 1;
        // Details only where every other one keeps a line.
        let spare = (room - used).saturating_sub(left);
        if spare > 0 && out.verdict.is_some() {
            details(screen, out, whole, told, spare.min(3));
        }
    }
    if shown < trouble.out.len() {
        screen.line(Tone::Plain, &format!("and {} more; --all shows all", trouble.out.len() - shown));
    }
}

/// How wide the columns of mirrors are.
struct Columns {
    name: usize,
}

impl Columns {
    fn before(&self, name: &str, families: &str) -> String {
        format!("{:<1$} {families:<5} ", cut(name, self.name), self.name)
    }

    fn after(&self, state: &str, users: &str, since: &str, why: &str) -> String {
        format!("{state:<STATE$} {users:<5} {since:<4} {why}")
    }
}

fn name(out: &Out<'_>) -> String {
    printable(&format!("{}/{}", out.mirror.domain, out.mirror.mirror))
}

/// A mirror's line; whether all of it fitted.
fn mirror(screen: &mut Screen, columns: &Columns, out: &Out<'_>) -> bool {
    let (state, since, why) = match out.verdict {
        Some(v) => (state(v), age(v.age_ms), words(&v.reason)),
        None => ("unknown".into(), "-".into(), words("no_address")),
    };
    let takes = if out.verdict.is_some_and(|v| v.eligible) { "yes" } else { "no" };
    let before = cut(&columns.before(&name(out), &printable(&out.families)), screen.columns);
    let after = columns.after(&printable(&state), takes, &since, &printable(&why));
    let room = screen.columns.saturating_sub(before.chars().count());
    let fits = after.chars().count() <= room;
    let after = cut(&after, room);
    // The state alone has a colour. Where it was cut, the mark of that takes more bytes than what it
    // stands for: only characters tell where the word ends.
    let shown = printable(&state).chars().count();
    let end = after.char_indices().nth(shown).map_or(after.len(), |(at, _)| at);
    let (word, rest) = after.split_at(end);
    screen.lines.push(format!("{before}{}{}", paint(of_state(&state), word), rest.trim_end()));
    fits
}

/// Where its users are now, why it is so where that did not fit, and on what evidence.
fn details(screen: &mut Screen, out: &Out<'_>, whole: bool, told: &Told, most: usize) {
    let Some(verdict) = out.verdict else { return };
    let begun = screen.lines.len();
    if let Some(users) = users(out, told).filter(|_| out.is_wrong()) {
        screen.wrapped(Tone::Plain, &users, 1);
    }
    let why = if whole { String::new() } else { format!("{}; ", words(&verdict.reason)) };
    let evidence = verdict.evidence.as_ref().map(evidence).unwrap_or_default();
    let seen = if evidence.is_empty() { String::new() } else { format!(": {evidence}") };
    let left = most.saturating_sub(screen.lines.len() - begun);
    if whole && seen.is_empty() {
        return;
    }
    screen.wrapped(Tone::Plain, &format!("{why}seen by {}{seen}", verdict.vantage), left);
}

/// Users of a domain, if that is told.
fn users_of(told: &Told, domain: &str) -> Option<f64> {
    let mirrors = &told.traffic.as_ref()?.mirrors;
    let users: f64 = mirrors.iter().filter(|m| m.domain == domain).map(|m| m.users).sum();
    (users >= 0.5).then_some(users)
}

/// `users go to nyc (120, 41 ms), fra (80, 12 ms)`
fn users(out: &Out<'_>, told: &Told) -> Option<String> {
    let domain = &out.mirror.domain;
    let others = |m: &&nearmost_client::api::FleetMirror| {
        m.domain == *domain && m.mirror != out.mirror.mirror && m.verdicts.iter().any(|v| v.eligible)
    };
    let mut others: Vec<&str> = told.fleet.mirrors.iter().filter(others).map(|m| m.mirror.as_str()).collect();
    if others.is_empty() {
        return None;
    }
    let Some(traffic) = &told.traffic else {
        return Some(format!("its users go to {}", others.join(", ")));
    };
    let of = |name: &str| traffic.mirrors.iter().find(|m| m.domain == *domain && m.mirror == name);
    let count = |name: &str| of(name).map_or(0.0, |m| m.users);
    others.sort_by(|a, b| count(b).total_cmp(&count(a)));
    let shown: Vec<String> = others.iter().take(4).map(|name| carried(name, of(name))).collect();
    let still = count(&out.mirror.mirror);
    let still = if still >= 0.5 { format!("; {still:.0} still on it") } else { String::new() };
    Some(format!("users go to {}{still}", shown.join(", ")))
}

fn carried(name: &str, traffic: Option<&MirrorTrafficView>) -> String {
    match traffic {
        Some(m) => match m.rtt_p50_ms {
            Some(ms) => format!("{name} ({:.0}, {ms:.0} ms)", m.users),
            None => format!("{name} ({:.0})", m.users),
        },
        None => name.into(),
    }
}

fn peers(screen: &mut Screen, told: &Told) {
    let Some(all) = &told.peers else { return };
    let wrong = |p: &&nearmost_client::api::PeerView| p.state != "up" || p.behind.is_some();
    let wrong: Vec<_> = all.peers.iter().filter(wrong).collect();
    for peer in wrong.iter().take(PEERS) {
        let behind = peer_list::behind(peer);
        let behind = if behind == "-" { String::new() } else { format!("; behind: {behind}") };
        let name = peer_list::called(all, &peer.id);
        let tone = if peer.state == "down" { Tone::Bad } else { Tone::Doubtful };
        screen.line(tone, &format!("peer {name}: {}{behind}", peer_list::state(peer, told.now_unix_ms)));
    }
    if wrong.len() > PEERS {
        screen.line(
            Tone::Doubtful,
            &format!("and {} more peers; `nearmost peer list` shows all", wrong.len() - PEERS),
        );
    }
    for alarm in all.alarms.iter().take(1) {
        screen.line(Tone::Bad, &format!("federation: {alarm}"));
    }
}

fn events(screen: &mut Screen, events: &[EventView]) {
    if events.is_empty() {
        return;
    }
    screen.line(Tone::Heading, "last changes");
    for event in events.iter().rev().take(EVENTS).rev() {
        // The day is of no interest at three in the morning.
        let at = moment::show(event.at_unix_ms);
        let at = at.get(11..19).unwrap_or(&at).to_owned();
        screen.line(
            Tone::Plain,
            &format!(
                "  {at}Z  {}/{} {}  {} → {}  {}",
                event.domain,
                event.mirror,
                event.family,
                event.from,
                event.to,
                words(&event.reason)
            ),
        );
    }
}

fn last(screen: &mut Screen, told: &Told, trouble: &Trouble<'_>) {
    let all = told.fleet.mirrors.len();
    let tone = match () {
        () if told.is_wrong(trouble) => Tone::Bad,
        () if trouble.well < all => Tone::Doubtful,
        () if all == 0 => Tone::Plain,
        () => Tone::Good,
    };
    match all {
        0 => screen.line(tone, "no mirrors"),
        all => screen.line(tone, &format!("{} of {all} mirrors are well", trouble.well)),
    }
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
