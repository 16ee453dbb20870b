//! What checks share: trust anchors, TLS settings, slots for commands.

use crate::tls;
use nearmost_core::check::CheckKind;
use rustls::client::ClientConfig;
use rustls_pki_types::CertificateDer;
use std::sync::Arc;
use tokio::sync::{Semaphore, SemaphorePermit};

/// How a [`Prober`] is made.
#[derive(Clone, Debug, Default)]
pub struct ProberOptions {
    /// Trust anchors besides the public ones, e.g. of an operator's own authority.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// How many commands may run at once; further ones wait for a slot. 0: commands are refused,
    /// as brokers must.
    pub max_commands: usize,
}

/// Why a [`Prober`] could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ProberError {
    /// An extra trust anchor is not a usable certificate.
    #[error("extra trust anchor {index} is not a usable certificate: {source}")]
    Root {
        /// Its position in [`ProberOptions::extra_roots`].
        index: usize,
        /// What is wrong with it.
        source: rustls::Error,
    },
    /// TLS could not be set up.
    #[error("TLS could not be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// What checks share; make one and keep it.
pub struct Prober {
    verifying: Arc<ClientConfig>,
    unverifying: Arc<ClientConfig>,
    commands: Option<Semaphore>,
    /// Checks ignore their deadline until there is a permit for each.
    #[cfg(test)]
    pub(crate) hangs: Option<Semaphore>,
}

impl Prober {
    /// Builds the TLS settings once.
    ///
    /// # Errors
    /// An extra trust anchor that cannot be used is named by its position.
    pub fn new(options: ProberOptions) -> Result<Self, ProberError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let commands = options.max_commands.min(Semaphore::MAX_PERMITS);
        Ok(Prober {
            verifying: Arc::new(tls::verifying(&provider, options.extra_roots)?),
            unverifying: Arc::new(tls::unverifying(&provider)?),
            commands: (commands > 0).then(|| Semaphore::new(commands)),
            #[cfg(test)]
            hangs: None,
        })
    }

    /// TLS settings that verify the server's certificate, or not, and offer these protocols.
    pub(crate) fn tls(&self, verify: bool, alpn: Vec<Vec<u8>>) -> Arc<ClientConfig> {
        let shared = if verify { &self.verifying } else { &self.unverifying };
        if alpn.is_empty() {
            return Arc::clone(shared);
        }
        // What is large in it is behind shared pointers.
        let mut config = ClientConfig::clone(shared);
        config.alpn_protocols = alpn;
        Arc::new(config)
    }

    /// Waits for leave to carry out a check: commands need a slot. Fails, with a reason, where commands
    /// are refused.
    pub(crate) async fn slot(&self, kind: &CheckKind) -> Result<Slot<'_>, &'static str> {
        const REFUSED: &str = "commands are not run here";
        match (kind, &self.commands) {
            (CheckKind::Command { .. }, None) => Err(REFUSED),
            // The semaphore is never closed, so an error cannot come; refusing would be right if it did.
            (CheckKind::Command { .. }, Some(slots)) => {
                slots.acquire().await.map(|slot| Slot(Some(slot))).map_err(|_| REFUSED)
            }
            _ => Ok(Slot(None)),
        }
    }
}

/// Leave to carry out a check, for as long as it is held.
pub(crate) struct Slot<'a>(#[expect(dead_code, reason = "held, not read")] Option<SemaphorePermit<'a>>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_trust_anchor_is_named_by_position() {
        let broken = CertificateDer::from(vec![1, 2, 3]);
        let options = ProberOptions { extra_roots: vec![broken], max_commands: 0 };
        let error = Prober::new(options).err().expect("refused");
        assert!(error.to_string().starts_with("extra trust anchor 0 "), "{error}");
    }
}
