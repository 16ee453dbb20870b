//! What every decoder promises for any bytes.
//!
//! A [`Target`] gives bytes to one decoder, or to those of one place, and panics where a promise is broken:
//! what comes back from decoding encodes to the same, two ways of reading say the same, nothing takes more
//! memory than what was sent is worth. That nothing panics by itself goes without saying.
//!
//! ```text
//!  corpus/TARGET/* ── tests/replay.rs, in seconds, with every `cargo xtask test` ──▶ Target::run
//!       ▲    └────── src/bin/fuzz.rs, with libFuzzer: `cargo xtask fuzz` ──────────▶     "
//!  seeds (real encoders), and what fuzzing found
//! ```
//!
//! | module | whose decoders |
//! |---|---|
//! | [`dns`] | queries, by the hot path and by the general one |
//! | [`wire`] | messages, datagrams and frames of agents, clients, mirrors and brokers |
//! | [`registry`] | records, their bodies, registry files |
//! | [`texts`] | identities, tokens, names, prefixes, settings, what DNS tells |
//! | [`web`] | the HTTP API's requests and answers, streams of events, the audit log |
//! | [`files`] | configuration, geo databases, what was learned, the store and its copies |
//! | [`frames`] | frames of Ethernet, as AF_XDP gives them |
//! | [`machine`] | what the kernel and services answer |
//! | [`seeds`] | inputs that real encoders make |

#[cfg(test)]
mod tests;

mod allocation;
pub mod dns;
pub mod files;
pub mod frames;
pub mod machine;
pub mod registry;
pub mod seeds;
pub mod texts;
pub mod web;
pub mod wire;

use std::path::{Path, PathBuf};

/// A decoder, or several that are given the same bytes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, also that of its folder in `corpus`.
    pub name: &'static str,
    /// Decodes, and panics where a promise is broken.
    pub body: fn(&[u8]),
    /// The most bytes that may be held at once, whatever comes in.
    pub base: usize,
    /// And as many more for each byte that comes in.
    pub each: usize,
}

/// Messages: a decoder may set aside at most what a whole message can say.
const fn message(name: &'static str, body: fn(&[u8])) -> Target {
    Target { name, body, base: 256 << 10, each: 256 }
}

/// Files, which their owner wrote: they are read whole, and errors quote them.
const fn file(name: &'static str, body: fn(&[u8])) -> Target {
    Target { name, body, base: 16 << 20, each: 4096 }
}

/// All there are.
pub const TARGETS: [Target; 23] = [
    message("dns_query", dns::query),
    message("record", registry::record),
    message("body", registry::body),
    file("registry_file", registry::file),
    message("agent", wire::agent),
    message("client", wire::client),
    message("list", wire::list),
    message("ingress", wire::ingress),
    message("peer", wire::peer),
    message("frame", wire::frame),
    message("beacon", wire::beacon),
    message("text", texts::text),
    message("dns_text", texts::dns_text),
    message("http_request", web::request),
    message("api", web::api),
    message("events", web::events),
    file("config", files::config),
    file("geo", files::geo),
    file("learned", files::learned),
    file("store", files::store),
    message("kernel", machine::kernel),
    message("answer", machine::answer),
    message("xdp", frames::xdp),
];

impl Target {
    /// The target of a name.
    pub fn named(name: &str) -> Option<Target> {
        TARGETS.into_iter().find(|target| target.name == name)
    }

    /// Gives it bytes.
    ///
    /// # Panics
    /// Where a promise is broken, that of memory included.
    pub fn run(&self, data: &[u8]) {
        let most = self.base + self.each * data.len();
        let mut held = allocation::most_held(|| (self.body)(data));
        if held > most {
            // What is made once, for whatever comes after, is not the input's.
            held = allocation::most_held(|| (self.body)(data));
        }
        assert!(held <= most, "{}: {held} bytes held for {} bytes, at most {most}", self.name, data.len());
    }

    /// Where its inputs are.
    pub fn corpus(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(self.name)
    }
}
