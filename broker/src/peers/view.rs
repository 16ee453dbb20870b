//! What people are told of peers.

use super::task::{Line, why_of};
use crate::registrar::MemberInfo;
use data_encoding::HEXLOWER;
use nearmost_replica::federation::PeerStatus;
use nearmost_replica::peer::Link;
use nearmost_replica::set::Tree;
use nearmost_replica::{Federation, Now, PublicKey, StatementSet};
use nearmost_wire::api::{PeerQueueView, PeerView, PeersResponse, RefusedRecordView, SplitView};
use nearmost_wire::authority::Rights;
use nearmost_wire::identity::{Id, Role};
use std::collections::{BTreeMap, HashMap};

/// Pairs of members that do not see each other, and since when that is known here.
#[derive(Debug, Default)]
pub(super) struct Splits(BTreeMap<(PublicKey, PublicKey), u64>);

impl Splits {
    /// Looks who of the connected does not see whom.
    pub fn look(&mut self, peers: &[PeerStatus], now_unix_ms: u64) {
        let up: Vec<&PeerStatus> = peers.iter().filter(|p| matches!(p.link, Link::Up { .. })).collect();
        let mut found = BTreeMap::new();
        for a in &up {
            // One that has said nothing yet has said nothing against anybody.
            for b in peers.iter().filter(|b| !a.sees.is_empty() && b.key != a.key && !a.sees.contains(&b.key))
            {
                let pair = (a.key.min(b.key), a.key.max(b.key));
                found.insert(pair, self.0.get(&pair).copied().unwrap_or(now_unix_ms));
            }
        }
        self.0 = found;
    }
}

fn id(key: &PublicKey) -> String {
    Id { role: Role::Broker, key: key.0 }.to_string()
}

/// Everything at one moment.
pub(super) fn response(
    own: Id,
    federation: &Federation,
    set: &StatementSet<Rights>,
    members: &[MemberInfo],
    lines: &HashMap<PublicKey, Line>,
    splits: &Splits,
    now: Now,
) -> PeersResponse {
    let status = federation.status(now);
    let mut peers: Vec<PeerView> = status
        .iter()
        .map(|status| {
            let member = members.iter().find(|m| m.key == status.key);
            let rtt = lines.get(&status.key).map(|line| line.connection.rtt());
            peer(status, member, rtt.map(|rtt| rtt.as_secs_f64() * 1000.0))
        })
        .collect();
    peers.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
    let split = |((a, b), since): (&(PublicKey, PublicKey), &u64)| SplitView {
        a: id(a),
        b: id(b),
        since_unix_ms: *since,
    };
    PeersResponse {
        broker: own.to_string(),
        log_epoch: federation.log().epoch,
        log_position: federation.log().position,
        statements: set.len() as u64,
        rights_digest: HEXLOWER.encode(&set.tree(Tree::Rights).root()),
        digest: HEXLOWER.encode(&set.tree(Tree::Rest).root()),
        peers,
        splits: splits.0.iter().map(split).collect(),
        alarms: alarms(set),
    }
}

fn peer(status: &PeerStatus, member: Option<&MemberInfo>, rtt_ms: Option<f64>) -> PeerView {
    let (state, up_since_unix_ms) = match status.link {
        Link::Up { since_unix_ms } => ("up", Some(since_unix_ms)),
        Link::Dialling => ("dialling", None),
        Link::Down { .. } => ("down", None),
    };
    let standing = &status.standing;
    PeerView {
        id: id(&status.key),
        name: member.map(|m| m.name.clone()).unwrap_or_default(),
        admin: member.is_some_and(|m| m.admin),
        domains: member.map(|m| m.domains.clone()).unwrap_or_default(),
        via: member.and_then(|m| m.via.as_ref()).map(id),
        addresses: member.map(|m| m.addresses.clone()).unwrap_or_default(),
        state: state.into(),
        last_contact_unix_ms: status.state.last_contact_unix_ms,
        up_since_unix_ms,
        attempts: status.dialling.attempts,
        last_error: status.dialling.last_error.clone(),
        next_try_ms: status.dial_in_ms,
        rtt_ms,
        queue: PeerQueueView {
            records: standing.queued as u64,
            paused: standing.paused as u64,
            in_flight_bytes: standing.in_flight_bytes as u64,
            oldest_ms: standing.oldest_ms,
            expired: status.state.expired,
            refused: standing.refusals,
        },
        behind: status.state.behind.map(|behind| behind.label().into()),
        last_compared_unix_ms: status.state.last_compared_unix_ms,
        comparing: status.comparing.map(|(_, found)| found.received),
        sees: status.sees.iter().map(id).collect(),
        refusals: status.refused.iter().map(refusal).collect(),
    }
}

fn refusal(item: &nearmost_replica::outbox::RefusedItem) -> RefusedRecordView {
    RefusedRecordView {
        record: format!("{:?}", item.slot),
        answer: item.answer.label().into(),
        why: why_of(&item.answer),
        at_unix_ms: item.at_unix_ms,
    }
}

fn alarms(set: &StatementSet<Rights>) -> Vec<String> {
    let contested = set.authority().contested().into_iter().map(|contest| {
        let claimants: Vec<String> =
            contest.claimants.iter().map(|key| Id { role: Role::Person, key: key.0 }.to_string()).collect();
        format!("{} is claimed by {}; the earliest claim stands", contest.domain, claimants.join(" and "))
    });
    let forked = set.forked().map(|author| {
        format!(
            "{author} has stated two things under one number: what it states from there on counts no longer"
        )
    });
    contested.chain(forked).collect()
}
