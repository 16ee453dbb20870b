//! The registrar: the one task that changes the registry.
//!
//! ```text
//! people ── Commit ──┐                      ┌─> store (record + log entry, one transaction)
//! agents ── Join ────┼─> registrar ─────────┤
//!           Declare ─┘   merge, build,      └─> watch: Arc<Registry> ─> driver, agents, beacons
//!                        refuse nonsense
//! ```
//! A change is merged in memory first and the registry built from the result: what would add a
//! problem is refused before anything is written. What the store accepted becomes the registry.

use crate::admin::{Actor, AdminError, AdminHandle, AppFilter, Joined, Refused, author_id};
use crate::clock::{mono_now, unix_now};
use crate::declare::{self, View};
use crate::store::{Committed, Outcome, StoreError, StoreHandle, TokenEntry, WriteBatch};
use data_encoding::BASE64;
use nearmost_core::registry::Registry;
use nearmost_replica::{
    Body, HlcClock, Kind, MergeOutcome, PublicKey, Record, RecordKey, SignedRecord, SigningKey, merge,
};
use nearmost_wire::agent::{Refusal, ServiceDecl};
use nearmost_wire::api::{
    AppRecordsResponse, CommitResponse, InviteRequest, InviteResponse, PeerInviteRequest, PeerInviteResponse,
    PeerJoinRequest, PeerJoinResponse, RecordView, RegistryResponse,
};
use nearmost_wire::identity::{Id, KeyPair, Role};
use nearmost_wire::name;
use nearmost_wire::registry::{BODY_VERSION, BuildDefaults, Built, PlaceBody, Problem, build, entry_of};
use nearmost_wire::token::JoinToken;
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};

mod budget;
pub(crate) mod index;
mod join;
#[cfg(test)]
mod tests;

use budget::Budgets;
use index::DeclaredIndex;

/// Requests waiting for the registrar.
const QUEUE: usize = 1024;
/// Longest life of an invitation, in seconds: 30 days.
const MAX_INVITE_S: u64 = 30 * 24 * 3600;

pub(crate) type Reply<T> = oneshot::Sender<T>;

/// What can be asked.
pub(crate) enum Command {
    Registry {
        author: Option<Id>,
        all: bool,
        reply: Reply<Result<RegistryResponse, AdminError>>,
    },
    Commit {
        actor: Actor,
        records: Vec<SignedRecord>,
        note: String,
        expect_version: Option<u64>,
        reply: Reply<Result<CommitResponse, AdminError>>,
    },
    Invite {
        actor: Actor,
        request: InviteRequest,
        reply: Reply<Result<InviteResponse, AdminError>>,
    },
    Join {
        key: [u8; 32],
        secret: [u8; 16],
        name: Option<String>,
        reply: Reply<Result<Joined, Refused>>,
    },
    Declare {
        key: [u8; 32],
        services: Vec<ServiceDecl>,
        place: Option<PlaceBody>,
        reply: Reply<Result<Vec<String>, Refused>>,
    },
    InvitePeer {
        actor: Actor,
        request: PeerInviteRequest,
        reply: Reply<Result<PeerInviteResponse, AdminError>>,
    },
    JoinPeer {
        request: PeerJoinRequest,
        reply: Reply<Result<PeerJoinResponse, AdminError>>,
    },
    AppRecords {
        filter: AppFilter,
        reply: Reply<Result<AppRecordsResponse, AdminError>>,
    },
}

/// How the registrar works.
#[derive(Clone, Debug)]
pub struct RegistrarSettings {
    /// `host:port` of the agents' port, as tokens carry it.
    pub advertise: Vec<String>,
    /// Of probes.
    pub defaults: BuildDefaults,
}

/// What the broker signs with, and how far it got.
struct Author {
    id: Id,
    key: SigningKey,
    epoch: u32,
    next_seq: u64,
}

/// The registry's records and the one task's state.
pub struct Registrar {
    records: BTreeMap<RecordKey, SignedRecord>,
    /// Of those mirrors that agents declared.
    declared: DeclaredIndex,
    budgets: Budgets,
    version: u64,
    clock: HlcClock,
    author: Author,
    built: Built,
    store: StoreHandle,
    registry: watch::Sender<Arc<Registry>>,
    settings: RegistrarSettings,
}

impl Registrar {
    /// Reads the store. The handle and the receiver see the registry as it was last written.
    pub async fn open(
        store: StoreHandle,
        key: &KeyPair,
        settings: RegistrarSettings,
    ) -> Result<(Registrar, watch::Receiver<Arc<Registry>>), StoreError> {
        let contents = store.read_all().await?;
        let signing = SigningKey::from_seed(&key.seed());
        let position = store.author_position(signing.public()).await?;
        let mut records = BTreeMap::new();
        for record in contents.records {
            let key = record.record().key();
            if merge(records.get(&key), &record) == MergeOutcome::Applied {
                records.insert(key, record);
            }
        }
        let built = build_from(contents.version, &records, &settings.defaults);
        for problem in &built.problems {
            tracing::warn!(%problem, "registry entry left out");
        }
        let (registry, receiver) = watch::channel(Arc::new(built.registry.clone()));
        let registrar = Registrar {
            declared: DeclaredIndex::new(signing.public(), &records),
            records,
            budgets: Budgets::default(),
            version: contents.version,
            clock: HlcClock::new(contents.max_hlc, nearmost_replica::hlc::DEFAULT_MAX_AHEAD),
            author: Author { id: key.id(), key: signing, epoch: position.epoch, next_seq: position.next_seq },
            built,
            store,
            registry,
            settings,
        };
        Ok((registrar, receiver))
    }

    /// The channel into a registrar.
    pub fn handle(&self) -> (AdminHandle, RegistrarInbox) {
        let (commands, inbox) = mpsc::channel(QUEUE);
        let registry = self.registry.subscribe();
        (AdminHandle { commands, store: self.store.clone(), registry }, RegistrarInbox(inbox))
    }

    /// Serves until every handle is dropped or `cancel` is.
    pub async fn run(mut self, mut inbox: RegistrarInbox, cancel: tokio_util::sync::CancellationToken) {
        loop {
            let command = tokio::select! {
                () = cancel.cancelled() => return,
                command = inbox.0.recv() => command,
            };
            match command {
                Some(command) => self.serve(command).await,
                None => return,
            }
        }
    }

    /// Serves one command, unless whoever asked has given up meanwhile: under load that is work for
    /// nobody. One who gives up during it does not miss the answer.
    async fn serve(&mut self, command: Command) {
        match command {
            Command::Registry { author, all, reply } if !reply.is_closed() => {
                drop(reply.send(self.view(author, all).await));
            }
            Command::Commit { actor, records, note, expect_version, reply } if !reply.is_closed() => {
                drop(reply.send(self.commit(&actor, records, note, expect_version).await));
            }
            Command::Invite { actor, request, reply } if !reply.is_closed() => {
                drop(reply.send(self.invite(&actor, request).await));
            }
            Command::Join { key, secret, name, reply } if !reply.is_closed() => {
                drop(reply.send(self.join(key, secret, name).await));
            }
            Command::Declare { key, services, place, reply } if !reply.is_closed() => {
                drop(reply.send(self.declare(key, &services, place).await));
            }
            Command::InvitePeer { actor: _, request: _, reply } => drop(reply.send(Err(not_yet()))),
            Command::JoinPeer { request: _, reply } => drop(reply.send(Err(not_yet()))),
            Command::AppRecords { filter: _, reply } => drop(reply.send(Err(not_yet()))),
            abandoned => drop(abandoned),
        }
    }

    async fn view(&self, author: Option<Id>, all: bool) -> Result<RegistryResponse, AdminError> {
        let view = |r: &SignedRecord| RecordView { record: BASE64.encode(r.bytes()) };
        let records = match all {
            true => self.store.read_all().await?.records.iter().map(view).collect(),
            false => self.records.values().map(view).collect(),
        };
        let position = match author {
            Some(id) => self.store.author_position(PublicKey(id.key)).await?,
            None => Default::default(),
        };
        let hlc = self.clock.last();
        Ok(RegistryResponse {
            broker: self.author.id.to_string(),
            version: self.version,
            hlc_millis: hlc.millis,
            hlc_counter: hlc.counter,
            author_epoch: position.epoch,
            author_next_seq: position.next_seq,
            records,
        })
    }

    async fn commit(
        &mut self,
        actor: &Actor,
        records: Vec<SignedRecord>,
        note: String,
        expect_version: Option<u64>,
    ) -> Result<CommitResponse, AdminError> {
        self.authorise(actor, &records)?;
        let now = unix_now().0;
        let ahead = records.iter().map(|r| r.record().hlc).max();
        if let Some(hlc) = ahead {
            self.clock.clone().observe(hlc, now)?;
        }
        let batch = WriteBatch {
            actor: actor.to_string(),
            note,
            received_unix_ms: now,
            expect_version,
            redeem: None,
            from_peer: None,
            records,
        };
        let committed = self.write(batch).await?;
        let applied = committed.outcomes.iter().filter(|o| **o == Outcome::Applied).count() as u64;
        Ok(CommitResponse {
            version: committed.version,
            batch: committed.batch,
            applied,
            unchanged: committed.outcomes.len() as u64 - applied,
        })
    }

    /// Every author is an enrolled person, or enrols with this very batch over the admin socket.
    fn authorise(&self, actor: &Actor, records: &[SignedRecord]) -> Result<(), AdminError> {
        let enrolling: BTreeSet<&str> = match actor {
            Actor::Socket { .. } => {
                let persons = records
                    .iter()
                    .map(|r| r.record())
                    .filter(|r| r.kind == Kind::PERSON && !r.is_tombstone());
                persons.map(|r| r.id.as_str()).collect()
            }
            _ => BTreeSet::new(),
        };
        for record in records {
            let author = author_id(&record.record().author, &self.author.id);
            let enrolled = self.built.persons.contains_key(&author.key);
            if author.role != Role::Person || !(enrolled || enrolling.contains(author.to_string().as_str())) {
                return Err(AdminError::UnknownPerson(author));
            }
        }
        Ok(())
    }

    /// Merges, builds, refuses what makes no sense, stores, and publishes.
    async fn write(&mut self, batch: WriteBatch) -> Result<Committed, AdminError> {
        let mut merged = self.records.clone();
        for record in &batch.records {
            let key = record.record().key();
            if merge(merged.get(&key), record) == MergeOutcome::Applied {
                merged.insert(key, record.clone());
            }
        }
        let mut built = build_from(self.version + 1, &merged, &self.settings.defaults);
        let known: BTreeSet<&Problem> = self.built.problems.iter().collect();
        let new: Vec<Problem> = built.problems.iter().filter(|p| !known.contains(p)).cloned().collect();
        if !new.is_empty() {
            return Err(AdminError::Invalid(new));
        }
        let keys: Vec<RecordKey> = batch.records.iter().map(|r| r.record().key()).collect();
        let highest = batch.records.iter().map(|r| r.record().hlc).max();
        let now = batch.received_unix_ms;
        let committed = self.store.write(batch).await?;
        if let Some(hlc) = highest {
            // Checked before by those who take records from others; our own are never ahead.
            let _ = self.clock.observe(hlc, now);
        }
        if committed.changed() {
            built.registry.version = committed.version;
            self.version = committed.version;
            self.records = merged;
            for key in &keys {
                self.declared.update(&self.records, key);
            }
            self.registry.send_replace(Arc::new(built.registry.clone()));
            self.built = built;
        }
        Ok(committed)
    }

    /// Signs with the broker's key and writes. `None` bodies remove.
    async fn write_own(
        &mut self,
        changes: Vec<(RecordKey, Option<Vec<u8>>)>,
        note: String,
        redeem: Option<[u8; 32]>,
    ) -> Result<(), AdminError> {
        let now = unix_now().0;
        let mut seq = self.author.next_seq;
        let mut records = Vec::with_capacity(changes.len());
        for (index, (key, body)) in changes.into_iter().enumerate() {
            let record = Record {
                kind: key.kind,
                scope: key.scope,
                id: key.id,
                body: body.map_or(Body::Tombstone, |bytes| Body::Live { version: BODY_VERSION, bytes }),
                hlc: self.clock.tick(now),
                author: self.author.key.public(),
                author_epoch: self.author.epoch,
                author_seq: seq,
                grants: Vec::new(),
            };
            seq += 1;
            let signed = SignedRecord::sign(record, &self.author.key);
            records.push(signed.map_err(|source| AdminError::Record { index, source })?);
        }
        let batch = WriteBatch {
            records,
            actor: self.author.id.to_string(),
            note,
            received_unix_ms: now,
            expect_version: None,
            redeem,
            from_peer: None,
        };
        self.write(batch).await?;
        self.author.next_seq = seq;
        Ok(())
    }

    async fn invite(&mut self, actor: &Actor, request: InviteRequest) -> Result<InviteResponse, AdminError> {
        let bad = AdminError::Request;
        if request.domains.is_empty() {
            return Err(bad("an invitation names at least one domain".into()));
        }
        let mut domains = Vec::new();
        for text in &request.domains {
            let domain = name::domain(text).map_err(|e| bad(e.to_string()))?;
            if self.built.registry.find_domain(&domain).is_none() {
                return Err(bad(format!("unknown domain {domain:?}; add it first")));
            }
            domains.push(domain);
        }
        let node = match &request.name {
            Some(text) => name::short(text).map_err(|e| bad(e.to_string()))?,
            None => String::new(),
        };
        if request.ttl_s == 0 || request.ttl_s > MAX_INVITE_S {
            return Err(bad(format!("ttl_s = {}: expected 1 to {MAX_INVITE_S}", request.ttl_s)));
        }
        if self.settings.advertise.is_empty() {
            return Err(bad("agents.advertise is empty and the agents' port listens on every address: say in the configuration under which host:port nodes reach this broker".into()));
        }
        let mut secret = [0; 16];
        SystemRandom::new()
            .fill(&mut secret)
            .map_err(|_| bad("the system's random number generator failed".into()))?;
        let expires_unix_ms = unix_now().0 + request.ttl_s * 1000;
        let entry = TokenEntry { domains, node, expires_unix_ms, created_by: actor.to_string() };
        self.store.put_token(JoinToken::secret_hash(&secret), entry).await?;
        let token =
            JoinToken { broker: self.author.id.key, secret, addresses: self.settings.advertise.clone() };
        Ok(InviteResponse { token: token.encode(), expires_unix_ms })
    }

    async fn declare(
        &mut self,
        key: [u8; 32],
        services: &[ServiceDecl],
        place: Option<PlaceBody>,
    ) -> Result<Vec<String>, Refused> {
        let id = Id { role: Role::Node, key };
        let registry = &self.built.registry;
        let Some(&index) = registry.node_by_id.get(&id.node_id()) else {
            return Err(Refused::new(Refusal::UnknownKey, format!("{id} is not a node of this registry")));
        };
        let node = &registry.nodes[index.0 as usize];
        if node.revoked {
            return Err(Refused::new(Refusal::Revoked, format!("node {} was revoked", node.name)));
        }
        let view = View {
            records: &self.records,
            declared: &self.declared,
            broker: self.author.key.public(),
            registry,
        };
        let mut plan = declare::plan(&view, node, services, place, &self.settings.defaults);
        if plan.changes.is_empty() {
            return Ok(plan.warnings);
        }
        let changed = plan.changes.iter().map(|(key, _)| key);
        let cost = match self.budgets.check(key, changed, self.declared.of(&node.name), mono_now()) {
            Ok(cost) => cost,
            Err(warning) => {
                plan.warnings.push(warning);
                return Ok(plan.warnings);
            }
        };
        let note = format!("declared by the agent of {}", node.name);
        match self.write_own(plan.changes, note, None).await {
            Ok(()) => self.budgets.commit(cost),
            Err(AdminError::Invalid(problems)) => {
                plan.warnings.extend(problems.iter().map(Problem::to_string))
            }
            Err(e) => return Err(refused(e)),
        }
        Ok(plan.warnings)
    }
}

/// The receiving side of [`AdminHandle`].
pub struct RegistrarInbox(mpsc::Receiver<Command>);

fn build_from(version: u64, records: &BTreeMap<RecordKey, SignedRecord>, defaults: &BuildDefaults) -> Built {
    build(version, records.values().filter_map(|r| entry_of(r.record())), defaults)
}

fn not_yet() -> AdminError {
    AdminError::Request("not yet".into())
}

fn refused(e: AdminError) -> Refused {
    match e {
        AdminError::Store(e) => e.into(),
        AdminError::Invalid(_) => Refused::new(Refusal::BadName, e.to_string()),
        other => Refused::new(Refusal::Storage, other.to_string()),
    }
}
