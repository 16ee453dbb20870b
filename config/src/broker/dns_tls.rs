//! `[dns.tls]`: DNS that nobody on the way can read, over TLS and over QUIC.

use super::TlsFiles;
use super::spec::Limit;
use crate::error::Fault;
use crate::value::{FilePath, Listen, Millis, Number, Plain, Text, set};
use serde::Deserialize;
use std::net::SocketAddr;
use std::time::Duration;

/// DNS over TLS (RFC 7858) and over QUIC (RFC 9250). The limits are each transport's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsTlsConfig {
    /// Certificate and key; there when anything is listened on.
    pub files: Option<TlsFiles>,
    /// TCP addresses of DNS over TLS.
    pub dot_listen: Vec<SocketAddr>,
    /// UDP addresses of DNS over QUIC.
    pub doq_listen: Vec<SocketAddr>,
    /// Open connections, all together.
    pub max_connections: usize,
    /// Open connections of one source: an IPv4 address or an IPv6 /64.
    pub max_per_source: usize,
    /// A handshake not done after this long is dropped.
    pub handshake_timeout: Duration,
    /// A connection without a query for this long is closed.
    pub idle_timeout: Duration,
    /// Queries on one connection before it is closed.
    pub max_queries: u32,
    /// Queries that one QUIC connection may have under way at once.
    pub max_streams: u32,
}

impl Default for DnsTlsConfig {
    fn default() -> Self {
        DnsTlsConfig {
            files: None,
            dot_listen: Vec::new(),
            doq_listen: Vec::new(),
            max_connections: 1000,
            max_per_source: 20,
            handshake_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(10),
            max_queries: 1000,
            max_streams: 32,
        }
    }
}

impl DnsTlsConfig {
    /// The files, if they are used.
    pub fn files_in_use(&self) -> Option<&TlsFiles> {
        let used = !self.dot_listen.is_empty() || !self.doq_listen.is_empty();
        self.files.as_ref().filter(|_| used)
    }
}

/// `[dns.tls]` in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct DnsTlsSpec {
    cert: Option<Text<FilePath>>,
    key: Option<Text<FilePath>>,
    dot_listen: Option<Vec<Text<Listen>>>,
    doq_listen: Option<Vec<Text<Listen>>>,
    max_connections: Option<Limit>,
    max_per_source: Option<Limit>,
    handshake_timeout_ms: Option<Millis>,
    idle_timeout_ms: Option<Millis>,
    max_queries: Option<Number<u32, 1>>,
    max_streams: Option<Number<u32, 1, 1000>>,
}

impl DnsTlsSpec {
    pub(super) fn apply(self, tls: &mut DnsTlsConfig) -> Result<(), Fault> {
        set(&mut tls.dot_listen, self.dot_listen);
        set(&mut tls.doq_listen, self.doq_listen);
        set(&mut tls.max_connections, self.max_connections);
        set(&mut tls.max_per_source, self.max_per_source);
        set(&mut tls.handshake_timeout, self.handshake_timeout_ms);
        set(&mut tls.idle_timeout, self.idle_timeout_ms);
        set(&mut tls.max_queries, self.max_queries);
        set(&mut tls.max_streams, self.max_streams);
        tls.files = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some(TlsFiles { cert: cert.plain(), key: key.plain() }),
            (Some(_), None) => return Err(Fault::rule("dns.tls.cert", "needs dns.tls.key beside it")),
            (None, Some(_)) => return Err(Fault::rule("dns.tls.key", "needs dns.tls.cert beside it")),
            (None, None) => None,
        };
        let listening = [("dns.tls.dot_listen", &tls.dot_listen), ("dns.tls.doq_listen", &tls.doq_listen)];
        match listening.iter().find(|(_, listen)| tls.files.is_none() && !listen.is_empty()) {
            Some((key, _)) => Err(Fault::rule(*key, "needs dns.tls.cert and dns.tls.key beside it")),
            None => Ok(()),
        }
    }
}
