//! `nearmost domain dnssec …`: what a domain is signed with.

use crate::broker::Context;
use crate::change::{make, view};
use crate::output::{emit, emit_json, notice};
use crate::table::Table;
use anyhow::{anyhow, bail};
use clap::Args;
use nearmost_client::ClientError;
use nearmost_client::api::{DnssecResponse, PeerView};
use nearmost_client::clock::now_unix_ms;
use nearmost_client::moment;
use nearmost_client::registry::dnssec::{KeyChange, next_generation, plan};
use nearmost_client::registry::{EntryKey, RegistryView, ZoneKeyBody};
use nearmost_client::text::printable;

/// What is to happen to the keys of the broker's site; without, they are shown.
#[derive(Debug, Args)]
pub struct DnssecArgs {
    /// The domain, which is a zone of its own
    name: String,
    #[command(flatten)]
    change: DnssecChange,
    /// With --ds-seen: without these brokers, names or ids, which stand in the delegation no more
    #[arg(long, requires = "ds_seen", value_name = "PEER", value_delimiter = ',')]
    without: Vec<String>,
    /// With --ds-seen: although any other broker may not serve the new key yet
    #[arg(long, requires = "ds_seen", conflicts_with = "without")]
    anyway: bool,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct DnssecChange {
    /// Sign it from now on. Its parent is given the DS once this command shows one
    #[arg(long)]
    enable: bool,
    /// Make a new key that takes the place of the active one
    #[arg(long)]
    roll: bool,
    /// The parent has the DS of the newest key now
    #[arg(long)]
    ds_seen: bool,
    /// Sign it no longer. First the DS goes from the parent, then say --ds-gone
    #[arg(long)]
    disable: bool,
    /// The parent has no DS any more
    #[arg(long)]
    ds_gone: bool,
}

impl DnssecChange {
    fn wanted(&self) -> Option<(KeyChange, &'static str)> {
        let all = [
            (self.enable, KeyChange::Enable, "sign"),
            (self.roll, KeyChange::Roll, "roll the key of"),
            (self.ds_seen, KeyChange::DsSeen, "DS seen of"),
            (self.disable, KeyChange::Disable, "sign no longer"),
            (self.ds_gone, KeyChange::DsGone, "DS gone of"),
        ];
        all.into_iter().find(|(given, ..)| *given).map(|(_, change, note)| (change, note))
    }
}

/// Shows the keys of a domain, or changes those of the broker's site.
pub async fn dnssec(context: &Context, args: &DnssecArgs) -> anyhow::Result<()> {
    let key = EntryKey::domain(&args.name)?;
    let Some((change, note)) = args.change.wanted() else {
        return show(context, &context.client.dnssec(&key.scope, None).await?);
    };
    let told = context.client.dnssec(&key.scope, None).await?;
    let held = view(context).await?;
    if change == KeyChange::DsSeen && !args.anyway {
        let keys: Vec<_> = held.zone_keys(&told.domain).map(|(key, body)| (key.id.as_str(), body)).collect();
        // One that waits for its time is refused for that, and where there is none for that.
        if let Some(waiting) = Waiting::find(&told.site, &keys, now_unix_ms()) {
            known_everywhere(context, &waiting, &args.without).await?;
        }
    }
    let next = next_generation(&held, &key.scope, &told.site);
    let told = context.client.dnssec(&key.scope, Some(next)).await?;
    let planned = |view: &RegistryView| plan(view, &told, change, now_unix_ms());
    make(context, &format!("{note} {key}"), planned).await
}

/// Refuses where another broker may serve a key set without the key that is about to sign: whoever has that set
/// in its cache does not believe what the key signs (RFC 8901 §6).
async fn known_everywhere(context: &Context, key: &Waiting, without: &[String]) -> anyhow::Result<()> {
    match context.client.peers().await {
        Ok(told) => match lagging(&told.peers, key, without, now_unix_ms())? {
            Some(why) => bail!("{why}"),
            None => Ok(()),
        },
        // Whoever may change the keys of a domain need not be one who may look at the federation.
        Err(ClientError::Api { status: 401 | 403, message, .. }) => {
            notice(context.json, &format!("warning: cannot see whether all brokers know the key: {message}"));
            Ok(())
        }
        Err(error) => {
            Err(anyhow!(error).context("cannot see whether all brokers know the key; --anyway does not look"))
        }
    }
}

/// A key that is about to sign.
struct Waiting {
    id: String,
    /// When it was made, Unix milliseconds.
    since_unix_ms: u64,
    /// How long caches may keep a key set from before, in milliseconds: half of the shortest hold, an hour at most.
    cached_ms: u64,
}

impl Waiting {
    /// The newest of a site that was published for long enough; `keys` are those of all sites, by their names.
    fn find(site: &str, keys: &[(&str, &ZoneKeyBody)], now_unix_ms: u64) -> Option<Waiting> {
        let own = |id: &str| id.strip_prefix(site).is_some_and(|number| number.starts_with('-'));
        let until =
            |body: &ZoneKeyBody| body.since_unix_ms.saturating_add(body.publish_hold_s.saturating_mul(1000));
        let ready = keys
            .iter()
            .filter(|(id, body)| own(id) && body.stage == "published" && until(body) <= now_unix_ms);
        let (id, body) = ready.max_by_key(|(_, body)| body.since_unix_ms)?;
        let hold_s = keys.iter().map(|(_, body)| body.publish_hold_s).min()?;
        let cached_ms = hold_s.saturating_mul(500).min(3_600_000);
        Some(Waiting { id: (*id).to_owned(), since_unix_ms: body.since_unix_ms, cached_ms })
    }

    /// Why a broker's key set in caches may be one without this key.
    fn missed_by(&self, peer: &PeerView, now_unix_ms: u64) -> Option<String> {
        if peer.queue.records > 0 || peer.behind.is_some() {
            return Some("was not told all".into());
        }
        if let Some(refused) = peer.refusals.iter().rev().find(|r| r.at_unix_ms >= self.since_unix_ms) {
            return Some(format!("refused a record, {}", printable(&refused.why)));
        }
        // What is queued is this broker's own word: another may have made the key, or have had to tell of it.
        if peer.last_compared_unix_ms < self.since_unix_ms {
            return Some("was not compared with since the key was made".into());
        }
        let known = match peer.up_since_unix_ms {
            Some(up) => up.max(self.since_unix_ms),
            None => peer.last_compared_unix_ms,
        };
        let wait = (known + self.cached_ms).saturating_sub(now_unix_ms);
        (wait > 0).then(|| {
            let wait = wait.div_ceil(1000);
            format!("may have had other keys until lately, which caches keep for {wait} s more")
        })
    }
}

/// Why keys should not change now: which brokers may serve, or have lately served, a key set without this one.
///
/// # Errors
/// When `without` names none of them.
fn lagging(
    peers: &[PeerView],
    key: &Waiting,
    without: &[String],
    now_unix_ms: u64,
) -> anyhow::Result<Option<String>> {
    let named = |peer: &PeerView, name: &String| peer.name == *name || peer.id == *name;
    if let Some(none) = without.iter().find(|name| !peers.iter().any(|peer| named(peer, name))) {
        bail!("there is no peer {}; `nearmost peer list` shows them", printable(none));
    }
    let asked = peers.iter().filter(|peer| !without.iter().any(|name| named(peer, name)));
    let missed = |peer: &PeerView| Some((printable(&peer.name), key.missed_by(peer, now_unix_ms)?));
    let missing: Vec<(String, String)> = asked.filter_map(missed).collect();
    let Some((first, _)) = missing.first() else { return Ok(None) };
    let all: Vec<String> = missing.iter().map(|(name, why)| format!("{name} {why}")).collect();
    Ok(Some(format!(
        "the key {} may not be everywhere: {}. From brokers that serve keys without it resolvers get what makes them \
         refuse its answers. Wait until `nearmost peer list` shows that they were told and compared; or take a broker \
         out of the delegation, and say --without {first}, or `nearmost peer remove {first}` if it is gone for good",
        printable(&key.id),
        all.join("; ")
    )))
}

fn show(context: &Context, told: &DnssecResponse) -> anyhow::Result<()> {
    if context.json {
        return emit_json(&serde_json::to_value(told)?);
    }
    if told.keys.is_empty() {
        return emit(&format!("{} is not signed\n", told.domain));
    }
    let mut table = Table::new(&["KEY", "TAG", "STAGE", "UNTIL", "THEN", "WHOSE"]);
    for key in &told.keys {
        let whose = if key.own { "this site's" } else { "another site's" };
        table.row(vec![
            key.id.clone(),
            key.tag.to_string(),
            key.stage.clone(),
            key.until_unix_ms.map(moment::show).unwrap_or_default(),
            key.next_stage.clone().unwrap_or_default(),
            whose.into(),
        ]);
    }
    let mut text = table.render();
    for key in &told.keys {
        text.push_str(&format!("{}. DNSKEY {}\n", told.domain, key.dnskey));
    }
    for key in told.keys.iter().filter(|k| !k.ds.is_empty() && matches!(k.stage.as_str(), "ready" | "active"))
    {
        text.push_str(&format!("{}. DS {}\n", told.domain, key.ds));
    }
    emit(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_client::api::{PeerQueueView, RefusedRecordView};

    fn peer(name: &str, records: u64, behind: Option<&str>) -> PeerView {
        PeerView {
            id: format!("nb1{name}"),
            name: name.into(),
            admin: false,
            domains: Vec::new(),
            via: None,
            addresses: Vec::new(),
            state: "down".into(),
            last_contact_unix_ms: 0,
            up_since_unix_ms: None,
            attempts: 0,
            last_error: None,
            next_try_ms: None,
            rtt_ms: None,
            queue: PeerQueueView {
                records,
                paused: 0,
                in_flight_bytes: 0,
                oldest_ms: None,
                expired: 0,
                refused: 0,
            },
            behind: behind.map(str::to_owned),
            last_compared_unix_ms: 0,
            comparing: None,
            sees: Vec::new(),
            refusals: Vec::new(),
        }
    }

    const SINCE: u64 = 1_000_000;
    const NOW: u64 = 9_000_000;

    fn key() -> Waiting {
        Waiting { id: "a2b3-1".into(), since_unix_ms: SINCE, cached_ms: 3_600_000 }
    }

    /// One that was told all, long ago.
    fn told(name: &str) -> PeerView {
        PeerView { last_compared_unix_ms: SINCE + 1, ..peer(name, 0, None) }
    }

    fn why(peers: &[PeerView], without: &[&str]) -> Option<String> {
        let without: Vec<String> = without.iter().map(|name| (*name).to_owned()).collect();
        lagging(peers, &key(), &without, NOW).expect("they are known")
    }

    #[test]
    fn a_key_waits_for_brokers_that_were_not_told_all() {
        // Whoever is down and was told all serves the key when it is back.
        assert_eq!(why(&[told("amy")], &[]), None);
        let bob = PeerView { queue: PeerQueueView { records: 2, ..told("bob").queue }, ..told("bob") };
        let cat = PeerView { behind: Some("expired".into()), ..told("cat") };
        let why = why(&[told("amy"), bob, cat], &[]).expect("two lag");
        assert!(why.contains("bob was not told all; cat was not told all."), "{why}");
        assert!(!why.contains("amy"), "{why}");
    }

    #[test]
    fn a_key_waits_for_brokers_that_others_had_to_tell_or_that_refused_it() {
        let before = PeerView { last_compared_unix_ms: SINCE - 1, ..told("bob") };
        let said = why(&[before], &[]).expect("nobody knows");
        assert!(said.contains("bob was not compared with since the key was made"), "{said}");
        let refusal = |at_unix_ms| RefusedRecordView {
            record: "r".into(),
            answer: "unauthorised".into(),
            why: "it may not".into(),
            at_unix_ms,
        };
        let refused = |at| PeerView { refusals: vec![refusal(at)], ..told("bob") };
        let said = why(&[refused(SINCE)], &[]).expect("it refused");
        assert!(said.contains("bob refused a record, it may not"), "{said}");
        // What it refused before is something else.
        assert_eq!(why(&[refused(SINCE - 1)], &[]), None);
    }

    #[test]
    fn a_key_waits_for_caches_that_have_what_a_broker_served_before_it_was_back() {
        let up = |since| PeerView {
            state: "up".into(),
            up_since_unix_ms: Some(since),
            last_compared_unix_ms: NOW - 1,
            ..told("bob")
        };
        let said = why(&[up(NOW - 600_000)], &[]).expect("it was away");
        assert!(said.contains("caches keep for 3000 s more"), "{said}");
        assert_eq!(why(&[up(NOW - 3_600_000)], &[]), None);
        // It was there when the key was made.
        assert_eq!(why(&[up(SINCE - 1)], &[]), None);
        // It was told, and is gone since.
        let gone = PeerView { last_compared_unix_ms: NOW - 600_000, ..told("bob") };
        assert!(why(&[gone], &[]).is_some());
    }

    #[test]
    fn brokers_are_left_out_by_name_and_by_id_and_those_that_were_removed_are_not_asked() {
        let (bob, cat) = (peer("bob", 1, None), peer("cat", 1, None));
        let all = [told("amy"), bob, cat];
        let said = why(&all, &["bob"]).expect("the other lags");
        assert!(said.contains("cat was not told all.") && !said.contains("bob"), "{said}");
        assert!(said.contains("--without cat, or `nearmost peer remove cat`"), "{said}");
        assert_eq!(why(&all, &["bob", "nb1cat"]), None);
        assert_eq!(why(&all[..1], &[]), None);
        let unknown = lagging(&all, &key(), &["dan".to_owned()], NOW).expect_err("there is none");
        assert!(unknown.to_string().starts_with("there is no peer dan"), "{unknown}");
    }

    #[test]
    fn the_key_that_waits_is_the_one_that_is_ready() {
        let body = ZoneKeyBody {
            public: String::new(),
            stage: "published".into(),
            since_unix_ms: SINCE,
            publish_hold_s: 60,
            retire_hold_s: 60,
        };
        let other = ZoneKeyBody { since_unix_ms: SINCE + 1, publish_hold_s: 40, ..body.clone() };
        let keys = [("a2b3c4d5-1", &body), ("z2b3c4d5-1", &other)];
        let ready = SINCE + 60_000;
        let found = Waiting::find("a2b3c4d5", &keys, ready).expect("it waits");
        assert_eq!((found.id.as_str(), found.since_unix_ms, found.cached_ms), ("a2b3c4d5-1", SINCE, 20_000));
        assert!(Waiting::find("a2b3c4d5", &keys, ready - 1).is_none(), "not yet");
        assert!(Waiting::find("a2b3", &keys, ready).is_none(), "of another site");
        let active = ZoneKeyBody { stage: "active".into(), ..body };
        assert!(Waiting::find("a2b3c4d5", &[("a2b3c4d5-1", &active)], ready).is_none());
    }
}
