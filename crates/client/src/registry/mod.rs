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
//! A plan is refused here, before anything is signed, when it would leave an entry that makes no
//! sense ([`nearmost_wire::registry::build`] decides, as it does in the broker).

pub mod commit;
pub mod entry;
pub mod file;
pub mod history;
pub mod plan;
mod shown;
pub mod sign;
pub mod undo;
pub mod view;
mod warn;

pub use entry::{Content, EntryKey};
pub use file::RegistryFile;
pub use nearmost_wire::registry::{
    AllDownBody, DomainBody, DrainBody, EntryKind, FailbackBody, FailoverBody, ForceBody, ForceBodyTo,
    HealthBody, MAX_WINDOWS, MirrorBody, NodeBody, OverrideBody, PersonBody, PlaceBody, ProbeBody, ProbeKind,
    RecordBody, RuleBody, RuleEffectBody, SharingBody, StepBody, StrategyBody, WindowBody,
};
pub use plan::{Action, Change, Edit, Kept, Plan, PlanError};
pub use view::RegistryView;
