//! What the crash suite would say of a sound disk and of one that lies; the suite itself is `examples/crash`.

#![expect(clippy::unwrap_used, reason = "a test that fails may end")]

#[path = "../../journal/tests/disk/mod.rs"]
mod disk;
#[path = "../examples/crash/power.rs"]
mod power;
#[path = "../../journal/tests/it/world.rs"]
#[expect(dead_code, reason = "the suite uses a part of it")]
mod world;

use power::{Counts, Trial};

#[test]
fn power_losses_lose_no_acknowledged_record() {
    let counts = power::run(Trial { seed: 7, crashes: 12, lies: false, seals: true });
    assert_eq!(counts, Counts { crashes: 12, lost: 0, gaps: 0 });
}

/// The suite can fail: without the sync behind each commit, what was acknowledged is lost.
#[test]
fn a_disk_that_answers_syncs_and_makes_none_is_found_out() {
    let counts = power::run(Trial { seed: 7, crashes: 12, lies: true, seals: false });
    assert_eq!(counts.crashes, 12);
    assert!(counts.lost > 0, "{counts:?}");
}
