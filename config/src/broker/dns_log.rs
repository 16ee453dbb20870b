//! `[dns.log]`: a sample of the queries, written down.

use crate::error::Fault;
use crate::value::{FilePath, Share, Text, TextKind, set};
use serde::Deserialize;
use std::borrow::Cow;
use std::path::PathBuf;

/// A sample of the queries, written down with what was answered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DnsLogConfig {
    /// Share of the queries, 0 to 1; 0 is off.
    pub sample: f64,
    /// Where JSON goes, one object a line.
    pub json: Option<JsonTarget>,
    /// Unix socket of a dnstap collector.
    pub dnstap: Option<PathBuf>,
    /// How much is written of who asked.
    pub client: ClientDetail,
}

/// Where JSON goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JsonTarget {
    /// Standard error, between the lines of the program's own log.
    Stderr,
    /// The end of a file.
    File(PathBuf),
}

/// How much is written of who asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientDetail {
    /// The whole address.
    Full,
    /// Its /24 (IPv4) or /48 (IPv6).
    #[default]
    Network,
    /// Nothing.
    None,
}

/// `[dns.log]` in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
pub(crate) struct DnsLogSpec {
    sample: Option<Share>,
    json: Option<Text<JsonTarget>>,
    dnstap: Option<Text<FilePath>>,
    client: Option<Text<ClientDetail>>,
}

impl DnsLogSpec {
    pub(super) fn apply(self, log: &mut DnsLogConfig) -> Result<(), Fault> {
        set(&mut log.sample, self.sample);
        log.json = self.json.map(crate::value::Plain::plain);
        log.dnstap = self.dnstap.map(crate::value::Plain::plain);
        set(&mut log.client, self.client);
        match log.sample > 0.0 && log.json.is_none() && log.dnstap.is_none() {
            true => Err(Fault::rule("dns.log.sample", "needs dns.log.json or dns.log.dnstap beside it")),
            false => Ok(()),
        }
    }
}

impl TextKind for JsonTarget {
    type Value = JsonTarget;
    const EXPECTED: &'static str = "a path, or \"stderr\"";

    fn parse(text: &str) -> Result<JsonTarget, Cow<'static, str>> {
        match text {
            "" => Err(Cow::Borrowed(Self::EXPECTED)),
            "stderr" => Ok(JsonTarget::Stderr),
            path => Ok(JsonTarget::File(path.into())),
        }
    }
}

impl TextKind for ClientDetail {
    type Value = ClientDetail;
    const EXPECTED: &'static str = "\"full\", \"network\" or \"none\"";

    fn parse(text: &str) -> Result<ClientDetail, Cow<'static, str>> {
        match text {
            "full" => Ok(ClientDetail::Full),
            "network" => Ok(ClientDetail::Network),
            "none" => Ok(ClientDetail::None),
            _ => Err(Cow::Borrowed(Self::EXPECTED)),
        }
    }
}
