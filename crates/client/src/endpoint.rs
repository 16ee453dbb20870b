//! Where a broker listens, and what proves us to it.

use nearmost_wire::identity::KeyPair;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

/// Port of plain HTTP where none is given: the broker's API.
pub const DEFAULT_HTTP_PORT: u16 = 8053;
/// Port of HTTPS where none is given.
pub const DEFAULT_HTTPS_PORT: u16 = 443;

/// Where a broker listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The admin socket on this machine: `unix:/run/nearmost/admin.sock`. The file's permissions
    /// are the authentication.
    Unix(PathBuf),
    /// `http://host[:port]`: for loopback and trusted networks.
    Http {
        /// Name or address, IPv6 without brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// `https://host[:port]`.
    Https {
        /// Name or address, IPv6 without brackets.
        host: String,
        /// TCP port.
        port: u16,
        /// Certificate authorities (PEM) trusted besides the public ones.
        ca_file: Option<PathBuf>,
    },
}

/// Why a text is no endpoint, or must not be used as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No known scheme.
    #[error("broker {0:?}: expected unix:/path, http://host:port or https://host:port")]
    Scheme(String),
    /// The scheme is right, the rest is not.
    #[error("broker {text:?}: {problem}")]
    Rest {
        /// What was given.
        text: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A token would cross the network readable for everyone.
    #[error("broker {0}: a token is not sent unencrypted beyond this machine; use https://")]
    TokenInClear(String),
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if !path.starts_with('/') {
                let problem = "expected an absolute path after unix:".into();
                return Err(EndpointError::Rest { text: text.into(), problem });
            }
            return Ok(Endpoint::Unix(path.into()));
        }
        let rest = |rest: &str, port| {
            host_port(rest, port).map_err(|problem| EndpointError::Rest { text: text.into(), problem })
        };
        if let Some(r) = text.strip_prefix("http://") {
            let (host, port) = rest(r, DEFAULT_HTTP_PORT)?;
            return Ok(Endpoint::Http { host, port });
        }
        if let Some(r) = text.strip_prefix("https://") {
            let (host, port) = rest(r, DEFAULT_HTTPS_PORT)?;
            return Ok(Endpoint::Https { host, port, ca_file: None });
        }
        Err(EndpointError::Scheme(text.into()))
    }
}

fn host_port(text: &str, default: u16) -> Result<(String, u16), String> {
    let text = text.strip_suffix('/').unwrap_or(text);
    if let Some(at) = text.find(['/', '?', '#', '@']) {
        return Err(format!("found {:?}, expected only a host and a port", &text[at..]));
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(inner) => {
            let (host, after) = inner.split_once(']').ok_or("'[' is not closed")?;
            host.parse::<Ipv6Addr>().map_err(|_| format!("{host:?} is not an IPv6 address"))?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(format!("found {after:?} after ']'")),
            }
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("an IPv6 address stands in brackets: [::1]:8053".into());
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.parse::<IpAddr>().is_err() {
        nearmost_wire::name::domain(host).map_err(|e| e.to_string())?;
    }
    let port = match port {
        Some(p) => p.parse().ok().filter(|p| *p != 0).ok_or_else(|| format!("{p:?} is not a port"))?,
        None => default,
    };
    Ok((host.into(), port))
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
            Endpoint::Http { .. } => write!(f, "http://{}", self.authority()),
            Endpoint::Https { .. } => write!(f, "https://{}", self.authority()),
        }
    }
}

impl Endpoint {
    /// Trusts the certificate authorities of a PEM file too; of no effect without TLS.
    #[must_use]
    pub fn with_ca_file(self, path: Option<PathBuf>) -> Endpoint {
        match self {
            Endpoint::Https { host, port, .. } => Endpoint::Https { host, port, ca_file: path },
            other => other,
        }
    }

    /// Whether it is the admin socket of this machine.
    pub fn is_unix(&self) -> bool {
        matches!(self, Endpoint::Unix(_))
    }

    /// The value of the `Host` header.
    pub(crate) fn authority(&self) -> String {
        match self {
            Endpoint::Unix(_) => "localhost".into(),
            Endpoint::Http { host, port } | Endpoint::Https { host, port, .. } if host.contains(':') => {
                format!("[{host}]:{port}")
            }
            Endpoint::Http { host, port } | Endpoint::Https { host, port, .. } => format!("{host}:{port}"),
        }
    }

    /// Refuses to send a token where others can read it.
    pub(crate) fn check_auth(&self, auth: &Auth) -> Result<(), EndpointError> {
        match (self, auth) {
            (Endpoint::Http { host, .. }, Auth::Token(_)) if !is_loopback(host) => {
                Err(EndpointError::TokenInClear(self.to_string()))
            }
            _ => Ok(()),
        }
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// What proves us to the broker. On the Unix socket nothing is sent: its permissions suffice.
#[derive(Clone, Default)]
pub enum Auth {
    /// Nothing.
    #[default]
    None,
    /// A bearer token (RFC 6750).
    Token(String),
    /// A person's key signs each request ([`nearmost_wire::auth`]).
    Person(Box<KeyPair>),
}

impl Auth {
    /// A person's key.
    pub fn person(key: KeyPair) -> Auth {
        Auth::Person(Box::new(key))
    }
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Auth::None => f.write_str("None"),
            Auth::Token(_) => f.write_str("Token(…)"),
            Auth::Person(key) => write!(f, "Person({})", key.id()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_and_shown() {
        for (text, shown) in [
            ("unix:/run/nearmost/admin.sock", "unix:/run/nearmost/admin.sock"),
            ("unix:///run/a.sock", "unix:/run/a.sock"),
            ("http://127.0.0.1", "http://127.0.0.1:8053"),
            ("http://[::1]:99/", "http://[::1]:99"),
            ("https://broker.example.com", "https://broker.example.com:443"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn wrong_endpoints_say_what_is_wrong() {
        for (text, says) in [
            ("broker.example.com", "expected unix:/path"),
            ("unix:relative", "absolute path"),
            ("http://", "a name is empty"),
            ("http://a:0", "\"0\" is not a port"),
            ("http://a:99999", "is not a port"),
            ("http://::1", "brackets"),
            ("http://[::1", "not closed"),
            ("http://[a]:1", "not an IPv6"),
            ("https://a/path", "\"/path\""),
            ("https://user@a", "\"@a\""),
            ("https://a b", "' '"),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn a_token_stays_on_the_machine_or_under_tls() {
        let token = Auth::Token("secret".into());
        let check = |at: &str| at.parse::<Endpoint>().unwrap().check_auth(&token);
        assert_eq!(check("http://127.0.0.1:1"), Ok(()));
        assert_eq!(check("https://a.example"), Ok(()));
        assert_eq!(
            check("http://a.example:1"),
            Err(EndpointError::TokenInClear("http://a.example:1".into()))
        );
        assert!(!format!("{token:?}").contains("secret"));
    }
}
