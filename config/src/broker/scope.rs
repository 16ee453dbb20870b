//! What the holder of a token of the API may do.

use crate::value::TextKind;
use std::borrow::Cow;

/// What the holder of a token of the API may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everything that an administrator may.
    #[default]
    Admin,
    /// Reading all that the API tells, and changing nothing.
    Read,
    /// Metrics alone.
    Metrics,
}

impl Scope {
    /// All of them, the widest first.
    pub const ALL: [Scope; 3] = [Scope::Admin, Scope::Read, Scope::Metrics];

    /// As files, API and people write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Admin => "admin",
            Scope::Read => "read",
            Scope::Metrics => "metrics",
        }
    }

    /// The scope of this name.
    pub fn parse(text: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

impl TextKind for Scope {
    type Value = Scope;
    const EXPECTED: &'static str = "\"admin\", \"read\" or \"metrics\"";

    fn parse(text: &str) -> Result<Scope, Cow<'static, str>> {
        Scope::parse(text).ok_or(Cow::Borrowed(Self::EXPECTED))
    }
}
