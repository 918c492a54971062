//! What the tasks say on the terminal. Nothing here decides anything.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Instant;

/// Writes one line; a closed pipe ends nothing.
pub(crate) fn say(line: impl Display) {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).ok();
}

/// Writes a heading.
pub(crate) fn heading(text: impl Display) {
    say(format_args!("\n{}", bold(&text.to_string())));
}

/// Answers the text in bold where standard output is a terminal.
pub(crate) fn bold(text: &str) -> String {
    if io::stdout().is_terminal() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

/// Says how long something took that began at `begun`.
pub(crate) fn say_took(what: impl Display, begun: Instant) {
    say(format_args!("{what}: {:.1} min", begun.elapsed().as_secs_f64() / 60.0));
}

/// Now, as a beginning for [`say_took`].
#[expect(clippy::disallowed_methods, reason = "it says how long it took")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
