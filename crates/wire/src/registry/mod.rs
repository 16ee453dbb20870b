//! The registry on the wire: bodies of records, and records → plain types.
//!
//! A record's body is JSON of one of the `…Body` types, version [`BODY_VERSION`]; its kind,
//! scope and id say what it is of:
//!
//! | kind | scope | id | body |
//! |---|---|---|---|
//! | domain | its name | empty | [`DomainBody`] |
//! | node | empty | its name | [`NodeBody`] |
//! | mirror | the domain | its name | [`MirrorBody`] |
//! | drain | the domain, or empty for a node | the mirror's or node's name | [`DrainBody`] |
//! | force | the domain | the mirror's name | [`ForceBody`] |
//! | person | empty | the person's id | [`PersonBody`] |

mod bodies;
mod build;
mod mirror;
mod names;
mod record;
mod url;

#[cfg(test)]
mod build_tests;

pub use bodies::*;
pub use build::{BuildDefaults, Built, Entry, EntryKind, Problem, build, entry_of};
