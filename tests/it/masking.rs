//! A part of the masking attack suite; `cargo xtask mask-test` runs all of it.

use integration::masking::{self, CatalogBy, report};

#[test]
fn no_masked_value_is_talked_out_and_ordinary_queries_come_through() {
    for (step, by) in [(5, CatalogBy::Agents), (7, CatalogBy::Role)] {
        let outcome = masking::run("", step, by).unwrap();
        assert!(outcome.attacks.len() >= 25 && outcome.ordinary >= 25, "{outcome:?}");
        let wrong = report::wrong(&outcome);
        assert!(wrong.is_empty(), "{by:?}: {}", wrong.join("\n"));
    }
}
