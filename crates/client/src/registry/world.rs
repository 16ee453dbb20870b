//! A broker with its statements, for tests of what is planned against them.

use super::commit::Author;
use super::entry::{Content, EntryKey};
use super::held::Held;
use super::sign::{Signer, Stamp, to_view};
use super::statements::{StatementPlan, about_id, live};
use nearmost_replica::{Body, Kind, RecordKey, SignedRecord};
use nearmost_wire::api::RegistryResponse;
use nearmost_wire::identity::{KeyPair, Role};
use nearmost_wire::registry::{DomainBody, PeerBody, PersonBody};

/// When it is asked, Unix milliseconds.
pub(super) const NOW: u64 = 1_760_000_000_000;

pub(super) struct World {
    pub(super) broker: KeyPair,
    pub(super) ada: KeyPair,
    pub(super) records: Vec<SignedRecord>,
}

pub(super) fn person(seed: u8) -> KeyPair {
    KeyPair::from_seed(Role::Person, &[seed; 32])
}

impl World {
    /// The broker, and Ada, whose home it is.
    pub(super) fn new() -> World {
        let broker = KeyPair::from_seed(Role::Broker, &[200; 32]);
        let mut world = World { broker, ada: person(1), records: Vec::new() };
        world.vouch(&person(1), "ada");
        world
    }

    pub(super) fn state(&mut self, by: &KeyPair, about: RecordKey, body: Body) {
        let newest = self.records.iter().map(|r| r.record().hlc).max().unwrap_or_default();
        let stamp = Stamp { now_unix_ms: NOW - 1000, first_seq: self.records.len() as u64 };
        self.records.push(Signer::new(newest, stamp).sign(by, about, body).unwrap());
    }

    pub(super) fn vouch(&mut self, person: &KeyPair, name: &str) {
        let body = serde_json::to_vec(&PersonBody { name: name.into() }).unwrap();
        self.state(&self.broker.clone(), EntryKey::person(&person.id()).record_key(), live(body));
    }

    pub(super) fn peer(&mut self, by: &KeyPair, peer: &KeyPair, body: &PeerBody) {
        let body = live(serde_json::to_vec(body).unwrap());
        self.state(by, about_id(Kind::PEER, "", &peer.id()), body);
    }

    pub(super) fn domain(&mut self, by: &KeyPair, name: &str, answers: u8) {
        let content = Content::Domain(DomainBody { answers, ..DomainBody::default() });
        let about = EntryKey::domain(name).unwrap().record_key();
        self.state(by, about, live(content.to_json().unwrap()));
    }

    pub(super) fn held(&self) -> Held {
        let newest = self.records.iter().map(|r| r.record().hlc).max().unwrap_or_default();
        let response = RegistryResponse {
            broker: self.broker.id().to_string(),
            version: 1,
            hlc_millis: newest.millis,
            hlc_counter: newest.counter,
            author_epoch: 0,
            author_next_seq: 0,
            records: self.records.iter().map(to_view).collect(),
        };
        Held::decode(&response, NOW).unwrap()
    }

    /// Carries out a plan; every statement of it counts.
    pub(super) fn carry_out(&mut self, plan: &StatementPlan, by: &KeyPair, heir: Option<&KeyPair>) {
        let author = Author { key: by, name: "", note: "" };
        let stamp = Stamp { now_unix_ms: NOW - 1000, first_seq: 1000 + self.records.len() as u64 };
        let signed = plan.sign(&self.held(), &author, heir, &[], stamp).unwrap();
        self.records.extend(signed.iter().cloned());
        let held = self.held();
        for record in signed.iter().map(SignedRecord::record) {
            let judged = nearmost_replica::Authority::admits(held.rights(), record);
            assert!(judged.is_admitted(), "{}: {judged:?}", record.key());
        }
    }
}
