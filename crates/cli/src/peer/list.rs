//! `nearmost peer list`.

use crate::broker::Context;
use crate::output::{emit, emit_json};
use crate::table::Table;
use crate::time::age;
use nearmost_client::api::{PeerQueueView, PeerView, PeersResponse};
use nearmost_client::clock::now_unix_ms;
use std::cmp::Reverse;

/// Longest state in the table, in characters.
const STATE_CHARS: usize = 48;

/// Prints all peers, worst first.
pub async fn list(context: &Context) -> anyhow::Result<()> {
    let peers = context.client.peers().await?;
    if context.json {
        return emit_json(&serde_json::to_value(&peers)?);
    }
    emit(&render(&peers, now_unix_ms()))
}

/// The table, and below it splits and alarms.
fn render(all: &PeersResponse, now: u64) -> String {
    let mut out = match all.peers.len() {
        0 => "no peers: this broker is alone\n".into(),
        _ => table(all, now).render(),
    };
    let called = |id: &str| called(all, id);
    for split in &all.splits {
        let (a, b) = (called(&split.a), called(&split.b));
        out.push_str(&format!(
            "split: {a} and {b} do not see each other, for {}\n",
            since(split.since_unix_ms, now)
        ));
    }
    for alarm in &all.alarms {
        out.push_str(&format!("alarm: {}\n", alarm.replace('\n', " ")));
    }
    out
}

fn table(all: &PeersResponse, now: u64) -> Table {
    let mut peers: Vec<&PeerView> = all.peers.iter().collect();
    // Stable: what is equally bad stays in the order of names.
    peers.sort_by_key(|peer| badness(peer, now));
    let mut table = Table::new(&["NAME", "STATE", "QUEUE", "BEHIND", "LAST COMPARED", "RTT", "NOTE"]);
    for peer in peers {
        table.row(vec![
            name(peer),
            short_state(peer, now),
            queue(&peer.queue),
            behind(peer),
            compared(peer, now),
            peer.rtt_ms.map_or("-".into(), |ms| format!("{ms:.1} ms")),
            note(peer),
        ]);
    }
    table
}

/// What a broker of this id is called.
pub fn called(all: &PeersResponse, id: &str) -> String {
    match all.peers.iter().find(|peer| peer.id == id) {
        Some(peer) => name(peer),
        None if all.broker == id => "this broker".into(),
        None => id.into(),
    }
}

fn name(peer: &PeerView) -> String {
    if peer.name.is_empty() { peer.id.clone() } else { peer.name.clone() }
}

/// Sorts the worst first: not connected, then known to lack something, then what waits for longest.
fn badness(peer: &PeerView, now: u64) -> (u8, Reverse<u64>) {
    let oldest = peer.queue.oldest_ms.unwrap_or(0);
    let away = now.saturating_sub(peer.last_contact_unix_ms);
    match () {
        () if peer.state == "down" => (0, Reverse(away)),
        () if peer.state != "up" => (1, Reverse(away)),
        () if peer.behind.is_some() => (2, Reverse(oldest)),
        () if peer.queue.records > 0 => (3, Reverse(oldest)),
        () if !peer.refusals.is_empty() => (4, Reverse(0)),
        () => (5, Reverse(0)),
    }
}

/// The state with an error of a length that leaves room for the other columns; `peer show` has all of it.
fn short_state(peer: &PeerView, now: u64) -> String {
    let whole = state(peer, now);
    match whole.char_indices().nth(STATE_CHARS) {
        Some((end, _)) => format!("{}…", whole[..end].trim_end()),
        None => whole,
    }
}

/// `up 3h`, `down 2d: connection refused`, `down, never reached`
pub fn state(peer: &PeerView, now: u64) -> String {
    let since = match (peer.state.as_str(), peer.up_since_unix_ms, peer.last_contact_unix_ms) {
        ("up", Some(up), _) => format!(" {}", since(up, now)),
        ("up", None, _) => String::new(),
        (_, _, 0) => ", never reached".into(),
        (_, _, last) => format!(" {}", since(last, now)),
    };
    let why = peer.last_error.as_ref().filter(|_| peer.state != "up");
    let why = why.map(|why| format!(": {why}")).unwrap_or_default();
    format!("{}{since}{why}", peer.state)
}

/// `12, oldest 3m`
pub fn queue(queue: &PeerQueueView) -> String {
    match (queue.records, queue.oldest_ms) {
        (0, _) => "-".into(),
        (records, Some(oldest)) => format!("{records}, oldest {}", age(oldest)),
        (records, None) => records.to_string(),
    }
}

/// Why it may lack more than what waits for it.
pub fn behind(peer: &PeerView) -> String {
    let dropped = || format!("expired: {} dropped", peer.queue.expired);
    let why = peer.behind.as_deref().map(|why| match why {
        "new" => "never compared yet".into(),
        "expired" => dropped(),
        "overflowed" => "too many waited at once".into(),
        "log_begun" => "this broker's log began anew".into(),
        other => other.replace('_', " "),
    });
    match (why, peer.comparing) {
        (Some(why), Some(received)) => format!("{why}; comparing, {received} received"),
        (Some(why), None) => why,
        (None, Some(received)) => format!("comparing, {received} received"),
        (None, None) => "-".into(),
    }
}

/// `3m ago`, `never`
pub fn compared(peer: &PeerView, now: u64) -> String {
    match peer.last_compared_unix_ms {
        0 => "never".into(),
        at => format!("{} ago", since(at, now)),
    }
}

/// `next try in 40s, 7 attempts, 2 refused`
fn note(peer: &PeerView) -> String {
    let mut parts = Vec::new();
    if peer.state != "up" {
        parts.extend(peer.next_try_ms.map(|ms| format!("next try in {}", age(ms))));
        parts.extend((peer.attempts > 0).then(|| counted(peer.attempts.into(), "attempt")));
    }
    parts.extend((peer.queue.paused > 0).then(|| format!("{} paused after a refusal", peer.queue.paused)));
    parts.extend((peer.queue.refused > 0).then(|| format!("{} refused for good", peer.queue.refused)));
    // Where that is why it is behind it stands there.
    let told = peer.behind.as_deref() == Some("expired");
    parts.extend((peer.queue.expired > 0 && !told).then(|| format!("{} expired", peer.queue.expired)));
    parts.join(", ")
}

fn counted(n: u64, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn since(then: u64, now: u64) -> String {
    age(now.saturating_sub(then))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_client::api::{RefusedRecordView, SplitView};

    const NOW: u64 = 1_760_000_000_000;
    const HOUR: u64 = 3_600_000;

    fn peer(name: &str) -> PeerView {
        PeerView {
            id: format!("nb1{name}"),
            name: name.into(),
            admin: false,
            domains: Vec::new(),
            via: None,
            addresses: Vec::new(),
            state: "up".into(),
            last_contact_unix_ms: NOW,
            up_since_unix_ms: Some(NOW - 3 * HOUR),
            attempts: 0,
            last_error: None,
            next_try_ms: None,
            rtt_ms: Some(12.34),
            queue: queue_of(0, None),
            behind: None,
            last_compared_unix_ms: NOW - 180_000,
            comparing: None,
            sees: Vec::new(),
            refusals: Vec::new(),
        }
    }

    fn queue_of(records: u64, oldest_ms: Option<u64>) -> PeerQueueView {
        PeerQueueView { records, paused: 0, in_flight_bytes: 0, oldest_ms, expired: 0, refused: 0 }
    }

    fn down(name: &str) -> PeerView {
        PeerView {
            state: "down".into(),
            last_contact_unix_ms: NOW - 48 * HOUR,
            up_since_unix_ms: None,
            attempts: 7,
            last_error: Some("connection refused".into()),
            next_try_ms: Some(40_000),
            rtt_ms: None,
            queue: queue_of(12, Some(47 * HOUR)),
            ..peer(name)
        }
    }

    fn response(peers: Vec<PeerView>) -> PeersResponse {
        PeersResponse {
            broker: "nb1own".into(),
            log_epoch: 1,
            log_position: 9,
            statements: 9,
            rights_digest: String::new(),
            digest: String::new(),
            peers,
            splits: Vec::new(),
            alarms: Vec::new(),
        }
    }

    #[test]
    fn the_worst_stands_first_with_how_far_it_is_behind_and_why() {
        let expired = PeerQueueView { expired: 30, ..queue_of(5, Some(HOUR)) };
        let behind = PeerView {
            queue: expired,
            behind: Some("expired".into()),
            comparing: Some(120),
            ..peer("behind")
        };
        let refused = RefusedRecordView {
            record: "mirror a.test/lon".into(),
            answer: "unauthorised".into(),
            why: "the domain has another owner".into(),
            at_unix_ms: NOW,
        };
        let sulks = PeerView {
            queue: PeerQueueView { refused: 1, expired: 2, ..queue_of(0, None) },
            refusals: vec![refused],
            ..peer("sulks")
        };
        let dialled = PeerView {
            state: "dialling".into(),
            last_contact_unix_ms: 0,
            last_compared_unix_ms: 0,
            behind: Some("new".into()),
            ..down("fresh")
        };
        let busy = PeerView { queue: queue_of(1, Some(2000)), ..peer("busy") };
        let mut all = response(vec![peer("calm"), busy, sulks, behind, dialled, down("gone")]);
        all.splits =
            vec![SplitView { a: "nb1gone".into(), b: "nb1own".into(), since_unix_ms: NOW - 2 * HOUR }];
        all.alarms = vec!["domain a.test is claimed twice\u{1b}".into()];
        let shown = crate::output::shown(&render(&all, NOW));
        assert_eq!(
            shown,
            "NAME    STATE                                        QUEUE          BEHIND                                        LAST COMPARED  RTT      NOTE\n\
             gone    down 2d: connection refused                  12, oldest 1d  -                                             3m ago         -        next try in 40s, 7 attempts\n\
             fresh   dialling, never reached: connection refused  12, oldest 1d  never compared yet                            never          -        next try in 40s, 7 attempts\n\
             behind  up 3h                                        5, oldest 1h   expired: 30 dropped; comparing, 120 received  3m ago         12.3 ms\n\
             busy    up 3h                                        1, oldest 2s   -                                             3m ago         12.3 ms\n\
             sulks   up 3h                                        -              -                                             3m ago         12.3 ms  1 refused for good, 2 expired\n\
             calm    up 3h                                        -              -                                             3m ago         12.3 ms\n\
             split: gone and this broker do not see each other, for 2h\n\
             alarm: domain a.test is claimed twice\\u{1b}\n"
        );
    }

    #[test]
    fn a_broker_that_is_alone_says_so_and_new_words_are_shown() {
        assert_eq!(render(&response(Vec::new()), NOW), "no peers: this broker is alone\n");
        let odd =
            PeerView { behind: Some("of_a_newer_broker".into()), last_compared_unix_ms: 0, ..peer("odd") };
        let shown = render(&response(vec![odd]), NOW);
        assert!(shown.contains("of a newer broker") && shown.contains("never"), "{shown}");
        let wordy = PeerView { last_error: Some("é".repeat(500)), ..down("wordy") };
        assert_eq!(short_state(&wordy, NOW), format!("down 2d: {}…", "é".repeat(39)));
    }
}
