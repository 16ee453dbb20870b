//! How a command ends when it does not end well: its kind, its exit code, and what to do next.
//!
//! ```text
//! error (and its causes) ──► Kind ──► exit code
//!                    └─────► hint: a line that says what to do next
//! ```
//! Scripts tell kinds apart by the exit code, or with `--json` by `error.kind` of the object that is
//! written to standard error.

use nearmost_client::endpoint::EndpointError;
use nearmost_client::identity::IdError;
use nearmost_client::name::NameError;
use nearmost_client::person::PersonError;
use nearmost_client::registry::commit::ChangeError;
use nearmost_client::registry::entry::KeyError;
use nearmost_client::registry::undo::UndoError;
use nearmost_client::registry::{FileErrors, PlanError, RightsError, StateError};
use nearmost_client::text::printable;
use nearmost_client::{CertificateFault, ClientError};
use serde_json::json;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::path::Path;

/// Kinds of ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What no other kind is.
    Failed,
    /// The command line makes no sense.
    Usage,
    /// No broker was reached.
    Unreachable,
    /// The broker does not let us.
    Unauthorised,
    /// What was asked about is not there.
    NotFound,
    /// It is there already, or somebody else was faster.
    Conflict,
    /// A name, a file or a value makes no sense.
    Invalid,
    /// `status --check` or `doctor` found something wrong.
    Wrong,
    /// `doctor` found something to look at, and nothing wrong.
    Warned,
    /// The broker did not answer in time.
    Timeout,
}

impl Kind {
    /// In the order of their exit codes.
    pub const ALL: [Kind; 10] = [
        Kind::Failed,
        Kind::Usage,
        Kind::Unreachable,
        Kind::Unauthorised,
        Kind::NotFound,
        Kind::Conflict,
        Kind::Invalid,
        Kind::Wrong,
        Kind::Warned,
        Kind::Timeout,
    ];

    /// The exit code.
    pub fn code(self) -> u8 {
        self.row().0
    }

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (u8, &'static str, &'static str) {
        match self {
            Kind::Failed => {
                (1, "failed", "it failed or was refused, for a reason that has no code of its own")
            }
            Kind::Usage => (2, "usage", "the command line makes no sense"),
            Kind::Unreachable => (3, "unreachable", "no broker was reached"),
            Kind::Unauthorised => (4, "unauthorised", "the broker does not let you"),
            Kind::NotFound => (5, "not_found", "what was named is not there"),
            Kind::Conflict => (6, "conflict", "it is there already, or somebody else was faster"),
            Kind::Invalid => (7, "invalid", "a name, a value or a registry file makes no sense"),
            Kind::Wrong => (8, "wrong", "`status --check` or `doctor` found something wrong"),
            Kind::Warned => (9, "warned", "`doctor` found something to look at, and nothing wrong"),
            Kind::Timeout => (124, "timeout", "the broker did not answer in time"),
        }
    }
}

/// The table of exit codes, for `nearmost help exit-codes`.
pub fn table() -> String {
    let line = |(code, name, meaning): (u8, &str, &str)| format!("{code:>5}  {name:<13} {meaning}\n");
    let head = line((0, "ok", "it was done, or there was nothing to do"));
    Kind::ALL.into_iter().fold(head, |all, kind| all + &line(kind.row()))
}

/// Something that stands for its kind: what an error of no type of its own is.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Of this kind.
    pub kind: Kind,
    /// What went wrong.
    pub message: String,
    /// What to do next.
    pub hint: Option<String>,
}

/// How an error ends the program.
pub fn kind(error: &anyhow::Error) -> Kind {
    error.chain().find_map(of_cause).unwrap_or(Kind::Failed)
}

fn of_cause(cause: &(dyn std::error::Error + 'static)) -> Option<Kind> {
    let kind = if let Some(e) = cause.downcast_ref::<Failure>() {
        e.kind
    } else if let Some(e) = cause.downcast_ref::<ClientError>() {
        of_client(e)
    } else if let Some(e) = cause.downcast_ref::<PlanError>() {
        of_plan(e)
    } else if let Some(e) = cause.downcast_ref::<StateError>() {
        of_state(e)
    } else if let Some(e) = cause.downcast_ref::<UndoError>() {
        of_undo(e)
    } else if busy::<PlanError>(cause) || busy::<StateError>(cause) || busy::<UndoError>(cause) {
        Kind::Conflict
    } else if cause.is::<EndpointError>() {
        Kind::Usage
    } else if invalid(cause) {
        Kind::Invalid
    } else {
        return None;
    };
    Some(kind)
}

/// Names, ids and files that are none.
fn invalid(cause: &(dyn std::error::Error + 'static)) -> bool {
    cause.is::<FileErrors>()
        || cause.is::<NameError>()
        || cause.is::<KeyError>()
        || cause.is::<IdError>()
        || cause.is::<RightsError>()
}

fn busy<E: std::error::Error + 'static>(cause: &(dyn std::error::Error + 'static)) -> bool {
    matches!(cause.downcast_ref::<ChangeError<E>>(), Some(ChangeError::Busy))
}

fn of_client(error: &ClientError) -> Kind {
    match error {
        ClientError::Endpoint(_) => Kind::Usage,
        ClientError::Name(_) | ClientError::CaFile { .. } => Kind::Invalid,
        ClientError::Socket { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            Kind::Unauthorised
        }
        ClientError::Socket { .. } | ClientError::Connect { .. } | ClientError::Tls { .. } => {
            Kind::Unreachable
        }
        ClientError::Timeout { .. } => Kind::Timeout,
        ClientError::Api { code, .. } if code == "unauthorised" || code == "banned" => Kind::Unauthorised,
        ClientError::Api { status, .. } => match status {
            401 | 403 => Kind::Unauthorised,
            404 => Kind::NotFound,
            409 => Kind::Conflict,
            400 | 413 | 422 => Kind::Invalid,
            _ => Kind::Failed,
        },
        _ => Kind::Failed,
    }
}

fn of_plan(error: &PlanError) -> Kind {
    match error {
        PlanError::NotThere { .. } => Kind::NotFound,
        PlanError::Exists(_) | PlanError::HasMirrors { .. } => Kind::Conflict,
        PlanError::Unreadable(_) => Kind::Failed,
        _ => Kind::Invalid,
    }
}

fn of_state(error: &StateError) -> Kind {
    match error {
        StateError::NoPeer { .. } | StateError::NotThere(_) => Kind::NotFound,
        StateError::Owned { .. } => Kind::Unauthorised,
        _ => Kind::Invalid,
    }
}

fn of_undo(error: &UndoError) -> Kind {
    match error {
        UndoError::NoBatch(_) | UndoError::NothingOwn(_) | UndoError::Nothing(_) => Kind::NotFound,
        UndoError::ChangedSince { .. } => Kind::Conflict,
        UndoError::Plan(plan) => of_plan(plan),
        _ => Kind::Failed,
    }
}

/// What to do next; `None` where the error says it itself.
pub fn hint(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| {
        if let Some(e) = cause.downcast_ref::<Failure>() {
            e.hint.clone()
        } else if let Some(e) = cause.downcast_ref::<ClientError>() {
            of_client_hint(e)
        } else if let Some(e) = cause.downcast_ref::<PlanError>() {
            plan_hint(e)
        } else if let Some(e) = cause.downcast_ref::<StateError>() {
            matches!(e, StateError::NoPeer { .. }).then(|| "`nearmost peer list` shows all".into())
        } else if let Some(e) = cause.downcast_ref::<UndoError>() {
            let looks = "`nearmost history` shows what can be undone, with its number";
            matches!(e, UndoError::NoBatch(_) | UndoError::NothingOwn(_) | UndoError::ChangedSince { .. })
                .then(|| looks.into())
        } else if cause.is::<PersonError>() {
            Some("set NEARMOST_PERSON_KEY to a file of yours that may be read and written".into())
        } else if busy::<PlanError>(cause) || busy::<StateError>(cause) || busy::<Infallible>(cause) {
            Some("`nearmost history` shows who changes the registry all the time".into())
        } else {
            None
        }
    })
}

/// Why a socket cannot be used, and what helps.
pub fn socket_hint(path: &Path, kind: ErrorKind) -> String {
    let path = path.display();
    match kind {
        ErrorKind::PermissionDenied => format!(
            "only members of the socket's group may use it: `ls -l {path}` tells which; join it (`sudo usermod \
             -aG GROUP $USER`, then log in again), or say `sudo nearmost …`"
        ),
        ErrorKind::NotFound => {
            "start the broker (`systemctl start nearmost-broker`), or name another one with --broker \
             unix:PATH or https://HOST"
                .into()
        }
        _ => format!(
            "nobody listens on {path} any more: `systemctl status nearmost-broker` and `journalctl -u \
             nearmost-broker -n 50` tell why the broker stopped"
        ),
    }
}

fn of_client_hint(error: &ClientError) -> Option<String> {
    Some(match error {
        ClientError::Socket { path, source } => socket_hint(path, source.kind()),
        ClientError::Connect { .. } => {
            "is the broker running there, is its HTTP port (8053, or as http.listen says) open, and is the \
             address right? `nearmost doctor` looks further"
                .into()
        }
        ClientError::Tls { .. } => certificate_hint(error.certificate_fault()).into(),
        ClientError::Timeout { .. } => {
            "the broker is there, but slow, or something between drops packets: try again, then `nearmost \
             doctor`"
                .into()
        }
        ClientError::Api { status, code, .. } => return api_hint(*status, code),
        ClientError::Answer { .. } => "compare `nearmost --version` and `nearmost-broker --version`".into(),
        _ => return None,
    })
}

fn certificate_hint(fault: Option<CertificateFault>) -> &'static str {
    match fault {
        Some(CertificateFault::Expired) => {
            "renew the broker's certificate (http.tls): it takes a new one over by itself; if it is new, the clock \
             of this machine is ahead: `timedatectl`"
        }
        Some(CertificateFault::NotYetValid) => {
            "the clock of this machine is behind (`timedatectl`), or that of whoever made the certificate was ahead"
        }
        Some(CertificateFault::UnknownIssuer) => {
            "trust the authority that signed the broker's certificate with --ca FILE"
        }
        Some(CertificateFault::OtherName) => "name the broker as its certificate does",
        _ => {
            "is it HTTPS that the broker serves there? If so, trust the authority that signed its certificate with \
             --ca FILE, and name the broker as its certificate does"
        }
    }
}

fn api_hint(status: u16, code: &str) -> Option<String> {
    Some(match (code, status) {
        ("unknown_domain", _) => "`nearmost domain list` shows all domains".into(),
        ("signature_time", _) => {
            "clocks differ: compare `date -u` here and on the broker's machine; `nearmost doctor` measures it"
                .into()
        }
        ("person_unknown" | "unknown_person", _) => {
            "have the broker's operator add your key to http.persons, or use the admin socket on the broker's \
             machine"
                .into()
        }
        ("token_unknown", _) => {
            "compare --token or NEARMOST_TOKEN with http.tokens of the broker and `nearmost token list`".into()
        }
        ("token_expired", _) => "have an administrator make another: `nearmost token create NAME`".into(),
        ("scope_insufficient", _) => {
            "it was made to read; use an administrator's token, a person's key, or the admin socket".into()
        }
        ("no_such_token", _) => {
            "`nearmost token list` shows all; those of the configuration are removed there, from http.tokens".into()
        }
        ("credentials_missing", _) | (_, 401) => {
            "prove who you are: --token, NEARMOST_TOKEN or a person's key that http.persons of the broker \
             names; or use the admin socket on its machine"
                .into()
        }
        ("unauthorised", _) => "`nearmost peer show NAME` tells what a member may change".into(),
        ("version_conflict", _) => "somebody else changed the registry meanwhile: say it again".into(),
        ("clock_ahead", _) => "set this machine's clock right (NTP), then say it again".into(),
        ("disk_full", _) => "make room on the disk of the broker's data_dir; it goes on by itself".into(),
        ("no_such_path", _) => "the broker is older than this command: update it".into(),
        (_, 429) => "wait a moment; http.requests_per_second of the broker sets the rate".into(),
        (_, 503) => "try again in a few seconds".into(),
        (_, 500..) => "the broker's log says more: `journalctl -u nearmost-broker -n 50`".into(),
        _ => return None,
    })
}

fn plan_hint(error: &PlanError) -> Option<String> {
    Some(match error {
        PlanError::NotThere { key, near } => {
            let list = format!("`nearmost {} list` shows all", word(key));
            match near {
                Some(near) => format!("did you mean {near}? {list}"),
                None => list,
            }
        }
        PlanError::Problems(_) => "nothing was written; correct it and say it again".into(),
        PlanError::Unreadable(_) => "install the version that the broker has".into(),
        _ => return None,
    })
}

/// The command that lists things of this kind.
fn word(key: &nearmost_client::registry::EntryKey) -> &'static str {
    use nearmost_client::registry::EntryKind;
    match key.kind {
        EntryKind::Domain => "domain",
        EntryKind::Node => "node",
        EntryKind::Override => "geo override",
        _ => "mirror",
    }
}

/// The error and those of its causes that it does not tell itself.
pub fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, said| match told.is_empty() {
        true => said,
        false if told.contains(&said) => told,
        false => format!("{told}: {said}"),
    })
}

/// What is written to standard error.
pub fn report(error: &anyhow::Error, as_json: bool) -> String {
    object(kind(error), &told(error), hint(error).as_deref(), as_json)
}

/// The same for what is no error of ours.
pub fn object(kind: Kind, message: &str, hint: Option<&str>, as_json: bool) -> String {
    if as_json {
        let error = json!({
            "kind": kind.name(), "message": message, "hint": hint, "exit_code": kind.code(),
        });
        return crate::output::escaped(&format!("{}\n", json!({ "error": error })));
    }
    let hint = hint.map(|hint| format!("hint: {}\n", printable(hint))).unwrap_or_default();
    format!("error: {}\n{hint}", crate::output::shown(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(status: u16, code: &str) -> anyhow::Error {
        ClientError::Api { status, code: code.into(), message: "no".into() }.into()
    }

    fn socket(kind: ErrorKind) -> anyhow::Error {
        ClientError::Socket { path: "/run/x.sock".into(), source: kind.into() }.into()
    }

    #[test]
    fn every_kind_has_a_code_and_a_name_of_its_own() {
        for (i, kind) in Kind::ALL.into_iter().enumerate() {
            assert!(kind.code() != 0 && Kind::ALL[..i].iter().all(|k| k.code() < kind.code()), "{kind:?}");
            assert!(table().contains(&format!("{:>5}  {:<13} ", kind.code(), kind.name())), "{}", table());
        }
    }

    #[test]
    fn errors_are_told_apart() {
        for (error, expected) in [
            (socket(ErrorKind::ConnectionRefused), Kind::Unreachable),
            (socket(ErrorKind::PermissionDenied), Kind::Unauthorised),
            (api(401, "token_unknown"), Kind::Unauthorised),
            (api(403, "person_unknown"), Kind::Unauthorised),
            (api(404, "unknown_domain"), Kind::NotFound),
            (api(409, "version_conflict"), Kind::Conflict),
            (api(422, "invalid"), Kind::Invalid),
            (api(500, "storage"), Kind::Failed),
            (ChangeError::<PlanError>::Busy.into(), Kind::Conflict),
            (ChangeError::<PlanError>::Client(ClientError::Random).into(), Kind::Failed),
            (ChangeError::Plan(PlanError::Refused("x".into())).into(), Kind::Invalid),
            (anyhow::anyhow!("x"), Kind::Failed),
        ] {
            assert_eq!(kind(&error), expected, "{error:?}");
        }
        let nested = ClientError::Api { status: 409, code: "x".into(), message: "y".into() };
        assert_eq!(kind(&ChangeError::<PlanError>::Client(nested).into()), Kind::Conflict);
    }

    #[test]
    fn errors_say_what_to_do_next() {
        let permission = report(&socket(ErrorKind::PermissionDenied), false);
        assert!(permission.contains("\nhint: only members of the socket's group"), "{permission}");
        let json: serde_json::Value =
            serde_json::from_str(&report(&api(404, "unknown_domain"), true)).unwrap();
        assert_eq!((&json["error"]["kind"], &json["error"]["exit_code"]), (&"not_found".into(), &5.into()));
        assert!(json["error"]["hint"].as_str().unwrap().contains("domain list"), "{json}");
        assert_eq!(report(&anyhow::anyhow!("a\u{1b}b"), false), "error: a\\u{1b}b\n");
    }
}
