//! What a session is made of.

use super::counters::Counters;
use super::driver::{Driver, Outlets, Problems};
use super::error::SessionError;
use super::handle::{Inner, Session};
use super::inbox::Inbox;
use super::known::Known;
use super::link::Ticket;
use super::{COMMANDS, EVENTS, INBOX, MOST_MIRRORS, SAID};
use nearmost_core::session::client::{Client, ClientConfig};
use nearmost_core::session::{Duplicate, Mode, SessionId};
use nearmost_wire::identity::{Id, KeyError, KeyPair, Role};
use nearmost_wire::name;
use ring::rand::{SecureRandom, SystemRandom};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{broadcast, mpsc, watch};

/// How long [`Builder::connect`] waits, unless it is told otherwise.
const WITHIN: Duration = Duration::from_secs(10);

/// A session to be.
#[must_use = "nothing happens until it is started or connected"]
pub struct Builder {
    domain: String,
    mirrors: Vec<Known>,
    key: Option<KeyPair>,
    mode: Mode,
    seed: Option<u64>,
    settings: ClientConfig,
    within: Duration,
}

impl Builder {
    pub(super) fn new(domain: &str) -> Builder {
        Builder {
            domain: domain.into(),
            mirrors: Vec::new(),
            key: None,
            mode: Mode::Datagram(Duplicate::default()),
            seed: None,
            settings: ClientConfig::default(),
            within: WITHIN,
        }
    }

    /// Adds a mirror.
    pub fn mirror(mut self, mirror: Known) -> Builder {
        self.mirrors.push(mirror);
        self
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

    /// Starts the session on the current tokio runtime, and does not wait for a mirror.
    ///
    /// # Errors
    /// [`SessionError`] about what was given.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(self) -> Result<Session, SessionError> {
        let domain = name::domain(&self.domain)?;
        check(&domain, &self.mirrors)?;
        let key = match self.key {
            Some(key) => key,
            // The role says only how a key is written.
            None => KeyPair::generate(Role::Person)?,
        };
        let seed = self.seed.map_or_else(random, Ok)?;
        let session = SessionId(random()?);
        let machine = Client::new(self.settings, session, self.mode, 1, seed);
        Ok(spawn(machine, self.mirrors, Ticket { domain, session, key }))
    }

    /// Starts the session and waits for its first mirror. Dropping the future ends what was begun.
    ///
    /// # Errors
    /// [`SessionError`]; where no mirror was attached in time it says what was wrong with each.
    pub async fn connect(self) -> Result<Session, SessionError> {
        let (domain, within) = (self.domain.clone(), self.within);
        let session = self.start()?;
        match tokio::time::timeout(within, session.attached()).await {
            Ok(Some(_)) => Ok(session),
            Ok(None) | Err(_) => {
                Err(SessionError::NotAttached { domain, within, problems: session.problems() })
            }
        }
    }
}

fn check(domain: &str, mirrors: &[Known]) -> Result<(), SessionError> {
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

fn spawn(machine: Client, mirrors: Vec<Known>, ticket: Ticket) -> Session {
    let counters = Arc::new(Counters::default());
    let inbox = Arc::new(Inbox::new(INBOX, counters.clone()));
    let problems: Arc<Problems> = Arc::new(Problems::new(vec![None; mirrors.len()]));
    let nodes: Vec<Id> = mirrors.iter().map(|known| known.node).collect();
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
    };
    tokio::spawn(Driver::new(machine, mirrors, ticket, to, outlets).run(commanded, said));
    Session(Arc::new(Inner { commands, primary, events, inbox, counters, problems, nodes }))
}
