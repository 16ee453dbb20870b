//! Ask, plan, sign, commit; and again when somebody else was faster.

use super::plan::Plan;
use super::sign::{SignError, sign, to_view};
use super::view::{RegistryView, ViewError};
use crate::client::Client;
use crate::clock::now_unix_ms;
use crate::error::ClientError;
use crate::http::random;
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

/// Why a change was not made. `E` says why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError<E: std::error::Error + 'static> {
    /// The broker could not be asked, or refused.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The broker's registry is not understood.
    #[error(transparent)]
    View(#[from] ViewError),
    /// There is no plan.
    #[error(transparent)]
    Plan(E),
    /// It cannot be signed.
    #[error(transparent)]
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
    /// The registry as it is now, with the sequence numbers of `author`.
    ///
    /// # Errors
    /// [`ClientError`], [`ViewError`].
    pub async fn view<E: std::error::Error + 'static>(
        &self,
        author: Option<&Id>,
    ) -> Result<RegistryView, ChangeError<E>> {
        Ok(RegistryView::decode(&self.registry(author).await?)?)
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
    let mut pause = FIRST_PAUSE;
    for _ in 0..ATTEMPTS {
        let view = client.view(Some(&author.key.id())).await?;
        let plan = make(&view).map_err(ChangeError::Plan)?;
        if plan.is_empty() {
            return Ok(Outcome { plan, response: None, enrolled: false });
        }
        let enrolled = client.endpoint().is_unix() && !view.knows_person(&author.key.id());
        let records = sign(&plan, &view, author.key, enrolled.then_some(author.name), now_unix_ms())?;
        let request = CommitRequest {
            records: records.iter().map(to_view).collect(),
            expect_version: Some(view.version),
            note: author.note.into(),
        };
        match client.commit(&request).await {
            Ok(response) => return Ok(Outcome { plan, response: Some(response), enrolled }),
            Err(e) if e.has_code(CONFLICT) => {
                let part = u16::from_le_bytes(random()?);
                tokio::time::sleep(pause.mul_f64(f64::from(part) / f64::from(u16::MAX))).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(e) => return Err(e.into()),
        }
    }
    Err(ChangeError::Busy)
}
