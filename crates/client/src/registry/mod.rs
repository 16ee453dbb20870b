//! The registry's administration: what is there, what should be there, and the signed records that
//! lead from one to the other.
//!
//! ```text
//! broker ── RegistryResponse ──► view ─┐
//! file ──── TOML ──► file ─────────────┼─► plan ──► sign ──► CommitRequest ──► broker
//! command ── edits ────────────────────┘      │
//! history ──► undo ── edits ──────────────────┘ shown to people as a diff
//! ```
//! A plan is made against one version of the registry and committed with it; where somebody else
//! was faster, [`commit::change`] makes it again.
//!
//! What is no entry, as members, rights and applications' records are not, is planned against every statement
//! that the broker holds ([`held`]) and becomes a [`statements::StatementPlan`]:
//!
//! ```text
//! broker ── RegistryResponse ──► held ──► members, rights, app ──► statements ──► CommitRequest ──► broker
//! ```
//!
//! A plan is refused here, before anything is signed, when it would leave an entry that makes no
//! sense ([`nearmost_wire::registry::build`] decides, as it does in the broker).

pub mod app;
pub mod audited;
pub mod commit;
pub mod dnssec;
pub mod entry;
pub mod file;
pub mod held;
pub mod history;
pub mod members;
pub mod plan;
pub mod rights;
mod shown;
pub mod sign;
pub mod statements;
pub mod undo;
pub mod view;
mod warn;
#[cfg(test)]
mod world;

pub use entry::{Content, EntryKey};
pub use file::{FileErrors, RegistryFile};
pub use held::Held;
pub use nearmost_wire::registry::{
    AllDownBody, DomainBody, DrainBody, EntryKind, FailbackBody, FailoverBody, ForceBody, ForceBodyTo,
    GrantBody, GrantRole, HealthBody, MAX_WINDOWS, MirrorBody, NodeBody, OverrideBody, PeerBody, PersonBody,
    PlaceBody, ProbeBody, ProbeKind, RecordBody, RightsError, RuleBody, RuleEffectBody, SharingBody,
    StepBody, StrategyBody, WindowBody, ZoneKeyBody,
};
pub use plan::{Action, Change, Edit, Kept, Plan, PlanError};
pub use statements::{StateError, StatementPlan, Step};
pub use view::RegistryView;
