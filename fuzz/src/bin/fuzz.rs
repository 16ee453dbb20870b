//! One target, driven by libFuzzer: `NEARMOST_FUZZ=dns_query fuzz [libFuzzer's options] CORPUS`.
//!
//! `cargo xtask fuzz` builds it with the instrumentation that libFuzzer needs, and runs it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use nearmost_fuzz::Target;
use std::sync::OnceLock;

fn target() -> &'static Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("NEARMOST_FUZZ").unwrap_or_default();
        Target::named(&name).unwrap_or_else(|| panic!("NEARMOST_FUZZ={name:?}: there is no such target"))
    })
}

fuzz_target!(|data: &[u8]| target().run(data));
