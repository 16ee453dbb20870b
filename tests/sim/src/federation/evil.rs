//! A member that keeps to no rule: it speaks the protocol by hand, among honest brokers that are each other's
//! admins. It is granted one domain; the rest must not notice it.

use super::broker::{Broker, EPOCH_MS, Time};
use super::disk::Disk;
use super::oracle::Oracle;
use super::plan::{Theme, config};
use super::rights::{about, authorities, id, live};
use super::world::World;
use crate::rng::Rng;
use nearmost_replica::digest::View;
use nearmost_replica::message::{Answer, Message};
use nearmost_replica::{Authority, Body, Hlc, Kind, Record, RecordKey, SignedRecord, SigningKey};
use nearmost_wire::authority::Rights;
use nearmost_wire::identity::Role;
use nearmost_wire::registry::{BanBody, ClaimBody, GrantBody, GrantRole, PeerBody, PersonBody};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// How many are honest; the next one is not.
pub const HONEST: usize = 4;
/// The domain that is the owner's alone.
pub const OWN: &str = "own.example";
/// The domain that the attacker operates.
pub const SHARED: &str = "shared.example";

/// Whose key signs what the attacker makes up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// Its own, that of a member which is no admin.
    Member,
    /// That of an operator, stolen.
    Operator,
}

/// What the attacker says to what it hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Nothing.
    Silent,
    /// It takes everything, has everything, and passes nothing on.
    Withholding,
    /// Its tree never ends, and what is fetched from it never comes to an end.
    Endless,
    /// Everything is to be sent again.
    Retrying,
}

/// The brokers, and the one among them.
pub struct Scene {
    /// All of it.
    pub world: World<Rights>,
    /// The owner of both domains.
    pub owner: SigningKey,
    /// What the attacker signs with.
    pub signer: SigningKey,
    /// What it heard, with whom from.
    pub heard: Rc<RefCell<Vec<(usize, Message)>>>,
    /// What it says to what it hears.
    pub manner: Rc<Cell<Manner>>,
    next_number: u64,
    next_batch: u64,
}

impl Scene {
    /// Honest brokers that know each other, and the attacker connected with all of them.
    pub fn new(seed: u64, theme: Theme, signer: Signer) -> Scene {
        let rng = Rng::new(seed);
        let key = |n: usize| SigningKey::from_seed(&[n as u8 + 1; 32]);
        let brokers: Vec<_> = (0..=HONEST).map(|n| Broker::new(key(n), 0, n as u64)).collect();
        let authorities = authorities(brokers.iter().map(Broker::id).collect());
        let mut world = World::new(brokers, config(theme), rng.fork(1), authorities);
        world.allowed.refusals = true;
        let (heard, manner) = (Rc::default(), Rc::new(Cell::new(Manner::Silent)));
        world.puppets.insert(HONEST, puppet(Rc::clone(&heard), Rc::clone(&manner), rng.fork(2)));
        let signer = if signer == Signer::Member { key(HONEST) } else { key(101) };
        let owner = key(100);
        let mut scene = Scene { world, owner, signer, heard, manner, next_number: 0, next_batch: 0 };
        scene.begin();
        scene
    }

    fn begin(&mut self) {
        (0..HONEST).for_each(|n| self.world.start(n));
        for (by, of) in (0..HONEST).flat_map(|a| (0..=HONEST).map(move |b| (a, b))).filter(|(a, b)| a != b) {
            let body = PeerBody { name: format!("b{of}"), admin: of < HONEST, ..PeerBody::default() };
            let broker = id(Role::Broker, self.world.brokers[of].id());
            self.state(by, about(Kind::PEER, "", broker), live(&body), false);
        }
        // Nobody vouches for the operator: a person of an admin's would be one itself.
        let owner = id(Role::Person, self.owner.public());
        self.state(0, about(Kind::PERSON, "", owner), live(&PersonBody { name: String::new() }), false);
        for domain in [OWN, SHARED] {
            self.state(0, about(Kind::CLAIM, domain, String::new()), live(&ClaimBody {}), true);
        }
        self.grant(0, true);
        self.pass(60_000);
    }

    /// The owner gives the attacker its grant, or takes it back, at a broker.
    pub fn grant(&mut self, broker: usize, given: bool) {
        let body = GrantBody { role: GrantRole::Operator, kinds: vec![], from_unix_ms: 0, until_unix_ms: 0 };
        let body = if given { live(&body) } else { Body::Tombstone };
        let to = id(Role::Person, self.signer.public());
        self.state(broker, about(Kind::GRANT, SHARED, to), body, true);
    }

    /// The owner refuses the attacker in the shared domain until then.
    pub fn ban(&mut self, until_unix_ms: u64) {
        let bytes = BanBody { until_unix_ms, reason: "noise".into() }.encode();
        let of = id(Role::Person, self.signer.public());
        self.state(2, about(Kind::BAN, SHARED, of), Body::Live { version: 1, bytes }, true);
    }

    /// An honest broker states something, with its own key or the owner's.
    pub fn state(&mut self, broker: usize, key: RecordKey, body: Body, owner: bool) -> SignedRecord {
        self.next_number += 1;
        let owner = owner.then_some((&self.owner, self.next_number));
        let signed = self.world.brokers[broker].write(key.clone(), body, owner, self.world.time);
        let signed = signed.unwrap_or_else(|| panic!("an honest write was refused: {key}"));
        self.world.oracle.acknowledged(&signed);
        self.world.pump(broker);
        signed
    }

    /// An honest broker writes the owner's word of a mirror.
    pub fn mirror(&mut self, broker: usize, domain: &str, name: &str, body: Body) -> SignedRecord {
        self.state(broker, about(Kind::MIRROR, domain, name.into()), body, true)
    }

    /// A while passes in which every honest broker writes now and then.
    pub fn busy(&mut self, rounds: usize) {
        for n in 0..rounds {
            self.mirror(n % HONEST, OWN, &format!("k{}", n % 7), some());
            self.mirror(n % HONEST, SHARED, &format!("o{}", n % 3), some());
            self.pass(15_000);
        }
    }

    /// The attacker changes its manner, and everybody connects with it anew.
    pub fn turn(&mut self, manner: Manner) {
        self.manner.set(manner);
        (0..HONEST).for_each(|n| self.world.reset(n, HONEST));
        self.pass(60_000);
    }

    /// Time passes.
    pub fn pass(&mut self, ms: Time) {
        self.world.run_until(self.world.time + ms);
    }

    /// The wall clock.
    pub fn unix_ms(&self) -> u64 {
        EPOCH_MS + self.world.time
    }

    /// A statement of the attacker's about a mirror, under any number and of any moment.
    pub fn says(&self, scope: &str, name: &str, seq: u64, at_unix_ms: u64) -> SignedRecord {
        self.signs(Kind::MIRROR, scope, name, seq, at_unix_ms, 8)
    }

    /// The attacker's word that a mirror is gone.
    pub fn removes(&self, scope: &str, name: &str, seq: u64, at_unix_ms: u64) -> SignedRecord {
        let record = self.says(scope, name, seq, at_unix_ms).record().clone();
        let gone = SignedRecord::sign(Record { body: Body::Tombstone, ..record }, &self.signer);
        gone.unwrap_or_else(|error| panic!("{error}"))
    }

    /// A statement of the attacker's of any kind and size.
    pub fn signs(
        &self,
        kind: Kind,
        scope: &str,
        name: &str,
        seq: u64,
        at: u64,
        bytes: usize,
    ) -> SignedRecord {
        let record = Record {
            kind,
            scope: scope.into(),
            id: name.into(),
            body: Body::Live { version: 1, bytes: vec![seq as u8; bytes] },
            hlc: Hlc { millis: at, counter: 0 },
            author: self.signer.public(),
            author_epoch: 7,
            author_seq: seq,
            grants: vec![],
        };
        SignedRecord::sign(record, &self.signer).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The attacker delivers bytes.
    pub fn deliver(&mut self, to: usize, records: impl IntoIterator<Item = Vec<u8>>) {
        self.next_batch += 1;
        let records = records.into_iter().collect();
        self.world.say(HONEST, to, Message::Deliver { batch: self.next_batch, records });
    }

    /// Everything that the attacker was answered since it was last asked.
    pub fn answers(&mut self) -> Vec<Answer> {
        let heard = self.heard.take().into_iter();
        let answers = heard.filter_map(|(_, message)| match message {
            Message::Answers { answers, .. } => Some(answers),
            _ => None,
        });
        answers.flatten().collect()
    }

    /// Whether an honest broker shows this very statement.
    pub fn shows(&self, broker: usize, signed: &SignedRecord) -> bool {
        let running = self.world.brokers[broker].running.as_ref();
        running.is_some_and(|r| r.set.visible(&signed.record().key(), self.unix_ms()) == Some(signed))
    }

    /// A broker's disk.
    pub fn disk(&self, broker: usize) -> &Disk {
        &self.world.brokers[broker].disk
    }

    /// The honest go on, become equal, hold all that was acknowledged, and of the attacker what it was
    /// granted and nothing else.
    pub fn finish(&mut self, step: Time) {
        self.busy(8);
        for _ in 0..60 {
            self.pass(step);
            if Oracle::is_equal(&self.world.brokers) {
                break;
            }
        }
        self.world.oracle.check_converged(&self.world.brokers, self.unix_ms());
        for running in self.world.brokers.iter().filter_map(|b| b.running.as_ref()) {
            let told = running.set.statements().map(SignedRecord::record);
            for record in told.filter(|r| r.author == self.signer.public()) {
                assert_eq!((record.kind, record.scope.as_str()), (Kind::MIRROR, SHARED), "{record:?}");
            }
            let own = running.set.all_visible(self.unix_ms()).filter(|(key, _)| key.scope == OWN);
            own.for_each(|(key, s)| assert_eq!(s.record().author, self.owner.public(), "{key}"));
            assert!(running.set.authority().is_member(&self.world.brokers[0].id()));
            assert!(running.set.authority().banned(&self.owner.public(), OWN, self.unix_ms()).is_none());
        }
    }
}

/// A body.
pub fn some() -> Body {
    Body::Live { version: 1, bytes: vec![1; 8] }
}

fn puppet(
    heard: Rc<RefCell<Vec<(usize, Message)>>>,
    manner: Rc<Cell<Manner>>,
    mut rng: Rng,
) -> super::world::Puppet {
    Box::new(move |_, from, message| {
        let Some(message) = message else { return Vec::new() };
        let said = match manner.get() {
            Manner::Silent => Vec::new(),
            Manner::Withholding => withhold(&message),
            Manner::Endless => never_end(&message, &mut rng),
            Manner::Retrying => retry(&message),
        };
        heard.borrow_mut().push((from, message));
        said.into_iter().map(|message| (from, message)).collect()
    })
}

fn withhold(message: &Message) -> Vec<Message> {
    match message {
        Message::Deliver { batch, records } => {
            vec![Message::Answers { batch: *batch, answers: vec![Answer::Applied; records.len()] }]
        }
        Message::Compare { tree, .. } => vec![Message::Same { tree: *tree }],
        _ => vec![],
    }
}

fn retry(message: &Message) -> Vec<Message> {
    match message {
        Message::Deliver { batch, records } => vec![
            Message::Answers { batch: *batch, answers: vec![Answer::MissingGrant; records.len()] },
            // Whatever pauses is tried again at once.
            Message::Announce { boot: *batch },
        ],
        other => withhold(other),
    }
}

fn never_end(message: &Message, rng: &mut Rng) -> Vec<Message> {
    let mut hash = || -> [u8; 16] { (u128::from(rng.bits()) << 64 | 1).to_be_bytes() };
    let mut view = || View::Inner(Box::new(std::array::from_fn(|_| hash())));
    match message {
        Message::Compare { tree, .. } => {
            vec![Message::Told { tree: *tree, part: nearmost_replica::digest::Prefix::ROOT, view: view() }]
        }
        Message::Ask { tree, parts } => {
            parts.iter().map(|part| Message::Told { tree: *tree, part: *part, view: view() }).collect()
        }
        Message::Take { tree, .. } | Message::Fetch { tree, .. } => {
            vec![Message::Records { tree: *tree, records: vec![], done: rng.chance(0.9) }]
        }
        _ => vec![],
    }
}
