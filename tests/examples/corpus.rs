//! All of PostgreSQL's regression corpus, for `cargo xtask corpus-test [--json FILE]`: prints the differences by
//! kind, writes the figures, and fails where anything is wrongly called harmless.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test by command")]

#[path = "../corpus/compare.rs"]
mod compare;

fn main() {
    let (figures, version) = compare::observed(|file| {
        eprintln!("{file}");
        true
    });
    println!("{}", compare::report(&figures, &version));
    if let Some(path) = std::env::args_os().nth(1) {
        let figures = compare::to_json(&figures, &version);
        std::fs::write(path, format!("{figures:#}\n")).unwrap();
    }
    compare::check(&figures, &version, 30_000);
}
