//! What an approver is shown, so that what is approved is what was seen.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use types::hex::hex;

use crate::request::{ApprovalRequest, Reached, Requester, Wants};

/// All that an approver decides on, as plain text: one `name: value` a line, the statement last. Nothing in it
/// is anything but printable ASCII, see [`plain`].
pub fn shown(request: &ApprovalRequest) -> String {
    let ApprovalRequest {
        id,
        node,
        at_us: _,
        expires_us: _,
        session: _,
        command: _,
        requester,
        target,
        kind,
        verb: _,
        accesses,
        risks,
        normalized: _,
        text,
        parameters,
        is_masked,
        rows_estimated: _,
        transaction,
        reason,
        policy_digest: _,
        terms,
        covers,
        grant_s,
        binding: _,
        pattern: _,
        shown_sha256: _,
    } = request;
    let Requester { agent, instance, chain, user, idp, sub, owner, around, pid, exe, .. } =
        requester;
    let Reached { name, host, database, account, protocol } = target;
    let mut out = String::new();
    let mut line = |what: &str, value: &str| {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{what}: {}", one_line(value));
    };
    let or_none = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    line("request", &id.to_string());
    line("host", node);
    line("agent", &format!("{agent} {instance}"));
    line("chain", &chain.join(" > "));
    line("for", &format!("{} {}@{}", or_none(user), or_none(sub), or_none(idp)));
    line("owner", &or_none(owner));
    if !around.is_empty() {
        line("around", &around.join(", "));
    }
    line("process", &format!("{pid} {}", or_none(exe)));
    line("target", &format!("{name} {} {protocol}", or_none(host)));
    line("database", &format!("{} as {}", or_none(database), or_none(account)));
    line("kind", kind);
    line("does", &accesses.join(", "));
    line("risks", &risks.join(", "));
    line("transaction", transaction);
    line("policy says", reason);
    for Wants { policy, groups, people, break_glass: _ } in terms {
        line("needs", &format!("{people} of {} ({policy})", groups.join(" or ")));
    }
    line("covers", &format!("{covers} for {grant_s} s"));
    for (at, parameter) in parameters.iter().enumerate() {
        line(&format!("${}", at + 1), parameter);
    }
    if *is_masked {
        line("masked", "values that records must not hold are replaced");
    }
    out.push_str("statement:\n");
    out.push_str(&plain(text));
    out
}

/// SHA-256 of what is shown, hexadecimal.
pub fn shown_sha256(request: &ApprovalRequest) -> String {
    hex(&Sha256::digest(shown(request)))
}

/// A piece of a text as people may be shown it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'t> {
    /// Printable ASCII and line ends.
    Plain(&'t str),
    /// A character that may look like another, like none, or turn the text around.
    Strange(char),
}

/// Takes a text apart: whatever is not printable ASCII, a line end or a tab stands alone, to be shown by its
/// number. Letters of other scripts look like ours (Unicode TR 39), and marks of direction reorder what is read.
pub fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = rest.find(|c| !is_plain(c)).unwrap_or(rest.len());
        let cut = if end == 0 { first.len_utf8() } else { end };
        let (piece, after) = rest.split_at(cut);
        rest = after;
        Some(if end == 0 { Piece::Strange(first) } else { Piece::Plain(piece) })
    })
}

/// A text in which every strange character stands as `<U+202E>`.
pub fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Plain(piece) => out.push_str(piece),
            Piece::Strange(c) => out.push_str(&number(c)),
        }
    }
    out
}

/// A person's words as they may be told on somebody's terminal, in one line: letters of every script stay; what
/// hides, turns text around or gives a terminal orders stands by its number.
pub fn spoken(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(' '),
            c if moves(c) => out.push_str(&number(c)),
            c => out.push(c),
        }
    }
    out
}

/// Controls, and marks of format that show nothing themselves (Unicode's categories Cc and, of Cf, those that hide or
/// reorder; lines' and paragraphs' separators).
fn moves(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A character's number, `<U+202E>`.
pub fn number(c: char) -> String {
    format!("<U+{:04X}>", u32::from(c))
}

fn one_line(text: &str) -> String {
    plain(text).replace(['\n', '\t'], " ")
}

fn is_plain(c: char) -> bool {
    matches!(c, ' '..='~' | '\n' | '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_on_a_terminal_stay_words() {
        for (said, told) in [
            ("not today, M\u{fc}ller\nplease", "not today, M\u{fc}ller please"),
            ("\u{202e}no\u{1b}[2J", "<U+202E>no<U+001B>[2J"),
            ("a\u{200b}b\u{feff}\u{2028}", "a<U+200B>b<U+FEFF><U+2028>"),
            ("\u{43d}\u{435}\u{442}", "\u{43d}\u{435}\u{442}"),
        ] {
            assert_eq!(spoken(said), told);
        }
    }

    #[test]
    fn strange_characters_are_shown_by_their_number() {
        for (text, seen) in [
            ("DELETE FROM t\nWHERE a = 'x'", "DELETE FROM t\nWHERE a = 'x'"),
            ("\u{202e}x", "<U+202E>x"),
            ("p\u{0430}yments", "p<U+0430>yments"),
            ("a\u{200b}\u{2066}b\r", "a<U+200B><U+2066>b<U+000D>"),
            ("M\u{fc}ller", "M<U+00FC>ller"),
            ("", ""),
        ] {
            assert_eq!(plain(text), seen);
            let whole: String = pieces(text)
                .map(|piece| match piece {
                    Piece::Plain(text) => text.to_owned(),
                    Piece::Strange(c) => c.to_string(),
                })
                .collect();
            assert_eq!(whole, text, "nothing is lost");
        }
    }
}
