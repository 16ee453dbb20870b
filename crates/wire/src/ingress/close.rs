//! Why a mirror ends a client's connection.

/// Why a mirror ends a client's connection, as the QUIC application error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// A message or a stream's header could not be read.
    BadMessage,
    /// A datagram could not be read.
    BadDatagram,
    /// A message, stream or datagram that does not fit the state of the connection.
    OutOfOrder,
    /// The mirror does not serve the domain.
    UnknownDomain,
    /// No key was shown.
    NoKey,
    /// What the mirror says is not read.
    Slow,
    /// Nobody attached, or nothing was said, for too long.
    Idle,
    /// The same client attached its session elsewhere.
    Superseded,
    /// All work was done, and the session goes on elsewhere.
    Drained,
    /// The drain's time is over.
    DrainDeadline,
    /// The agent stops.
    Leaving,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Refusal; 11] = [
        Refusal::BadMessage,
        Refusal::BadDatagram,
        Refusal::OutOfOrder,
        Refusal::UnknownDomain,
        Refusal::NoKey,
        Refusal::Slow,
        Refusal::Idle,
        Refusal::Superseded,
        Refusal::Drained,
        Refusal::DrainDeadline,
        Refusal::Leaving,
    ];

    /// The application error code.
    pub fn code(self) -> u32 {
        16 + self as u32
    }

    /// The refusal of a code.
    pub fn from_code(code: u64) -> Option<Refusal> {
        Refusal::ALL.into_iter().find(|r| u64::from(r.code()) == code)
    }

    /// A snake-case label for logs and counters.
    pub fn label(self) -> &'static str {
        match self {
            Refusal::BadMessage => "bad_message",
            Refusal::BadDatagram => "bad_datagram",
            Refusal::OutOfOrder => "out_of_order",
            Refusal::UnknownDomain => "unknown_domain",
            Refusal::NoKey => "no_key",
            Refusal::Slow => "slow",
            Refusal::Idle => "idle",
            Refusal::Superseded => "superseded",
            Refusal::Drained => "drained",
            Refusal::DrainDeadline => "drain_deadline",
            Refusal::Leaving => "leaving",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn codes_and_labels_are_distinct_and_come_back() {
        for r in Refusal::ALL {
            assert_eq!(Refusal::from_code(r.code().into()), Some(r));
        }
        assert_eq!(Refusal::from_code(0), None);
        assert_eq!(Refusal::ALL.map(Refusal::label).iter().collect::<HashSet<_>>().len(), Refusal::ALL.len());
    }
}
