//! One broker of the simulation: what runs, and what outlives it.

use super::disk::Disk;
use nearmost_replica::authority::Authority;
use nearmost_replica::federation::{FederationConfig, LogHead, Stored};
use nearmost_replica::hlc::{DEFAULT_MAX_AHEAD, HlcClock};
use nearmost_replica::message::Answer;
use nearmost_replica::set::{Changes, slot_of_record};
use nearmost_replica::{
    Body, Federation, Now, PublicKey, Record, RecordKey, SignedRecord, SigningKey, StatementSet,
};

/// A running process.
pub struct Running<A> {
    /// What it holds.
    pub set: StatementSet<A>,
    /// Its machine.
    pub machine: Federation,
    clock: HlcClock,
    epoch: u32,
    next_seq: u64,
}

/// A broker, running or not.
pub struct Broker<A> {
    /// Its key.
    pub key: SigningKey,
    /// How wrong its wall clock is, in milliseconds.
    pub skew_ms: i64,
    /// What outlives the process.
    pub disk: Disk,
    /// The process.
    pub running: Option<Running<A>>,
    /// Grows with each process, so that what was meant for one does not reach the next.
    pub life: u64,
}

/// Time of the world, in milliseconds: the true wall clock is this much later than [`EPOCH_MS`].
pub type Time = u64;

/// When the world begins, in milliseconds since the Unix epoch.
pub const EPOCH_MS: u64 = 1_790_000_000_000;

impl<A: Authority> Broker<A> {
    /// One that is not running.
    pub fn new(key: SigningKey, skew_ms: i64, log_epoch: u64) -> Self {
        Broker { key, skew_ms, disk: Disk::new(log_epoch), running: None, life: 0 }
    }

    /// Its public key.
    pub fn id(&self) -> PublicKey {
        self.key.public()
    }

    /// Its clocks.
    pub fn now(&self, time: Time) -> Now {
        Now { mono_ms: time, unix_ms: (EPOCH_MS + time).saturating_add_signed(self.skew_ms) }
    }

    /// Starts the process from the disk.
    pub fn start(&mut self, authority: A, peers: &[PublicKey], config: &FederationConfig, time: Time) {
        let now = self.now(time);
        self.life += 1;
        let number = |a: &SignedRecord| (a.record().author_epoch, a.record().author_seq);
        let forked: Vec<_> = self.disk.forks.iter().map(|(author, (a, _))| (*author, number(a))).collect();
        let held = self.disk.statements.values().cloned();
        let set = StatementSet::new(authority, held, forked, DEFAULT_MAX_AHEAD);
        let seconds = u32::try_from(now.unix_ms / 1000).unwrap_or(u32::MAX);
        let epoch = seconds.max(self.disk.epoch + 1);
        self.disk.epoch = epoch;
        let log = LogHead { epoch: self.disk.log_epoch, position: self.disk.head() };
        let seed = time ^ self.life << 48 ^ u64::from(self.id().0[0]);
        let mut machine = Federation::new(self.id(), config.clone(), log, u64::from(epoch), seed, now);
        for peer in peers {
            let state = self.disk.peers.get(peer).cloned();
            let acked = state.as_ref().map_or(log.position, |state| state.acked);
            machine.add_peer(*peer, state, self.disk.backlog(acked), now);
        }
        for (a, b) in self.disk.forks.values() {
            machine.on_forked(a.clone(), b.clone());
        }
        let clock = HlcClock::new(set.max_hlc(), DEFAULT_MAX_AHEAD);
        self.running = Some(Running { set, machine, clock, epoch, next_seq: 0 });
    }

    /// Writes with the broker's own key, or with a person's and its number; not where its author may not.
    pub fn write(
        &mut self,
        key: RecordKey,
        body: Body,
        person: Option<(&SigningKey, u64)>,
        time: Time,
    ) -> Option<SignedRecord> {
        let now = self.now(time);
        let own = self.key.clone();
        let running = self.running.as_mut()?;
        let (signer, epoch, seq) = match person {
            Some((signer, seq)) => (signer, 1, seq),
            None => {
                running.next_seq += 1;
                (&own, running.epoch, running.next_seq)
            }
        };
        let record = Record {
            kind: key.kind,
            scope: key.scope,
            id: key.id,
            body,
            hlc: running.clock.tick(now.unix_ms),
            author: signer.public(),
            author_epoch: epoch,
            author_seq: seq,
            grants: Vec::new(),
        };
        let signed = SignedRecord::sign(record, signer).ok()?;
        running.set.judge_right(&signed, now.unix_ms).ok()?;
        let (answer, _) = self.disk.commit(&signed, now.unix_ms, true, &mut Vec::new());
        if answer != Answer::Applied {
            return None;
        }
        running.set.apply([&signed]);
        running.machine.on_local(self.disk.head(), slot_of_record(signed.record()), now);
        Some(signed)
    }

    /// Writes what a peer delivered.
    pub fn store(&mut self, records: &[SignedRecord], time: Time) -> (Vec<Stored>, Changes) {
        let now = self.now(time);
        let Some(running) = self.running.as_mut() else { return Default::default() };
        let mut results = Vec::with_capacity(records.len());
        let mut applied = Vec::new();
        let mut removed = Vec::new();
        for signed in records {
            if let Some((key, author)) = running.set.displaced(signed) {
                self.disk.drop_statement(&key, author);
                self.disk.exhume(signed, false);
                running.set.remove([(&key, author)]);
            }
            let (mut answer, mut proof) = self.disk.commit(signed, now.unix_ms, false, &mut removed);
            let powerless =
                |grave: &SignedRecord| !running.set.authority().admits(grave.record()).is_admitted();
            if proof.as_ref().is_some_and(powerless) {
                self.disk.exhume(signed, true);
                (answer, proof) = self.disk.commit(signed, now.unix_ms, false, &mut removed);
            }
            if answer == Answer::Applied {
                applied.push(signed);
            }
            // Judged before: too far ahead was not taken.
            let _ = running.clock.observe(signed.record().hlc, now.unix_ms);
            results.push(Stored { answer, proof });
        }
        let changes = running.set.apply(applied);
        let keys: Vec<_> = removed.iter().map(|s| (s.record().key(), s.record().author)).collect();
        running.set.remove(keys.iter().map(|(key, author)| (key, *author)));
        running.machine.on_logged(self.disk.head());
        (results, changes)
    }

    /// Two records show that their author forked.
    pub fn forked(&mut self, a: &SignedRecord, b: &SignedRecord) {
        if !self.disk.keep_fork(a, b) {
            return;
        }
        if let Some(running) = &mut self.running {
            running.set.fork(a.record().author, (a.record().author_epoch, a.record().author_seq));
            running.machine.on_forked(a.clone(), b.clone());
        }
    }

    /// Forgets what is past its life.
    pub fn collect(&mut self, time: Time) {
        let now = self.now(time);
        let removed = self.disk.collect(now.unix_ms);
        if let Some(running) = &mut self.running {
            let keys: Vec<_> = removed.iter().map(|s| (s.record().key(), s.record().author)).collect();
            running.set.remove(keys.iter().map(|(key, author)| (key, *author)));
        }
    }
}
