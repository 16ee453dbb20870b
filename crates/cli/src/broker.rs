//! Which broker is asked, and as whom.

use crate::args::Global;
use crate::failure::{Failure, Kind, socket_hint};
use nearmost_client::identity::{Id, KeyPair};
use nearmost_client::{Auth, Client, Endpoint, person};
use std::io::ErrorKind;
use std::path::Path;

/// Where a broker's admin socket is looked for, in this order.
pub const SOCKETS: [&str; 2] = ["/run/nearmost/admin.sock", "/var/lib/nearmost/admin.sock"];

/// What every command needs.
pub struct Context {
    /// To the broker.
    pub client: Client,
    /// Print JSON.
    pub json: bool,
    token: bool,
    broker_id: Option<Id>,
}

impl Context {
    /// From the options of every command.
    pub fn new(global: &Global) -> anyhow::Result<Context> {
        let endpoint = match &global.broker {
            Some(text) => text.parse::<Endpoint>()?,
            None => default_endpoint(&SOCKETS)?,
        };
        let endpoint = endpoint.with_ca_file(global.ca.clone());
        let auth = match &global.token {
            Some(token) => Auth::Token(token.clone()),
            None if endpoint.is_unix() => Auth::None,
            // Only a key that is there: a question alone makes none.
            None => match person::default_path() {
                Ok(path) => person::load(&path)?.map_or(Auth::None, Auth::person),
                Err(_) => Auth::None,
            },
        };
        let client = Client::new(endpoint, auth).with_broker_id(global.broker_id);
        let (json, token, broker_id) = (global.json, global.token.is_some(), global.broker_id);
        Ok(Context { client, json, token, broker_id })
    }

    /// The key that signs changes, made on first use, and a client that proves itself with it
    /// where nothing else does.
    pub fn signer(&self) -> anyhow::Result<(KeyPair, Client)> {
        let path = person::default_path()?;
        let (key, made) = person::load_or_create(&path)?;
        if made {
            let message = format!("made your key {} in {}; keep a copy", key.id(), path.display());
            crate::output::notice(self.json, &message);
        }
        let client = match self.token {
            true => self.client.clone(),
            false => Client::new(self.client.endpoint().clone(), Auth::person(key.clone()))
                .with_broker_id(self.broker_id),
        };
        Ok((key, client))
    }
}

fn default_endpoint(sockets: &[&str]) -> anyhow::Result<Endpoint> {
    for path in sockets {
        match Path::new(path).try_exists() {
            Ok(true) => return Ok(Endpoint::Unix(path.into())),
            Ok(false) => {}
            Err(e) => {
                let hint = Some(socket_hint(Path::new(path), e.kind()));
                let kind = if e.kind() == ErrorKind::PermissionDenied {
                    Kind::Unauthorised
                } else {
                    Kind::Unreachable
                };
                return Err(Failure { kind, message: format!("socket {path}: {e}"), hint }.into());
            }
        }
    }
    Err(Failure {
        kind: Kind::Unreachable,
        message: format!("no broker runs on this machine: tried {}", sockets.join(" and ")),
        hint: Some(
            "start it (`systemctl start nearmost-broker`), or name another one with --broker unix:PATH, --broker \
             https://HOST or NEARMOST_BROKER; `nearmost doctor` looks further"
                .into(),
        ),
    }
    .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_socket_that_exists_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.sock"), dir.path().join("b.sock"));
        let sockets = [a.to_str().unwrap(), b.to_str().unwrap()];
        let error = default_endpoint(&sockets).unwrap_err().to_string();
        assert!(error.contains(sockets[0]) && error.contains(sockets[1]), "{error}");
        std::fs::write(&b, "").unwrap();
        assert_eq!(default_endpoint(&sockets).unwrap(), Endpoint::Unix(b.clone()));
        std::fs::write(&a, "").unwrap();
        assert_eq!(default_endpoint(&sockets).unwrap(), Endpoint::Unix(a.clone()));
    }
}
