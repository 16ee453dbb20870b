//! What a plan comes to.

use crate::live::Offer;
use std::sync::Arc;

/// Offers for every mirror, and what they mean.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// For mirror *i* of the registry.
    pub offers: Vec<Offer>,
    /// Whether any of them differs from what `live` held.
    pub changed: bool,
    /// Share of all planned users who are sent elsewhere than by the plan before, 0..=1.
    pub moved: f32,
    /// By domain, those that are planned; in the order of the registry.
    pub domains: Vec<DomainFigures>,
}

/// One domain's share of a plan, for metrics. Figures stand from one plan of the domain to the next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DomainFigures {
    /// Its name.
    pub domain: Arc<str>,
    /// Users planned with.
    pub users: f32,
    /// Networks they come from, as far as they are sampled.
    pub samples: u32,
    /// Share of them who are sent elsewhere than by its plan before, …
    pub moved: f32,
    /// … those not counted whose mirror went away.
    pub rebalanced: f32,
    /// Users rebalanced in the last minute as a share of all, about.
    pub rebalanced_a_minute: f32,
    /// Users for whom no mirror had room.
    pub crowded: f32,
    /// Mirrors that shed users, …
    pub shedding: u32,
    /// … and that start slowly.
    pub cold: u32,
    /// Users planned for each mirror of the domain, in the order of the registry.
    pub loads: Vec<f32>,
}
