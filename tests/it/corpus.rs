//! A part of PostgreSQL's regression corpus; `cargo xtask corpus-test` runs all of it.

#[path = "../corpus/compare.rs"]
mod compare;

/// What CI runs of it: under a minute on two processors.
const PART: &[&str] =
    &["test_setup", "select", "subselect", "union", "join", "with", "insert", "update", "delete"];

#[test]
fn analysis_agrees_with_the_server_on_a_part_of_its_corpus() {
    let (figures, version) = compare::observed(|file| PART.contains(&file));
    compare::check(&figures, &version, 2_000);
}
