//! What the tasks say on the terminal. Nothing here decides anything.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

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
