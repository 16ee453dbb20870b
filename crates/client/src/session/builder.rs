//! What a session is made of.

use super::counters::Counters;
use super::driver::{Driver, Names, Outlets, Problems};
use super::error::SessionError;
use super::find::{self, BrokerAt, FindError, Found};
use super::handle::{Inner, Session};
use super::inbox::Inbox;
use super::known::Known;
use super::line::Heard;
use super::link::Ticket;
use super::lists::{HEARD, Lists};
use super::{COMMANDS, EVENTS, INBOX, MOST_BROKERS, MOST_MIRRORS, SAID};
use crate::endpoint::Endpoint;
use nearmost_core::session::client::{Client, ClientConfig};
use nearmost_core::session::{Duplicate, Mode, SessionId};
use nearmost_wire::identity::{Id, KeyError, KeyPair, Role};
use nearmost_wire::name;
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, watch};

/// How long [`Builder::connect`] waits, unless it is told otherwise.
const WITHIN: Duration = Duration::from_secs(10);

/// A session to be.
#[must_use = "nothing happens until it is started or connected"]
pub struct Builder {
    domain: String,
    sources: Sources,
    key: Option<KeyPair>,
    mode: Mode,
    seed: Option<u64>,
    settings: ClientConfig,
    within: Duration,
}

/// Who tells of mirrors.
#[derive(Default)]
struct Sources {
    mirrors: Vec<Known>,
    brokers: Vec<BrokerAt>,
    token: Option<String>,
    urls: Vec<Endpoint>,
    name_servers: Vec<SocketAddr>,
    owner: Option<Id>,
}

impl Builder {
    pub(super) fn new(domain: &str) -> Builder {
        Builder {
            domain: domain.into(),
            sources: Sources::default(),
            key: None,
            mode: Mode::Datagram(Duplicate::default()),
            seed: None,
            settings: ClientConfig::default(),
            within: WITHIN,
        }
    }

    /// Adds a mirror. With any, no broker is asked.
    pub fn mirror(mut self, mirror: Known) -> Builder {
        self.sources.mirrors.push(mirror);
        self
    }

    /// Adds a broker to ask; those named first are asked first.
    pub fn broker(mut self, broker: BrokerAt) -> Builder {
        self.sources.brokers.push(broker);
        self
    }

    /// The domain's token (`nmc1…`), which names brokers and, if there is one, the owner.
    pub fn token(mut self, token: &str) -> Builder {
        self.sources.token = Some(token.into());
        self
    }

    /// Adds the broker at a URL of its HTTP API.
    pub fn url(mut self, url: Endpoint) -> Builder {
        self.sources.urls.push(url);
        self
    }

    /// Looks brokers up at this name server, where they are looked up in DNS, and not at the system's.
    pub fn name_server(mut self, server: SocketAddr) -> Builder {
        self.sources.name_servers.push(server);
        self
    }

    /// The domain's owner (`np1…`): a mirror counts only with the word of a broker that it chose. Wins over
    /// whatever a token or DNS say.
    pub fn owner(mut self, owner: Id) -> Builder {
        self.sources.owner = Some(owner);
        self
    }

    /// Finds the brokers that are not named yet: by token, at URLs, and in DNS where nothing else was said.
    ///
    /// # Errors
    /// [`SessionError::Find`] when none was found; while one is, the others' faults are passed over.
    pub async fn find(mut self) -> Result<Builder, SessionError> {
        let domain = name::domain(&self.domain)?;
        let sources = &mut self.sources;
        if !sources.mirrors.is_empty() {
            return Ok(self);
        }
        let mut results: Vec<Result<Found, FindError>> = Vec::new();
        if let Some(token) = sources.token.take() {
            // A wrong token is not passed over: it may be the one that names the owner.
            results.push(Ok(find::by_token(&domain, &token)?));
        }
        for url in std::mem::take(&mut sources.urls) {
            results.push(find::by_url(url).await);
        }
        if results.is_empty() && sources.brokers.is_empty() {
            results.push(find::by_dns(&domain, &sources.name_servers).await);
        }
        let mut wrong = None;
        for result in results {
            match result {
                Ok(found) => {
                    sources.brokers.extend(found.brokers);
                    sources.owner = sources.owner.or(found.owner);
                }
                Err(error) => wrong = Some(error),
            }
        }
        sources.brokers.truncate(MOST_BROKERS);
        match wrong {
            Some(error) if sources.brokers.is_empty() => Err(error.into()),
            _ => Ok(self),
        }
    }

    /// The client's key, which is who it is to mirrors. Without one, one is made for this session.
    pub fn key(mut self, key: KeyPair) -> Builder {
        self.key = Some(key);
        self
    }

    /// What packets may suffer; datagrams, doubled while the primary is in doubt, if nothing is said.
    pub fn mode(mut self, mode: Mode) -> Builder {
        self.mode = mode;
        self
    }

    /// Drives the session's jitter; random if nothing is said.
    pub fn seed(mut self, seed: u64) -> Builder {
        self.seed = Some(seed);
        self
    }

    /// The machine's settings.
    pub fn settings(mut self, settings: ClientConfig) -> Builder {
        self.settings = settings;
        self
    }

    /// How long [`connect`](Builder::connect) waits for a mirror.
    pub fn within(mut self, within: Duration) -> Builder {
        self.within = within;
        self
    }

    /// Starts the session on the current tokio runtime, and does not wait for a mirror. Mirrors or brokers
    /// must be named, or [found](Builder::find) before.
    ///
    /// # Errors
    /// [`SessionError`] about what was given.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(self) -> Result<Session, SessionError> {
        let domain = name::domain(&self.domain)?;
        self.settings.check()?;
        let Sources { mirrors, brokers, token, urls, owner, .. } = self.sources;
        if mirrors.is_empty() && (token.is_some() || !urls.is_empty()) {
            return Err(SessionError::NotFound);
        }
        check(&domain, &mirrors, &brokers)?;
        let key = match self.key {
            Some(key) => key,
            // The role says only how a key is written.
            None => KeyPair::generate(Role::Person)?,
        };
        let seed = self.seed.map_or_else(random, Ok)?;
        let session = SessionId(random()?);
        let machine = Client::new(self.settings, session, self.mode, brokers.len(), seed);
        let (to, heard) = mpsc::channel(HEARD);
        let lists = match mirrors.is_empty() {
            true => Lists::brokers(domain.clone(), brokers, owner, to),
            false => Lists::given(mirrors),
        };
        Ok(spawn(machine, lists, heard, Ticket { domain, session, key }))
    }

    /// Finds brokers where none are named, starts the session and waits for its first mirror. Dropping the
    /// future ends what was begun.
    ///
    /// # Errors
    /// [`SessionError`]; where no mirror was attached in time it says what was wrong with each.
    pub async fn connect(self) -> Result<Session, SessionError> {
        let (domain, within) = (self.domain.clone(), self.within);
        let session = self.find().await?.start()?;
        match tokio::time::timeout(within, session.attached()).await {
            Ok(Some(_)) => Ok(session),
            Ok(None) | Err(_) => {
                Err(SessionError::NotAttached { domain, within, problems: session.problems() })
            }
        }
    }
}

fn check(domain: &str, mirrors: &[Known], brokers: &[BrokerAt]) -> Result<(), SessionError> {
    if mirrors.is_empty() && !brokers.is_empty() {
        return Ok(());
    }
    if mirrors.iter().all(|known| known.addresses.is_empty()) {
        return Err(SessionError::NoMirrors(domain.into()));
    }
    if mirrors.len() > MOST_MIRRORS {
        return Err(SessionError::TooManyMirrors(mirrors.len()));
    }
    let mut seen = HashSet::new();
    match mirrors.iter().find(|known| !seen.insert(known.node)) {
        Some(known) => Err(SessionError::Twice(known.node)),
        None => Ok(()),
    }
}

fn random() -> Result<u64, KeyError> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::Random)?;
    Ok(u64::from_le_bytes(bytes))
}

fn spawn(machine: Client, lists: Lists, heard: mpsc::Receiver<Heard>, ticket: Ticket) -> Session {
    let counters = Arc::new(Counters::default());
    let inbox = Arc::new(Inbox::new(INBOX, counters.clone()));
    let (problems, names): (Arc<Problems>, Arc<Names>) = (Arc::default(), Arc::default());
    let (commands, commanded) = mpsc::channel(COMMANDS);
    let (to, said) = mpsc::channel(SAID);
    let (shown, primary) = watch::channel(None);
    let (sender, events) = broadcast::channel(EVENTS);
    let outlets = Outlets {
        primary: shown,
        events: sender,
        inbox: inbox.clone(),
        counters: counters.clone(),
        problems: problems.clone(),
        names: names.clone(),
    };
    tokio::spawn(Driver::new(machine, lists, ticket, to, outlets).run(commanded, said, heard));
    Session(Arc::new(Inner { commands, primary, events, inbox, counters, problems, names }))
}
