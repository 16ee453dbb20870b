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
pub fn for_seeds(count: u64, mut scenario: impl FnMut(u64)) {
    struct Name(u64);
    impl Drop for Name {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed with SEED={}", self.0);
            }
        }
    }
    let only = std::env::var("SEED").ok().and_then(|s| s.parse().ok());
    let count = if is_long() { count * 20 } else { count };
    for seed in only.map_or(0..count, |seed: u64| seed..seed + 1) {
        let _name = Name(seed);
        scenario(seed);
    }
}
