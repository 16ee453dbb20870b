//! Peers and applications' records: the API's questions, typed.

use crate::client::Client;
use crate::error::ClientError;
use crate::follow::{Follow, Followed};
use crate::http::Ask;
use nearmost_wire::api::{
    AppRecordView, AppRecordsResponse, BackupRequest, BackupResponse, PeerInviteRequest, PeerInviteResponse,
    PeerJoinRequest, PeerJoinResponse, PeersResponse,
};
use nearmost_wire::name;
use std::time::Duration;

impl Client {
    /// The federation as the broker sees it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn peers(&self) -> Result<PeersResponse, ClientError> {
        self.transport.json(Ask::get("/v1/peers", &[])).await
    }

    /// A one-time token for a broker to join with.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn peer_invite(&self, request: &PeerInviteRequest) -> Result<PeerInviteResponse, ClientError> {
        self.post("/v1/peers/invites", request).await
    }

    /// Has the broker join the federation of a token's broker.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn peer_join(&self, request: &PeerJoinRequest) -> Result<PeerJoinResponse, ClientError> {
        self.post("/v1/peers/join", request).await
    }

    /// Applications' live records of a domain, of one kind and one id where these are given; with an id
    /// also that it was removed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn app_records(
        &self,
        domain: &str,
        kind: Option<u16>,
        id: Option<&str>,
    ) -> Result<AppRecordsResponse, ClientError> {
        let mut query = query(domain, kind)?;
        query.extend(id.map(|id| ("id", id.to_owned())));
        let query: Vec<(&str, &str)> = query.iter().map(|(key, value)| (*key, value.as_str())).collect();
        self.transport.json(Ask::get("/v1/records", &query)).await
    }

    /// Applications' records of a domain: first what stands, then changes as they come.
    ///
    /// # Errors
    /// [`ClientError::Name`].
    pub fn watch_app_records(&self, domain: &str, kind: Option<u16>) -> Result<RecordStream, ClientError> {
        let query = query(domain, kind)?;
        Ok(RecordStream { follow: Follow::new(self.transport.clone(), "/v1/records/watch", query) })
    }

    /// Has the broker write a copy of everything it holds to a file on its machine.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn backup(&self, request: &BackupRequest) -> Result<BackupResponse, ClientError> {
        self.post("/v1/backup", request).await
    }
}

fn query(domain: &str, kind: Option<u16>) -> Result<Vec<(&'static str, String)>, ClientError> {
    let domain = ("domain", name::domain(domain)?);
    Ok(std::iter::once(domain).chain(kind.map(|kind| ("kind", kind.to_string()))).collect())
}

/// What [`RecordStream::next`] has to say.
#[derive(Debug)]
pub enum RecordNotice {
    /// A record as it stands now; without a body it was removed.
    Record(AppRecordView),
    /// The connection was lost and is made again after `retry_in`; what stands is told anew then, and what
    /// was removed meanwhile is not.
    Lost {
        /// What happened; `None` when the broker ended the stream.
        why: Option<ClientError>,
        /// How long is waited.
        retry_in: Duration,
    },
}

/// An endless stream of applications' records.
pub struct RecordStream {
    follow: Follow,
}

impl RecordStream {
    /// The next record, or that the connection was lost. May be cancelled and called again.
    ///
    /// # Errors
    /// When the first connection fails, when the broker refuses, and when a record is not understood.
    pub async fn next(&mut self) -> Result<RecordNotice, ClientError> {
        loop {
            match self.follow.next().await? {
                Followed::Lost { why, retry_in } => return Ok(RecordNotice::Lost { why, retry_in }),
                // Other names are those of a newer broker.
                Followed::Event(event) if matches!(event.name.as_deref(), None | Some("record")) => {
                    return Ok(RecordNotice::Record(self.follow.data(&event)?));
                }
                Followed::Event(_) => {}
            }
        }
    }
}
