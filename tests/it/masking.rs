//! A part of the masking attack suite; `cargo xtask mask-test` runs all of it.

use integration::masking::{self, report};

#[test]
fn no_masked_value_is_talked_out_and_ordinary_queries_come_through() {
    let outcome = masking::run("", 5).unwrap();
    assert!(outcome.attacks.len() >= 30 && outcome.ordinary >= 30, "{outcome:?}");
    let wrong = report::wrong(&outcome);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
