//! Predicted round trips: how near a mirror is, in milliseconds.
//!
//! The score of a mirror for a client is the round trip expected between them. It is put together
//! level by level, from what is known of everyone to what is known of this client alone; each level
//! corrects what the ones before left over, and counts the more the more measured it:
//!
//! ```text
//!             line over the route      what light, cables and equipment cost           [`routes`], `line`
//!           + the mirror's field       what nodes and networks found, region by region `field`
//!           + country + AS + prefix    what networks have in common                    `groups`
//!           + the network's offset     by how much it differs on the whole             `fit`
//!  ── or ──   the network's own        median of its reporters                         `networks`
//! ```
//!
//! All of it is added on a stretched scale (`scale`), on which errors are alike near and far. A
//! network's own measurement replaces the rest by `n / (n + 0.05)` for `n` votes, each worth half after a
//! day and nothing after a week.
//!
//! **Who may move what.** A reporter has one vote an hour, a network's value is the median of its
//! reporters. A single network, or a single node, moves no prediction but its own: fields take the
//! most cautious of the means that leave one observer out, groups count medians in which "no
//! difference" has a vote. Nothing is taken to be faster than light in fibre. Where several nodes
//! measure a mirror faster than light, its place is wrong, and it is taken to be where they are.
//!
//! **What is out of reach** for a network, as its clients say, counts as far for it alone and for a while
//! (`missed`).
//!
//! **What to measure next** is the model's choice ([`measure`]): the mirror that could well be the
//! nearest, given how little is known of it.
//!
//! [`Learner`] remembers what was measured and makes a [`Model`] of it from time to time; the model is
//! immutable. Memory is bounded: networks that were not heard of longest go first.
//!
//! Constants were chosen on one half of a measured matrix and are reported on the other: see
//! BENCHMARKS.md, "Decisions".

mod field;
mod fit;
mod groups;
mod learner;
mod line;
mod lookup;
pub mod measure;
mod missed;
mod model;
mod networks;
mod observation;
mod own;
pub mod pairs;
mod resolvers;
pub mod routes;
pub(crate) mod scale;
#[cfg(test)]
mod tests;

pub use learner::{Learner, LearnerConfig, Memory, Unbelievable, World};
pub use line::Line;
pub use model::{Client, Known, Model, Prediction, Shares, Site};
pub use observation::{Coarseness, Observation, Source, Target};
pub use own::Row;
