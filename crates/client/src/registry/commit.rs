//! Ask, plan, sign, commit; and again when somebody else was faster.

use super::held::Held;
use super::plan::Plan;
use super::sign::{SignError, Stamp, sign, to_view};
use super::statements::StatementPlan;
use super::view::{RegistryView, ViewError};
use crate::client::Client;
use crate::clock::now_unix_ms;
use crate::error::ClientError;
use crate::http::random;
use nearmost_replica::SignedRecord;
use nearmost_wire::api::{CommitRequest, CommitResponse};
use nearmost_wire::identity::{Id, KeyPair};
use std::time::Duration;

/// How often a change is planned anew because the registry moved on.
const ATTEMPTS: u32 = 10;
/// Longest pause after the first attempt; it doubles up to [`LONGEST_PAUSE`]. A random part of it is
/// waited, so that those who met do not meet again.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// The code of a refusal because the registry moved on.
const CONFLICT: &str = "version_conflict";

/// Why a change was not made. `E` says why there is no plan. Each cause is the error's source, so that a
/// caller that no longer knows `E` finds it.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError<E: std::error::Error + 'static> {
    /// The broker could not be asked, or refused.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// The broker's registry is not understood.
    #[error("{0}")]
    View(#[from] ViewError),
    /// There is no plan.
    #[error("{0}")]
    Plan(#[source] E),
    /// It cannot be signed.
    #[error("{0}")]
    Sign(#[from] SignError),
    /// Others change the registry all the time.
    #[error("the registry changed during each of {ATTEMPTS} attempts; try again")]
    Busy,
}

/// Who makes changes, and what they are told to the history as.
#[derive(Clone, Debug)]
pub struct Author<'a> {
    /// The person's key.
    pub key: &'a KeyPair,
    /// The name under which the person is made known on first use.
    pub name: &'a str,
    /// For the history.
    pub note: &'a str,
}

/// A change that was made, or turned out to be none.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What changed.
    pub plan: Plan,
    /// What the broker said; `None` when there was nothing to do.
    pub response: Option<CommitResponse>,
    /// Whether the person's key was made known to the broker with it.
    pub enrolled: bool,
}

impl Client {
    /// The registry as it is now.
    ///
    /// # Errors
    /// [`ClientError`], [`ViewError`].
    pub async fn view<E: std::error::Error + 'static>(&self) -> Result<RegistryView, ChangeError<E>> {
        Ok(RegistryView::decode(&self.registry().await?)?)
    }

    /// Every statement as it is now.
    ///
    /// # Errors
    /// [`ClientError`], [`ViewError`].
    pub async fn held<E: std::error::Error + 'static>(&self) -> Result<Held, ChangeError<E>> {
        Ok(Held::decode(&self.statements().await?, now_unix_ms())?)
    }
}

/// Makes the change that `make` plans. `make` is called again, up to ten times in all, when the
/// registry has moved on before the commit. A person whom the broker does not know is made known
/// when it is spoken to over its Unix socket; elsewhere it refuses them.
///
/// # Errors
/// [`ChangeError`]; nothing was written then.
pub async fn change<E: std::error::Error + 'static>(
    client: &Client,
    author: &Author<'_>,
    mut make: impl FnMut(&RegistryView) -> Result<Plan, E>,
) -> Result<Outcome, ChangeError<E>> {
    let mut attempts = Attempts::default();
    while attempts.next().await? {
        let view = client.view().await?;
        let plan = make(&view).map_err(ChangeError::Plan)?;
        if plan.is_empty() {
            return Ok(Outcome { plan, response: None, enrolled: false });
        }
        let enrolled = client.endpoint().is_unix() && !view.knows_person(&author.key.id());
        let records = sign(&plan, &view, author.key, enrolled.then_some(author.name), Stamp::now()?)?;
        if let Some(response) = commit(client, &records, view.version, author.note).await? {
            return Ok(Outcome { plan, response: Some(response), enrolled });
        }
    }
    Err(ChangeError::Busy)
}

/// What was stated, or turned out to be stated already.
#[derive(Clone, Debug)]
pub struct Stated {
    /// What.
    pub plan: StatementPlan,
    /// What the broker said; `None` when there was nothing to do.
    pub response: Option<CommitResponse>,
    /// Keys that were made known to the broker with it.
    pub enrolled: Vec<Id>,
}

/// States what `make` plans, as [`change`] makes changes. `heir` is the key that takes the author's place,
/// where the plan has it state something.
///
/// # Errors
/// [`ChangeError`]; nothing was written then.
pub async fn state<E: std::error::Error + 'static>(
    client: &Client,
    author: &Author<'_>,
    heir: Option<&KeyPair>,
    mut make: impl FnMut(&Held) -> Result<StatementPlan, E>,
) -> Result<Stated, ChangeError<E>> {
    let mut attempts = Attempts::default();
    while attempts.next().await? {
        let held = client.held().await?;
        let plan = make(&held).map_err(ChangeError::Plan)?;
        if plan.is_empty() {
            return Ok(Stated { plan, response: None, enrolled: Vec::new() });
        }
        let mut new: Vec<&KeyPair> = Vec::new();
        if client.endpoint().is_unix() {
            new.extend(std::iter::once(author.key).chain(heir).filter(|key| !held.knows_person(&key.id())));
        }
        let records = plan.sign(&held, author, heir, &new, Stamp::now()?)?;
        if let Some(response) = commit(client, &records, held.version, author.note).await? {
            let enrolled = new.into_iter().map(KeyPair::id).collect();
            return Ok(Stated { plan, response: Some(response), enrolled });
        }
    }
    Err(ChangeError::Busy)
}

/// Commits what was planned against a version; `None` where the registry has moved on.
async fn commit(
    client: &Client,
    records: &[SignedRecord],
    version: u64,
    note: &str,
) -> Result<Option<CommitResponse>, ClientError> {
    let request = CommitRequest {
        records: records.iter().map(to_view).collect(),
        expect_version: Some(version),
        note: note.into(),
    };
    match client.commit(&request).await {
        Ok(response) => Ok(Some(response)),
        Err(e) if e.has_code(CONFLICT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The attempts at a change, and the pauses between them.
#[derive(Default)]
struct Attempts {
    made: u32,
    pause: Option<Duration>,
}

impl Attempts {
    /// Waits before another attempt; whether there is one.
    async fn next(&mut self) -> Result<bool, ClientError> {
        if let Some(pause) = self.pause.filter(|_| self.made < ATTEMPTS) {
            let part = u16::from_le_bytes(random()?);
            tokio::time::sleep(pause.mul_f64(f64::from(part) / f64::from(u16::MAX))).await;
        }
        self.pause = Some(self.pause.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE)));
        self.made += 1;
        Ok(self.made <= ATTEMPTS)
    }
}
