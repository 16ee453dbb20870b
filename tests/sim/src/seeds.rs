//! Running a scenario with many seeds.

/// Whether the long form was asked for.
pub fn is_long() -> bool {
    std::env::var("NEARMOST_SIM").is_ok_and(|form| form == "long")
}

/// Whether one seed alone is repeated: what must hold of many together says nothing then.
pub fn is_replay() -> bool {
    std::env::var_os("SEED").is_some()
}

/// Runs a scenario with as many seeds, twenty times as many in the long form, or with the one that
/// `SEED` names. Prints the seed of one that fails.
pub fn for_seeds(count: u64, scenario: impl FnMut(u64)) {
    let count = if is_long() { count * 20 } else { count };
    for_seeds_in(0..count, scenario);
}

/// One of `parts` shares of as many seeds as [`for_seeds`] would take, so that tests beside each other use
/// several cores.
pub fn for_share(part: u64, parts: u64, count: u64, scenario: impl FnMut(u64)) {
    let count = if is_long() { count * 20 } else { count };
    for_seeds_in(count * part / parts..count * (part + 1) / parts, scenario);
}

fn for_seeds_in(seeds: std::ops::Range<u64>, mut scenario: impl FnMut(u64)) {
    struct Name(u64);
    impl Drop for Name {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed with SEED={}", self.0);
            }
        }
    }
    let only = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
    for seed in only.map_or(seeds, |seed: u64| seed..seed + 1) {
        let _name = Name(seed);
        scenario(seed);
    }
}
