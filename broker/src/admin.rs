//! What people, agents and the API ask of the registrar, and how it refuses.

use crate::apitokens::ApiTokens;
use crate::audit::{Act, By, Desk, Ending, Via, Who, acts};
use crate::registrar::{Command, Delivery, Received};
use crate::store::{
    ApiTokenEntry, AuditFilter, AuditPage, EventFilter, EventsPage, HistoryFilter, StoreError, StoreHandle,
    TokenError,
};
use data_encoding::BASE64;
use nearmost_replica::{Kind, LogEntry, PublicKey, RecordError, SignedRecord};
use nearmost_wire::agent::{Refusal, ServiceDecl};
use nearmost_wire::api::{
    AppRecordsResponse, BackupRequest, BackupResponse, ChallengeRequest, ChallengeResponse,
    ChallengesRemoved, CommitRequest, CommitResponse, HistoryView, InviteRequest, InviteResponse,
    PeerInviteRequest, PeerInviteResponse, PeerJoinRequest, PeerJoinResponse, RegistryResponse, TokenRequest,
};
use nearmost_wire::identity::{Id, Role};
use nearmost_wire::peer::Join;
use nearmost_wire::prefix;
use nearmost_wire::registry::{PlaceBody, Problem};
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use tokio::sync::{mpsc, oneshot, watch};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Someone on this machine who may open the admin socket.
    Socket {
        /// Their user id.
        uid: u32,
    },
    /// The holder of a person's key.
    Person(Id),
    /// The holder of a configured token.
    Token(String),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Actor::Socket { uid } => write!(f, "uid {uid} on the admin socket"),
            Actor::Person(id) => write!(f, "{id}"),
            Actor::Token(name) => write!(f, "token {name}"),
        }
    }
}

/// Why a request was refused; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// A record that cannot be read, or whose signature is wrong.
    #[error("record {index}: {source}")]
    Record {
        /// Position in the request.
        index: usize,
        /// What is wrong.
        source: RecordError,
    },
    /// A text that is not base64.
    #[error("record {0}: not base64")]
    Base64(usize),
    /// Nothing to do.
    #[error("no records")]
    Nothing,
    /// An author who is not enrolled.
    #[error(
        "{0} is not enrolled here; the first change of a person is made on the broker's machine, over its admin socket"
    )]
    UnknownPerson(Id),
    /// An author who may not state this.
    #[error("record {index}, {key}: {author} may not state it: {why}")]
    Unauthorised {
        /// Position in the request.
        index: usize,
        /// What it is about.
        key: nearmost_replica::RecordKey,
        /// Its author.
        author: Id,
        /// Why not.
        why: &'static str,
    },
    /// An author whose statements are refused for a while.
    #[error("{author} is banned until {until_unix_ms} (Unix milliseconds)")]
    Banned {
        /// Who.
        author: Id,
        /// Until when, in milliseconds since the Unix epoch.
        until_unix_ms: u64,
    },
    /// A writer's clock is too far ahead.
    #[error("{0}")]
    Clock(#[from] nearmost_replica::HlcError),
    /// The registry would not make sense.
    #[error("the change was refused: {}", Problem::list(.0))]
    Invalid(Vec<Problem>),
    /// The request itself is wrong.
    #[error("{0}")]
    Request(String),
    /// A token of this name is there.
    #[error("there is a token {0:?} already; revoke it, or choose another name")]
    TokenThere(String),
    /// No token of this name is there.
    #[error("there is no token {0:?} that was made here")]
    NoSuchToken(String),
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The broker is stopping.
    #[error("the broker is stopping")]
    Stopping,
}

impl AdminError {
    /// A bounded code.
    pub fn code(&self) -> &'static str {
        match self {
            AdminError::Record { .. } | AdminError::Base64(_) => "bad_record",
            AdminError::Nothing | AdminError::Request(_) => "bad_request",
            AdminError::UnknownPerson(_) => "unknown_person",
            AdminError::Unauthorised { .. } => "unauthorised",
            AdminError::Banned { .. } => "banned",
            AdminError::Clock(_) => "clock_ahead",
            AdminError::Invalid(_) => "invalid",
            AdminError::Store(StoreError::VersionMismatch { .. }) => "version_conflict",
            AdminError::Store(StoreError::AuthorForked { .. }) => "author_forked",
            AdminError::Store(StoreError::AlreadyThere { .. }) | AdminError::TokenThere(_) => "already_there",
            AdminError::NoSuchToken(_) => "no_such_token",
            AdminError::Store(StoreError::DiskFull { .. }) => "disk_full",
            AdminError::Store(StoreError::Token(TokenError::Unknown)) => "unknown_token",
            AdminError::Store(StoreError::Token(TokenError::Expired { .. })) => "expired_token",
            AdminError::Store(StoreError::Token(TokenError::Used { .. })) => "used_token",
            AdminError::Store(_) => "storage",
            AdminError::Stopping => "stopping",
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            AdminError::Record { .. }
            | AdminError::Base64(_)
            | AdminError::Nothing
            | AdminError::Request(_) => 400,
            AdminError::UnknownPerson(_)
            | AdminError::Unauthorised { .. }
            | AdminError::Banned { .. }
            | AdminError::Store(StoreError::Token(_)) => 403,
            AdminError::NoSuchToken(_) => 404,
            AdminError::Clock(_) | AdminError::Invalid(_) => 422,
            AdminError::TokenThere(_)
            | AdminError::Store(
                StoreError::VersionMismatch { .. }
                | StoreError::AuthorForked { .. }
                | StoreError::AlreadyThere { .. },
            ) => 409,
            AdminError::Store(StoreError::DiskFull { .. }) => 507,
            AdminError::Store(_) => 500,
            AdminError::Stopping => 503,
        }
    }
}

/// What a joined node is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// Its name.
    pub name: String,
    /// Domains it may mirror.
    pub domains: Vec<String>,
}

/// A refusal with its sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The code that the agent gets.
    pub refusal: Refusal,
    /// The sentence that its operator reads.
    pub detail: String,
}

impl Refused {
    /// A refusal.
    pub fn new(refusal: Refusal, detail: impl Into<String>) -> Refused {
        Refused { refusal, detail: detail.into() }
    }
}

impl From<StoreError> for Refused {
    fn from(e: StoreError) -> Refused {
        let refusal = match &e {
            StoreError::Token(TokenError::Unknown) => Refusal::UnknownToken,
            StoreError::Token(TokenError::Expired { .. }) => Refusal::ExpiredToken,
            StoreError::Token(TokenError::Used { .. }) => Refusal::UsedToken,
            _ => Refusal::Storage,
        };
        Refused { refusal, detail: e.to_string() }
    }
}

/// Which of applications' records are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppFilter {
    /// Of this domain, in its canonical form.
    pub domain: String,
    /// Only of this kind.
    pub kind: Option<Kind>,
    /// Only with this id; then a record that was removed is told as well, without its body.
    pub id: Option<String>,
}

/// For everything that asks the registrar.
#[derive(Clone)]
pub struct AdminHandle {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) store: StoreHandle,
    /// Counts changes of anything that is replicated.
    pub(crate) changes: watch::Receiver<u64>,
    /// Takes in what is no change of the registry.
    pub(crate) desk: Desk,
    /// Who may read without being an administrator.
    pub(crate) tokens: ApiTokens,
}

impl AdminHandle {
    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (tx, rx) = oneshot::channel();
        self.commands.send(make(tx)).await.ok()?;
        rx.await.ok()
    }

    /// What a change is planned against; with `all` every statement that is held, not only those that
    /// stand.
    ///
    /// # Errors
    /// [`AdminError::Store`], [`AdminError::Stopping`].
    pub async fn registry(&self, author: Option<Id>, all: bool) -> Result<RegistryResponse, AdminError> {
        self.ask(|reply| Command::Registry { author, all, reply }).await.ok_or(AdminError::Stopping)?
    }

    /// Changes whenever something that is replicated does.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// Applications' records as they stand, in the order of kind and id.
    ///
    /// # Errors
    /// [`AdminError::Stopping`].
    pub async fn app_records(&self, filter: AppFilter) -> Result<AppRecordsResponse, AdminError> {
        self.ask(|reply| Command::AppRecords { filter, reply }).await.ok_or(AdminError::Stopping)?
    }

    /// Writes signed records, all or none.
    ///
    /// # Errors
    /// Why nothing was written; it is in the audit log then.
    pub async fn commit(
        &self,
        who: impl Into<Who>,
        request: CommitRequest,
    ) -> Result<CommitResponse, AdminError> {
        let who = who.into();
        let target = request.note.clone();
        let answer = self.try_commit(who.clone(), request).await;
        self.desk.told(&who, acts::COMMIT, &target, answer)
    }

    async fn try_commit(&self, who: Who, request: CommitRequest) -> Result<CommitResponse, AdminError> {
        if request.records.is_empty() {
            return Err(AdminError::Nothing);
        }
        let note = request.note.chars().filter(|c| !c.is_control()).take(200).collect();
        let expect_version = request.expect_version;
        // Signatures are checked beside the registrar, which would otherwise stand still meanwhile.
        let verified = tokio::task::spawn_blocking(move || verify(request)).await;
        let records = verified.map_err(|_| AdminError::Stopping)??;
        self.ask(|reply| Command::Commit { who, records, note, expect_version, reply })
            .await
            .ok_or(AdminError::Stopping)?
    }

    /// Applied records, newest first; `key` is `domain`, `domain/mirror`, a node's name, or an override's
    /// prefix.
    pub async fn history(&self, key: Option<String>, limit: usize) -> Result<Vec<HistoryView>, AdminError> {
        let limit = limit.clamp(1, 10_000);
        let filters = match key.as_deref() {
            None => vec![HistoryFilter { limit, ..HistoryFilter::default() }],
            Some(key) => filters(key, limit),
        };
        let mut entries = Vec::new();
        for filter in filters {
            entries.extend(self.store.history(filter).await?);
        }
        entries.sort_by_key(|e| std::cmp::Reverse(e.position));
        entries.truncate(limit);
        Ok(entries.iter().map(history_view).collect())
    }

    /// Makes a one-time token.
    ///
    /// # Errors
    /// [`AdminError::Request`] says what makes no sense.
    pub async fn invite(
        &self,
        who: impl Into<Who>,
        request: InviteRequest,
    ) -> Result<InviteResponse, AdminError> {
        let who = who.into();
        let target = request.name.clone().unwrap_or_default();
        let asked = self.ask(|reply| Command::Invite { who: who.clone(), request, reply }).await;
        self.desk.told(&who, acts::INVITE, &target, asked.unwrap_or(Err(AdminError::Stopping)))
    }

    /// Has a text answered where a certificate authority looks for it; `name` is what the certificate is for.
    ///
    /// # Errors
    /// [`AdminError::Request`] says what makes no sense; [`AdminError::Unauthorised`] where whoever asks, or
    /// this broker, may not.
    pub async fn set_challenge(
        &self,
        who: impl Into<Who>,
        name: String,
        request: ChallengeRequest,
    ) -> Result<ChallengeResponse, AdminError> {
        let (who, target) = (who.into(), name.clone());
        let asked = self.ask(|reply| Command::SetChallenge { who: who.clone(), name, request, reply }).await;
        self.desk.told(&who, acts::ACME_SET, &target, asked.unwrap_or(Err(AdminError::Stopping)))
    }

    /// Removes one such text of a name, or all of them.
    ///
    /// # Errors
    /// As [`AdminHandle::set_challenge`].
    pub async fn remove_challenges(
        &self,
        who: impl Into<Who>,
        name: String,
        value: Option<String>,
    ) -> Result<ChallengesRemoved, AdminError> {
        let (who, target) = (who.into(), name.clone());
        let asked =
            self.ask(|reply| Command::RemoveChallenges { who: who.clone(), name, value, reply }).await;
        self.desk.told(&who, acts::ACME_REMOVE, &target, asked.unwrap_or(Err(AdminError::Stopping)))
    }

    /// Makes a one-time token with which a broker joins.
    ///
    /// # Errors
    /// [`AdminError::Request`] says what makes no sense.
    pub async fn invite_peer(
        &self,
        who: impl Into<Who>,
        request: PeerInviteRequest,
    ) -> Result<PeerInviteResponse, AdminError> {
        let (who, target) = (who.into(), request.name.clone());
        let asked = self.ask(|reply| Command::InvitePeer { who: who.clone(), request, reply }).await;
        self.desk.told(&who, acts::PEER_INVITE, &target, asked.unwrap_or(Err(AdminError::Stopping)))
    }

    /// Asks the broker that made a token to let this one in.
    ///
    /// # Errors
    /// [`AdminError::Request`] where the token is none, or this broker's own.
    pub async fn join_peer(
        &self,
        who: impl Into<Who>,
        request: PeerJoinRequest,
    ) -> Result<PeerJoinResponse, AdminError> {
        let who = who.into();
        let asked = self.ask(|reply| Command::JoinPeer { who: who.clone(), request, reply }).await;
        let joined = self.desk.told(&who, acts::PEER_JOIN, "", asked.unwrap_or(Err(AdminError::Stopping)))?;
        tracing::info!(actor = %who.actor, peer = joined.peer, "asking to be let into a federation");
        Ok(joined)
    }

    /// Copies everything that is held to a file.
    ///
    /// # Errors
    /// [`AdminError::Request`] where the path is not absolute or its folder is not there;
    /// [`AdminError::Store`] where a file is there, or cannot be written.
    pub async fn backup(
        &self,
        who: impl Into<Who>,
        request: BackupRequest,
    ) -> Result<BackupResponse, AdminError> {
        // In a task of its own: the copy is made, and written down, also where its maker goes away.
        let (admin, who) = (self.clone(), who.into());
        let copied = tokio::spawn(async move { admin.copy_and_note(who, request).await });
        copied.await.map_err(|_| AdminError::Stopping)?
    }

    async fn copy_and_note(&self, who: Who, request: BackupRequest) -> Result<BackupResponse, AdminError> {
        let target = request.path.clone();
        let answer = self.copy(request).await;
        let BackupResponse { statements } = self.desk.told(&who, acts::BACKUP, &target, answer)?;
        tracing::info!(actor = %who.actor, path = target, statements, "everything was copied");
        let note = format!("{statements} statements");
        let act = Act { by: who.by(), code: acts::BACKUP.into(), target, note, ..Act::default() };
        // The copy is there, and its maker is not told otherwise; the log says what went wrong.
        let _ = self.desk.done(act).await;
        Ok(BackupResponse { statements })
    }

    async fn copy(&self, request: BackupRequest) -> Result<BackupResponse, AdminError> {
        let BackupRequest { path: text, overwrite } = request;
        let path = PathBuf::from(&text);
        if !path.is_absolute() || text.contains('\0') {
            return Err(AdminError::Request(format!("path = {text:?}: expected an absolute path to a file")));
        }
        // A path without a parent is the root, which is a folder itself.
        let folder = path.parent().unwrap_or(&path).to_owned();
        match tokio::fs::metadata(&folder).await {
            Ok(there) if there.is_dir() => {}
            _ => {
                let message = format!("path = {text:?}: {} is no folder that can be seen", folder.display());
                return Err(AdminError::Request(message));
            }
        }
        if tokio::fs::metadata(&path).await.is_ok_and(|there| there.is_dir()) {
            return Err(AdminError::Request(format!("path = {text:?}: expected a file, this is a folder")));
        }
        Ok(BackupResponse { statements: self.store.backup(path, overwrite).await? })
    }

    /// Makes a token of the API for a program that reads; answers its text, which is told this once. `taken` are
    /// names that the configuration has.
    ///
    /// # Errors
    /// [`AdminError::Request`] says what makes no sense; [`AdminError::TokenThere`].
    pub async fn create_token(
        &self,
        who: Who,
        request: &TokenRequest,
        taken: impl Fn(&str) -> bool,
    ) -> Result<(String, ApiTokenEntry), AdminError> {
        let answer = self.tokens.create(&who, request, taken).await;
        self.desk.told(&who, acts::TOKEN_CREATE, &request.name, answer)
    }

    /// Takes a token of the API back.
    ///
    /// # Errors
    /// [`AdminError::NoSuchToken`].
    pub async fn revoke_token(&self, who: Who, name: &str) -> Result<ApiTokenEntry, AdminError> {
        let answer = self.tokens.revoke(&who, name).await;
        self.desk.told(&who, acts::TOKEN_REVOKE, name, answer)
    }

    /// The tokens of the API that were made while running.
    pub fn tokens(&self) -> &ApiTokens {
        &self.tokens
    }

    /// Entries of the audit log.
    ///
    /// # Errors
    /// [`AdminError::Store`].
    pub async fn audit(&self, filter: AuditFilter) -> Result<AuditPage, AdminError> {
        Ok(self.store.audit(filter).await?)
    }

    /// Transitions that are kept.
    ///
    /// # Errors
    /// [`AdminError::Store`].
    pub async fn events(&self, filter: EventFilter) -> Result<EventsPage, AdminError> {
        Ok(self.store.events(filter).await?)
    }

    /// Where acts are handed in that are no change of the registry.
    pub fn desk(&self) -> &Desk {
        &self.desk
    }

    /// Hands in an attempt that was refused before it came here.
    pub(crate) fn refused(&self, who: &Who, act: &'static str, code: &'static str, target: &str) {
        self.desk.refused(who, act, Ending::Refused(code), target, "");
    }

    /// Redeems a token for the holder of a node's key, who came from `source`. That it is refused is in the audit
    /// log, many at once in one entry.
    pub async fn join(
        &self,
        (key, source): ([u8; 32], IpAddr),
        secret: [u8; 16],
        name: Option<String>,
    ) -> Result<Joined, Refused> {
        let stopping = Refused::new(Refusal::Leaving, "the broker is stopping");
        let target = name.clone().unwrap_or_default();
        let asked = self.ask(|reply| Command::Join { key, source, secret, name, reply }).await;
        asked.ok_or(stopping)?.inspect_err(|refused| {
            let label = refused.refusal.label();
            let ending = match refused.refusal {
                Refusal::Storage => Ending::Failed(label),
                _ => Ending::Refused(label),
            };
            let by = By::key(&Id { role: Role::Node, key }, Via::Agents).from(source);
            self.desk.refused_of(by, acts::NODE_JOIN, ending, &target, &refused.detail);
        })
    }

    /// Brings the registry in line with what a node's agent declares; returns sentences about what
    /// was left out.
    pub async fn declare(
        &self,
        key: [u8; 32],
        services: Vec<ServiceDecl>,
        place: Option<PlaceBody>,
    ) -> Result<Vec<String>, Refused> {
        let stopping = Refused::new(Refusal::Leaving, "the broker is stopping");
        self.ask(|reply| Command::Declare { key, services, place, reply }).await.ok_or(stopping)?
    }
}

/// What those ask who talk with peers.
impl AdminHandle {
    /// Stores what a peer delivered; it was checked.
    pub(crate) async fn receive(
        &self,
        peer: PublicKey,
        records: Vec<SignedRecord>,
    ) -> Result<Received, StoreError> {
        self.ask(|reply| Command::Receive(Delivery { peer, records, reply }))
            .await
            .ok_or(StoreError::Stopped)?
    }

    /// Keeps two records of one author with one number; whether they show what was not known.
    pub(crate) async fn forked(&self, a: SignedRecord, b: SignedRecord) -> Result<bool, StoreError> {
        self.ask(|reply| Command::Forked { a, b, reply }).await.ok_or(StoreError::Stopped)?
    }

    /// Makes the holder of a token a member, who came from `source`. That it is refused is in the audit log, many
    /// at once in one entry.
    pub(crate) async fn admit_peer(
        &self,
        (key, source): (PublicKey, IpAddr),
        join: Join,
    ) -> Result<(), AdminError> {
        let asked = self.ask(|reply| Command::AdmitPeer { key, source, join, reply }).await;
        asked.ok_or(AdminError::Stopping)?.inspect_err(|error| {
            let ending = match error.status() {
                500.. => Ending::Failed(error.code()),
                _ => Ending::Refused(error.code()),
            };
            let by = By::key(&Id { role: Role::Broker, key: key.0 }, Via::Peers).from(source);
            self.desk.refused_of(by, acts::PEER_ADMIT, ending, "", &error.to_string());
        })
    }

    /// This broker's token was used, or is good for nothing.
    pub(crate) async fn joined(&self, peer: PublicKey) -> Result<(), StoreError> {
        self.ask(|reply| Command::Joined { peer, reply }).await.ok_or(StoreError::Stopped)?
    }
}

/// Everything that a key may mean.
fn filters(key: &str, limit: usize) -> Vec<HistoryFilter> {
    let of = |scope: &str, id: Option<&str>| HistoryFilter {
        scope: Some(scope.into()),
        id: id.map(Into::into),
        limit,
        ..HistoryFilter::default()
    };
    let Some((scope, id)) = key.split_once('/') else {
        // A bare name is a domain (with all in it) or a node.
        return vec![of(key, None), of("", Some(key))];
    };
    // A domain may look like an address, so that a prefix is not told from a mirror by its form.
    let prefix = prefix::parse(key).map(|prefix| of("", Some(&prefix.to_string())));
    [of(scope, Some(id))].into_iter().chain(prefix).collect()
}

fn verify(request: CommitRequest) -> Result<Vec<SignedRecord>, AdminError> {
    let decode = |(index, view): (usize, &nearmost_wire::api::RecordView)| {
        let bytes = BASE64.decode(view.record.as_bytes()).map_err(|_| AdminError::Base64(index))?;
        SignedRecord::decode_verified(&bytes).map_err(|source| AdminError::Record { index, source })
    };
    request.records.iter().enumerate().map(decode).collect()
}

fn history_view(entry: &LogEntry) -> HistoryView {
    HistoryView {
        batch: entry.batch,
        version: entry.version,
        at_unix_ms: entry.received_unix_ms,
        actor: entry.actor.clone(),
        note: entry.note.clone(),
        record: BASE64.encode(entry.record.bytes()),
        previous: entry.previous.as_ref().map(|p| BASE64.encode(p.bytes())),
    }
}

/// The author of a record as people see it: a broker when it is this one, else a person.
pub fn author_id(author: &nearmost_replica::PublicKey, broker: &Id) -> Id {
    let role = if author.0 == broker.key { Role::Broker } else { Role::Person };
    Id { role, key: author.0 }
}
