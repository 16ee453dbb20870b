//! The registrar: the one task that changes the registry.
//!
//! ```text
//! people ── Commit ──┐                      ┌─> store (record + log entry, one transaction)
//! agents ── Join ────┼─> registrar ─────────┤
//!           Declare ─┤   merge, build,      └─> watch: Arc<Registry> ─> driver, agents, beacons
//! peers ─── Receive ─┘   refuse nonsense            members, log head ─> peers
//! ```
//! A change of ours is merged in memory first and the registry built from the result: what would add a
//! problem is refused before anything is written. What the store accepted becomes the registry.
//!
//! | file | does |
//! |---|---|
//! | `held` | every statement, the visible ones, and the registry made of these |
//! | `write` | changes made here: who may, what makes sense, signing the broker's own |
//! | `receive` | what peers deliver |
//! | `members` | inviting brokers, joining, and telling who is a member |
//! | `join` | nodes that join |
//! | `apps` | records of applications, told |
//! | `challenge` | texts for certificate authorities, set and removed |
//! | `serial` | the zones' serial |
//! | `budget`, `index` | bounds on what agents declare; finding what they declared |
//! | `out` | what everybody else is told |

use crate::admin::{AdminError, AdminHandle, AppFilter, Joined, Refused};
use crate::apitokens::ApiTokens;
use crate::audit::{Act, By, Desk, Origin, Via, Who, acts};
use crate::clock::{mono_now, unix_now};
use crate::declare::{self, View};
use crate::store::{Beside, RESTORED, StoreError, StoreHandle, TokenEntry};
use data_encoding::BASE64;
use nearmost_core::registry::Registry;
use nearmost_replica::{HlcClock, PublicKey, SignedRecord, SigningKey, StatementSet};
use nearmost_wire::agent::{Refusal, ServiceDecl};
use nearmost_wire::api::{
    AppRecordsResponse, ChallengeRequest, ChallengeResponse, ChallengesRemoved, CommitResponse,
    InviteRequest, InviteResponse, PeerInviteRequest, PeerInviteResponse, PeerJoinRequest, PeerJoinResponse,
    RecordView, RegistryResponse,
};
use nearmost_wire::authority::Rights;
use nearmost_wire::identity::{Id, KeyPair, Role};
use nearmost_wire::name;
use nearmost_wire::peer::Join;
use nearmost_wire::registry::{BuildDefaults, EndpointBody, PeerBody, PlaceBody, Problem};
use nearmost_wire::token::JoinToken;
use ring::rand::{SecureRandom, SystemRandom};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

mod apps;
mod budget;
mod challenge;
mod held;
pub(crate) mod index;
mod join;
mod members;
mod out;
mod receive;
mod serial;
#[cfg(test)]
mod tests;
mod write;

pub use held::SharedSet;
pub use out::{Followed, MemberInfo};
pub(crate) use receive::Delivery;
pub use receive::Received;

use budget::Budgets;
use held::Held;
use out::Out;
use receive::Unshown;

/// Requests waiting for the registrar.
const QUEUE: usize = 1024;
/// Deliveries of peers that are written together.
const MAX_DELIVERIES: usize = 32;
/// Between two looks for what is past its life.
const COLLECT_EVERY: Duration = Duration::from_secs(3600);
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
        who: Who,
        records: Vec<SignedRecord>,
        note: String,
        expect_version: Option<u64>,
        reply: Reply<Result<CommitResponse, AdminError>>,
    },
    Invite {
        who: Who,
        request: InviteRequest,
        reply: Reply<Result<InviteResponse, AdminError>>,
    },
    Join {
        key: [u8; 32],
        source: IpAddr,
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
    /// A challenge is set.
    SetChallenge {
        who: Who,
        name: String,
        request: ChallengeRequest,
        reply: Reply<Result<ChallengeResponse, AdminError>>,
    },
    /// Challenges are removed: one, or all of a name.
    RemoveChallenges {
        who: Who,
        name: String,
        value: Option<String>,
        reply: Reply<Result<ChallengesRemoved, AdminError>>,
    },
    /// A peer delivered these; they were checked.
    Receive(Delivery),
    /// Two records of one author with one number.
    Forked {
        a: SignedRecord,
        b: SignedRecord,
        reply: Reply<Result<bool, StoreError>>,
    },
    InvitePeer {
        who: Who,
        request: PeerInviteRequest,
        reply: Reply<Result<PeerInviteResponse, AdminError>>,
    },
    JoinPeer {
        who: Who,
        request: PeerJoinRequest,
        reply: Reply<Result<PeerJoinResponse, AdminError>>,
    },
    AppRecords {
        filter: AppFilter,
        reply: Reply<Result<AppRecordsResponse, AdminError>>,
    },
    /// The holder of a token is to be made a member.
    AdmitPeer {
        key: PublicKey,
        source: IpAddr,
        join: Join,
        reply: Reply<Result<(), AdminError>>,
    },
    /// This broker's own token was used.
    Joined {
        peer: PublicKey,
        reply: Reply<Result<(), StoreError>>,
    },
}

/// How the registrar works.
#[derive(Clone, Debug, Default)]
pub struct RegistrarSettings {
    /// `host:port` of the agents' port, as tokens carry it.
    pub advertise: Vec<String>,
    /// Of probes.
    pub defaults: BuildDefaults,
    /// Where this broker is reached, as other brokers are told.
    pub endpoints: EndpointBody,
    /// Members that the configuration names.
    pub known: Vec<(Id, PeerBody)>,
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
    held: Held,
    budgets: Budgets,
    clock: HlcClock,
    author: Author,
    store: StoreHandle,
    out: Out,
    settings: RegistrarSettings,
    unshown: Unshown,
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
        let own = signing.public();
        let position = store.author_position(own).await?;
        let head = store.log_head().await?;
        let evidence = store.load_evidence().await?;
        let forked = evidence.iter().map(|(author, a, _)| {
            let record = a.record();
            (*author, (record.author_epoch, record.author_seq))
        });
        let now = unix_now().0;
        let max_ahead = nearmost_replica::hlc::DEFAULT_MAX_AHEAD;
        let set = StatementSet::new(Rights::new(own), contents.records, forked, max_ahead);
        let held = Held::new(set, contents.version, own, settings.defaults, now);
        for problem in &held.built.problems {
            tracing::warn!(%problem, "registry entry left out");
        }
        // Each start has numbers of its own: whatever became of the disk, none is used twice.
        let seconds = u32::try_from(now / 1000).unwrap_or(u32::MAX);
        let epoch = seconds.max(position.epoch.saturating_add(1));
        let out = Out::new(held.built.registry.clone(), head);
        let registry = out.registry.subscribe();
        let mut registrar = Registrar {
            held,
            budgets: Budgets::default(),
            clock: HlcClock::new(contents.max_hlc, max_ahead),
            author: Author { id: key.id(), key: signing, epoch, next_seq: 0 },
            store,
            out,
            settings,
            unshown: Unshown::default(),
        };
        registrar.load_joins().await?;
        registrar.publish_members();
        if registrar.store.get_meta(RESTORED).await?.is_some() {
            tracing::warn!(
                "this store was restored from a backup: peers are compared with before they are told anything"
            );
            let act = Act {
                by: By { actor: "nearmost-broker restore".into(), via: Via::Command, source: None },
                code: acts::RESTORE.into(),
                at_unix_ms: unix_now().0,
                note: "the store was made of a copy; what came after that copy is in the log of no store"
                    .into(),
                ..Act::default()
            };
            registrar.store.write_act(act, Beside::Nothing).await?;
            registrar.store.remove_meta(RESTORED).await?;
        }
        Ok((registrar, registry))
    }

    /// What is stated once the registrar serves: what the configuration says of peers, and who vouches for
    /// people who were here before there were peers.
    async fn begin(&mut self) {
        for stated in [self.vouch_for_old().await, self.state_known().await, self.state_endpoint().await] {
            if let Err(error) = stated {
                tracing::error!(%error, "the broker could not state what concerns itself");
            }
        }
    }

    /// Says where this broker is reached, if whoever is a member now has not been told.
    async fn say_where(&mut self) {
        if let Err(error) = self.state_endpoint().await {
            tracing::error!(%error, "the broker could not state where it is reached");
        }
    }

    /// All statements, to look things up in.
    pub fn set(&self) -> SharedSet {
        self.held.set.clone()
    }

    /// What those who talk with peers follow.
    pub fn followed(&self) -> Followed {
        let Out { members, head, joins, changes, .. } = &self.out;
        Followed {
            members: members.subscribe(),
            head: head.subscribe(),
            joins: joins.subscribe(),
            changes: changes.subscribe(),
        }
    }

    /// The channel into a registrar.
    pub fn handle(&self, desk: Desk) -> (AdminHandle, RegistrarInbox) {
        let (commands, inbox) = mpsc::channel(QUEUE);
        let changes = self.out.changes.subscribe();
        let tokens = ApiTokens::new(self.store.clone());
        (AdminHandle { commands, store: self.store.clone(), changes, desk, tokens }, RegistrarInbox(inbox))
    }

    /// Serves until every handle is dropped or `cancel` is.
    pub async fn run(mut self, mut inbox: RegistrarInbox, cancel: tokio_util::sync::CancellationToken) {
        self.begin().await;
        let mut collecting = tokio::time::interval(COLLECT_EVERY);
        loop {
            if self.out.members_changed() {
                self.say_where().await;
            }
            let due = self.unshown.due();
            let changes_ms = self.next_change_ms();
            tokio::select! {
                biased;
                () = cancel.cancelled() => return,
                () = until(due) => self.show(),
                () = after(changes_ms) => self.time_passed(),
                _ = collecting.tick() => self.collect().await,
                command = inbox.0.recv() => match command {
                    Some(Command::Receive(first)) => {
                        let next = self.receive_with(first, &mut inbox).await;
                        if let Some(command) = next {
                            self.serve(command).await;
                        }
                    }
                    Some(command) => self.serve(command).await,
                    None => return,
                },
            }
        }
    }

    /// Takes the deliveries that wait behind one with it, as making them durable costs the same for one as for
    /// many. Returns the command that came after them, if there was one.
    async fn receive_with(&mut self, first: Delivery, inbox: &mut RegistrarInbox) -> Option<Command> {
        let mut deliveries = vec![first];
        let mut next = None;
        while deliveries.len() < MAX_DELIVERIES && next.is_none() {
            match inbox.0.try_recv() {
                Ok(Command::Receive(delivery)) => deliveries.push(delivery),
                Ok(other) => next = Some(other),
                Err(_) => break,
            }
        }
        self.receive_all(deliveries).await;
        next
    }

    /// In how many milliseconds the passing of time may change who may state what, or what is shown.
    fn next_change_ms(&self) -> Option<u64> {
        let now = unix_now().0;
        let rights = self.held.set.lock().next_change(now);
        rights.into_iter().chain(self.held.next_end).min().map(|at| at.saturating_sub(now))
    }

    /// Serves one command, unless whoever asked has given up meanwhile: under load that is work for
    /// nobody. One who gives up during it does not miss the answer.
    async fn serve(&mut self, command: Command) {
        match command {
            Command::Registry { author, all, reply } if !reply.is_closed() => {
                drop(reply.send(self.view(author, all).await));
            }
            Command::Commit { who, records, note, expect_version, reply } if !reply.is_closed() => {
                drop(reply.send(self.commit(&who, records, note, expect_version).await));
            }
            Command::Invite { who, request, reply } if !reply.is_closed() => {
                drop(reply.send(self.invite(&who, request).await));
            }
            Command::Join { key, source, secret, name, reply } if !reply.is_closed() => {
                drop(reply.send(self.join((key, source), secret, name).await));
            }
            Command::Declare { key, services, place, reply } if !reply.is_closed() => {
                drop(reply.send(self.declare(key, &services, place).await));
            }
            Command::InvitePeer { who, request, reply } if !reply.is_closed() => {
                drop(reply.send(self.invite_peer(&who, request).await));
            }
            Command::JoinPeer { who, request, reply } if !reply.is_closed() => {
                drop(reply.send(self.join_peer(&who, request).await));
            }
            Command::SetChallenge { who, name, request, reply } if !reply.is_closed() => {
                drop(reply.send(self.set_challenge(&who, &name, &request).await));
            }
            Command::RemoveChallenges { who, name, value, reply } if !reply.is_closed() => {
                drop(reply.send(self.remove_challenges(&who, &name, value.as_deref()).await));
            }
            Command::Receive(delivery) => self.receive_all(vec![delivery]).await,
            Command::Forked { a, b, reply } => drop(reply.send(self.forked(&a, &b).await)),
            Command::AdmitPeer { key, source, join, reply } => {
                drop(reply.send(self.admit_peer((key, source), join).await));
            }
            Command::Joined { peer, reply } => drop(reply.send(self.joined(peer).await)),
            Command::AppRecords { filter, reply } if !reply.is_closed() => {
                drop(reply.send(Ok(self.app_records(&filter))));
            }
            abandoned => drop(abandoned),
        }
    }

    async fn view(&self, author: Option<Id>, all: bool) -> Result<RegistryResponse, AdminError> {
        let view = |r: &SignedRecord| RecordView { record: BASE64.encode(r.bytes()) };
        let records = match all {
            true => self.store.read_all().await?.records.iter().map(view).collect(),
            false => self.held.records.values().map(view).collect(),
        };
        let position = match author {
            Some(id) => self.store.author_position(PublicKey(id.key)).await?,
            None => Default::default(),
        };
        let hlc = self.clock.last();
        Ok(RegistryResponse {
            broker: self.author.id.to_string(),
            version: self.held.version,
            hlc_millis: hlc.millis,
            hlc_counter: hlc.counter,
            author_epoch: position.epoch,
            author_next_seq: position.next_seq,
            records,
        })
    }

    async fn invite(&mut self, who: &Who, request: InviteRequest) -> Result<InviteResponse, AdminError> {
        let bad = AdminError::Request;
        if request.domains.is_empty() {
            return Err(bad("an invitation names at least one domain".into()));
        }
        let mut domains = Vec::new();
        for text in &request.domains {
            let domain = name::domain(text).map_err(|e| bad(e.to_string()))?;
            if self.held.built.registry.find_domain(&domain).is_none() {
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
        let act = Act {
            by: who.by(),
            code: acts::INVITE.into(),
            at_unix_ms: unix_now().0,
            target: node.clone(),
            note: members::token_note(&domains, false, expires_unix_ms),
            ..Act::default()
        };
        let entry = TokenEntry { domains, node, expires_unix_ms, created_by: who.actor.to_string() };
        self.store.write_act(act, Beside::Token(JoinToken::secret_hash(&secret), entry)).await?;
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
        let registry = &self.held.built.registry;
        let Some(&index) = registry.node_by_id.get(&id.node_id()) else {
            return Err(Refused::new(Refusal::UnknownKey, format!("{id} is not a node of this registry")));
        };
        let node = &registry.nodes[index.0 as usize];
        if node.revoked {
            return Err(Refused::new(Refusal::Revoked, format!("node {} was revoked", node.name)));
        }
        let view = View {
            records: &self.held.records,
            declared: &self.held.declared,
            broker: self.author.key.public(),
            registry,
        };
        let mut plan = declare::plan(&view, node, services, place, &self.settings.defaults);
        if plan.changes.is_empty() {
            return Ok(plan.warnings);
        }
        let changed = plan.changes.iter().map(|(key, _)| key);
        let cost = match self.budgets.check(key, changed, self.held.declared.of(&node.name), mono_now()) {
            Ok(cost) => cost,
            Err(warning) => {
                plan.warnings.push(warning);
                return Ok(plan.warnings);
            }
        };
        let note = format!("declared by the agent of {}", node.name);
        let origin = Origin::new(By::key(&id, Via::Agents), acts::NODE_DECLARE);
        match self.write_own(plan.changes, note, None, origin).await {
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

fn refused(e: AdminError) -> Refused {
    match e {
        AdminError::Store(e) => e.into(),
        AdminError::Invalid(_) => Refused::new(Refusal::BadName, e.to_string()),
        other => Refused::new(Refusal::Storage, other.to_string()),
    }
}

async fn until(due: Option<std::time::Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

async fn after(ms: Option<u64>) {
    match ms {
        // A day at a time: a timer that sleeps for years is not needed.
        Some(ms) => tokio::time::sleep(Duration::from_millis(ms.min(86_400_000))).await,
        None => std::future::pending().await,
    }
}
