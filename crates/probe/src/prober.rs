//! What checks share: trust anchors, TLS settings, slots for commands.

use crate::tls;
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
        })
    }

    /// TLS settings that verify the server's certificate, or not.
    pub(crate) fn tls(&self, verify: bool) -> Arc<ClientConfig> {
        Arc::clone(if verify { &self.verifying } else { &self.unverifying })
    }

    /// Waits for leave to run a command; `None` when commands are refused.
    pub(crate) async fn command_slot(&self) -> Option<SemaphorePermit<'_>> {
        // The semaphore is never closed, so an error cannot come; refusing would be right if it did.
        self.commands.as_ref()?.acquire().await.ok()
    }
}

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
