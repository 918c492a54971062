//! `cargo xtask tidy`: what the compiler and clippy don't check about the sources' structure.

use anyhow::{Result, bail};

use crate::term::say;

mod invariants;
mod layers;
mod sources;

/// Checks layers, owners of heavy dependencies, sizes of files, where `unsafe` stands, words that must
/// not appear, and that every test the invariants name exists.
///
/// # Errors
/// If something is not in order; all of it is said.
pub(crate) fn run() -> Result<()> {
    let mut wrong = layers::check()?;
    let files = sources::read()?;
    wrong.extend(sources::check(&files));
    wrong.extend(invariants::check(&files));
    for line in &wrong {
        say(line);
    }
    if !wrong.is_empty() {
        bail!("{} not in order", wrong.len());
    }
    say(format_args!("{} files in order", files.len()));
    Ok(())
}
