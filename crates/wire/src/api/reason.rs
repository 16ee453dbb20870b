//! Reasons of verdicts in words, for the command line and the live page alike.

/// What each code of a reason means; the subject is a mirror.
pub const REASONS: [(&str, &str); 28] = [
    ("nothing_heard", "nothing heard of it yet"),
    ("no_address", "its address is not known"),
    ("awaiting_probe", "its agent says healthy, no probe from outside passed yet"),
    ("proven", "proven"),
    ("missed_beacons", "its agent's beacons are missing"),
    ("session_lost", "its agent's session broke"),
    ("service_failing", "its agent says that its service fails"),
    ("probe_failed", "probes from outside fail"),
    ("silent_and_unreachable", "its agent is silent, and probes fail"),
    ("silent_but_answering", "its agent is silent, but its service answers"),
    ("drained_by_agent", "its agent drains it"),
    ("drained_by_order", "drained by a person"),
    ("agent_left", "its agent said goodbye"),
    ("forced", "forced by a person"),
    ("manual", "set by hand"),
    ("revoked", "its node is revoked"),
    ("resumed", "from before the broker's restart, not yet confirmed"),
    ("not_ready", "its agent says that it is not ready"),
    ("process_ended", "its service's process ended"),
    ("partly_reachable", "this broker does not reach it, others do"),
    ("clients_fail", "clients report that they do not reach it"),
    ("self_doubt", "would be down, but the broker doubts itself"),
    ("cap_reached", "would be down, but too many are already"),
    ("panic", "would be down, but too little is left of the domain"),
    ("held_down", "good again, held down because it failed too often"),
    ("awaiting_release", "good again, waits for `mirror release`"),
    ("maintenance", "in a planned maintenance"),
    ("frozen", "frozen by a person"),
];

/// Codes of reasons for which a person wants it so: nothing is wrong, although the mirror takes no users.
pub const WANTED: [&str; 7] =
    ["drained_by_agent", "drained_by_order", "forced", "manual", "revoked", "maintenance", "frozen"];

/// Why a verdict is what it is; a code that a newer broker has is shown as it is.
pub fn words(code: &str) -> String {
    match REASONS.iter().find(|(known, _)| *known == code) {
        Some((_, words)) => (*words).into(),
        None => code.replace('_', " "),
    }
}

/// Whether a person wants it so.
pub fn is_wanted(code: &str) -> bool {
    WANTED.contains(&code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nearmost_core::health::Reason;

    #[test]
    fn every_reason_has_words() {
        for reason in Reason::ALL {
            assert!(REASONS.iter().any(|(code, _)| *code == reason.code()), "{}", reason.code());
        }
        assert_eq!(REASONS.len(), Reason::ALL.len());
    }

    #[test]
    fn unknown_codes_are_shown_and_wanted_ones_are_known() {
        assert_eq!(words("struck_by_lightning"), "struck by lightning");
        assert_eq!(words("proven"), "proven");
        assert!(WANTED.iter().all(|code| REASONS.iter().any(|(known, _)| known == code)));
        assert!(is_wanted("maintenance") && !is_wanted("probe_failed"));
    }
}
