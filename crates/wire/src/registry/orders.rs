//! What people order of mirrors and nodes for a while, as JSON → plain data.

use nearmost_core::registry::{Force, ForcedTo, MAX_WINDOWS, Window};
use nearmost_core::time::UnixMillis;
use serde::{Deserialize, Serialize};

/// A drain order; its removal undrains.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DrainBody {
    /// For people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Planned maintenance: drained only within these, at most [`MAX_WINDOWS`]. Empty: drained until the
    /// order is removed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<WindowBody>,
}

/// A planned maintenance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WindowBody {
    /// Its beginning, Unix milliseconds.
    pub from_unix_ms: u64,
    /// Its end, Unix milliseconds, which is after its beginning and no longer in it.
    pub until_unix_ms: u64,
}

/// A verdict overruled by a person, or what was evicted let back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForceBody {
    /// To what.
    pub to: ForceBodyTo,
    /// When the order ends; of [`ForceBodyTo::Release`] the moment before which evictions are let back.
    /// Unix milliseconds.
    pub until_unix_ms: u64,
}

/// What a verdict is overruled to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ForceBodyTo {
    /// Serving.
    Up,
    /// Not serving.
    Down,
    /// Whatever it was when the order came.
    Freeze,
    /// Nothing is overruled: what failed before the order's moment no longer waits for a person, and is
    /// held down no longer.
    Release,
}

impl ForceBodyTo {
    /// Every one.
    pub const ALL: [ForceBodyTo; 4] =
        [ForceBodyTo::Up, ForceBodyTo::Down, ForceBodyTo::Freeze, ForceBodyTo::Release];

    /// As people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            ForceBodyTo::Up => "up",
            ForceBodyTo::Down => "down",
            ForceBodyTo::Freeze => "freeze",
            ForceBodyTo::Release => "release",
        }
    }
}

/// The plain form of a drain order; by default there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Drain {
    /// Until it is lifted.
    pub(super) drained: bool,
    /// In the order of their beginnings.
    pub(super) windows: Vec<Window>,
}

/// A drain order; the error says which window is wrong.
pub(super) fn drain(body: &DrainBody) -> Result<Drain, String> {
    if body.windows.len() > MAX_WINDOWS {
        return Err(format!("windows: there are {}, expected at most {MAX_WINDOWS}", body.windows.len()));
    }
    let mut windows = Vec::with_capacity(body.windows.len());
    for (window, number) in body.windows.iter().zip(1..) {
        let WindowBody { from_unix_ms: from, until_unix_ms: until } = *window;
        if until <= from {
            return Err(format!(
                "window {number}: until_unix_ms = {until}: expected a moment after from_unix_ms = {from}"
            ));
        }
        windows.push(Window { from: UnixMillis(from), until: UnixMillis(until) });
    }
    windows.sort_by_key(|w| (w.from, w.until));
    Ok(Drain { drained: windows.is_empty(), windows })
}

/// The plain form of a forced verdict; by default there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Forced {
    pub(super) force: Option<Force>,
    pub(super) released: Option<UnixMillis>,
}

/// A forced verdict, or a release.
pub(super) fn forced(body: &ForceBody) -> Forced {
    let until = UnixMillis(body.until_unix_ms);
    let force = |to| Forced { force: Some(Force { to, until }), released: None };
    match body.to {
        ForceBodyTo::Up => force(ForcedTo::Up),
        ForceBodyTo::Down => force(ForcedTo::Down),
        ForceBodyTo::Freeze => force(ForcedTo::AsItWas),
        ForceBodyTo::Release => Forced { force: None, released: Some(until) },
    }
}
