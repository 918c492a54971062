//! Command lines for the record: what is a secret, or may be one, is replaced.
//!
//! There is no telling by a look whether a word is a password. So what names a secret (an option, a
//! variable, a header) takes what follows with it, and what looks drawn at random goes on its own.
//! What is unsure is replaced: a port after `-p` too, since for some programs it is the password.

use crate::limits::{ARGUMENTS_MAX, COMMAND_LINE_BYTES_MAX};
use crate::secret_words::{self, TOKENS};

/// What stands in the place of a secret.
pub const REPLACEMENT: &str = "***";

/// The command line of `arguments`, each ended by NUL, as a shell would take it back; `cut` says
/// that more arguments, or more of the last one, followed. At most
/// [`ARGUMENTS_MAX`] arguments and [`COMMAND_LINE_BYTES_MAX`] bytes.
pub fn redacted(arguments: &[u8], cut: bool) -> String {
    let whole = arguments.strip_suffix(b"\0").unwrap_or(arguments);
    let all: Vec<&[u8]> = whole.split(|byte| *byte == 0).collect();
    let (mut line, mut due) = (String::new(), Due::Nothing);
    for (index, bytes) in all.iter().take(ARGUMENTS_MAX).enumerate() {
        let text = String::from_utf8_lossy(bytes);
        let partial = cut && index + 1 == all.len();
        let argument = Argument { text: if partial { whole_words(&text) } else { &text }, index };
        if index > 0 {
            line.push(' ');
        }
        put_quoted(&mut line, &argument.redacted(&mut due));
    }
    if cut || all.len() > ARGUMENTS_MAX || line.len() > COMMAND_LINE_BYTES_MAX {
        const MORE: &str = " …";
        line.truncate(line.floor_char_boundary(COMMAND_LINE_BYTES_MAX - MORE.len()));
        line.push_str(MORE);
    }
    line
}

/// What the next word is, by those before it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    Nothing,
    /// A secret.
    Value,
    /// A user's name, perhaps with the password behind it.
    User,
}

/// Letters of options that take a password in some program: mysql, sshpass (`-p`), sqlcmd (`-P`),
/// redis-cli (`-a`), ldapsearch (`-w`), ssh-keygen (`-N`).
const SHORT: &[u8] = b"pPawN";

/// What a name of a secret has in it; `key` only as the end of one of its words.
const NAMES: [&str; 11] = [
    "pass",
    "pwd",
    "secret",
    "token",
    "cred",
    "auth",
    "bearer",
    "cookie",
    "jwt",
    "signature",
    "identified",
];

/// Names of secrets that are too short to look for within others.
const WORDS: [&str; 6] = ["pw", "pin", "psk", "sig", "sas", "otp"];

/// How issued tokens begin, beside the common ones.
const PREFIXES: [&str; 10] =
    ["xox", "sk-", "sk_", "rk_", "AIza", "ya29.", "hvs.", "npm_", "pypi-", "SG."];

struct Argument<'a> {
    text: &'a str,
    index: usize,
}

impl Argument<'_> {
    fn redacted(&self, due: &mut Due) -> String {
        let text = self.text;
        match std::mem::replace(due, Due::Nothing) {
            Due::Value => {
                // It may be an option after all, of one that took no value.
                if text.starts_with('-') {
                    *due = announced(text);
                }
                return REPLACEMENT.to_owned();
            }
            Due::User if text.contains([':', '%']) => return user(text),
            _ => {}
        }
        if text.contains("PRIVATE KEY") {
            return REPLACEMENT.to_owned();
        }
        let text = without_user_info(text);
        let (mut out, mut rest) = (String::new(), text.as_str());
        while let Some(first) = rest.chars().next() {
            if *due != Due::Nothing {
                rest = value(rest, &mut out, due);
            } else if is_delimiter(first) {
                out.push(first);
                rest = rest.get(first.len_utf8()..).unwrap_or_default();
            } else {
                rest = self.word(rest, &mut out, due);
            }
        }
        out
    }

    /// Takes the word that `rest` begins with; answers what follows.
    fn word<'b>(&self, rest: &'b str, out: &mut String, due: &mut Due) -> &'b str {
        let (token, after) = rest.split_at(rest.find(is_delimiter).unwrap_or(rest.len()));
        let at_start = out.is_empty();
        let given = match (assignment(token), token.as_bytes()) {
            (Some(at), _) => at + 1,
            (None, [b'-', letter, _, ..]) if SHORT.contains(letter) => 2,
            (None, [b'-', b'u' | b'U', _, ..]) => match token.find([':', '%']) {
                Some(at) => at + 1,
                None => 0,
            },
            _ => 0,
        };
        if given == 0 {
            // A program may be called as it likes.
            if !at_start || self.index > 0 {
                *due = announced(token);
            }
            put_plain(token, out);
            return after;
        }
        let (name, given) = rest.split_at(given);
        out.push_str(name);
        if given.is_empty() {
            *due = Due::Value;
            return given;
        }
        // In an argument that is this and nothing else, and in a header, the value may have blanks.
        if at_start || name.ends_with(':') {
            out.push_str(REPLACEMENT);
            // -password begins with -p
            *due = if name.len() == 2 { announced(token) } else { Due::Nothing };
            return "";
        }
        *due = Due::Value;
        given
    }
}

/// A user's name; what follows a colon or percent sign is the password.
fn user(text: &str) -> String {
    let end = text.find([':', '%']).map_or(0, |at| at + 1);
    text.get(..end).unwrap_or_default().to_owned() + REPLACEMENT
}

/// Replaces what stands before the host in every URL. A password may hold any sign, so it is the
/// last `@` before a blank that counts.
fn without_user_info(text: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let word = after.find(char::is_whitespace).unwrap_or(after.len());
        let host = after.get(..word).and_then(|word| word.rfind('@'));
        rest = after.get(host.unwrap_or(0)..).unwrap_or_default();
        if host.is_some() {
            out.push_str(REPLACEMENT);
        }
    }
    out.push_str(rest);
    out
}

/// What a word says of the next one.
fn announced(token: &str) -> Due {
    let name = token.trim_start_matches('-');
    match token.as_bytes() {
        [b'-', letter] if SHORT.contains(letter) => return Due::Value,
        [b'-', b'u' | b'U'] => return Due::User,
        _ => {}
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !name.bytes().all(plain) {
        return Due::Nothing;
    }
    if is_secret(name) {
        return Due::Value;
    }
    let is_user = token.starts_with('-') && name.to_ascii_lowercase().ends_with("user");
    if is_user { Due::User } else { Due::Nothing }
}

/// Replaces the value at the start of `rest`, as a shell would delimit it; answers what follows.
fn value<'a>(rest: &'a str, out: &mut String, due: &mut Due) -> &'a str {
    // `password = …`, `"password": …`, `IDENTIFIED BY …`
    let blank = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '=' | ':' | '>');
    let lead = rest.find(|c| !blank(c)).unwrap_or(rest.len());
    let (between, given) = rest.split_at(lead);
    out.push_str(between);
    if given.is_empty() {
        return given;
    }
    if let Some(("by" | "BY" | "By", after)) = given.split_once(char::is_whitespace) {
        out.push_str("BY ");
        return after;
    }
    let opened = between.chars().last().filter(|c| matches!(c, '"' | '\''));
    let (word, after) = given.split_at(shell_word(given, opened));
    match std::mem::replace(due, Due::Nothing) {
        Due::User if word.contains([':', '%']) => out.push_str(&user(word)),
        Due::User => out.push_str(word),
        _ => {
            out.push_str(REPLACEMENT);
            *due = if word.starts_with('-') { announced(word) } else { Due::Nothing };
        }
    }
    after
}

/// Bytes up to a blank that is neither quoted nor escaped.
fn shell_word(text: &str, opened: Option<char>) -> usize {
    let (mut quote, mut escaped) = (opened, false);
    for (at, c) in text.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' && quote != Some('\'') {
            escaped = true;
        } else if quote == Some(c) {
            quote = None;
        } else if quote.is_none() && matches!(c, '"' | '\'') {
            quote = Some(c);
        } else if quote.is_none() && c.is_whitespace() {
            return at;
        }
    }
    text.len()
}

/// Where in a word a secret is assigned: the place of the `=` or `:` behind its name.
fn assignment(token: &str) -> Option<usize> {
    let bytes = token.as_bytes();
    token.match_indices(['=', ':']).map(|(at, _)| at).find(|&at| {
        let is_scheme = bytes.get(at..).is_some_and(|rest| rest.starts_with(b"://"));
        let dots = bytes.get(at) == Some(&b'=');
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c) || dots && c == '.';
        let before = token.get(..at).unwrap_or_default();
        let name = before.rsplit(|c| !is_name(c)).next().unwrap_or_default();
        !is_scheme && is_secret(name)
    })
}

/// Whether a name is a secret's.
fn is_secret(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    let mut words = lower.split(|c: char| !c.is_ascii_alphanumeric());
    NAMES.iter().any(|part| lower.contains(part))
        || words
            .any(|word| WORDS.contains(&word) || word.ends_with("key") || word.ends_with("keys"))
}

/// A word that nothing announced: only the secrets it holds itself are replaced.
fn put_plain(token: &str, out: &mut String) {
    match token.rsplit_once('@') {
        Some((before, host)) if before.contains([':', '/']) && !before.contains("://") => {
            out.push_str(REPLACEMENT);
            out.push('@');
            put_runs(host, out);
        }
        _ => put_runs(token, out),
    }
}

fn put_runs(text: &str, out: &mut String) {
    let is_run = |c: char| c.is_ascii_alphanumeric() || "+/=_.~-".contains(c);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = if is_run(first) { rest.find(|c| !is_run(c)) } else { rest.find(is_run) };
        let (run, after) = rest.split_at(end.unwrap_or(rest.len()));
        out.push_str(if is_run(first) && looks_random(run) { REPLACEMENT } else { run });
        rest = after;
    }
}

/// Whether a run of letters and digits may be a token: by how it begins, or how it is mixed.
fn looks_random(run: &str) -> bool {
    let is_issued = |prefixes| secret_words::begins(run, prefixes, 0);
    if run.len() >= 12 && (is_issued(&TOKENS[..]) || is_issued(&PREFIXES)) {
        return true;
    }
    let is_path = run.starts_with(['/', '.', '~']);
    let mixed = Mix::of(run);
    if !is_path && run.len() >= 24 && mixed.all_kinds() && mixed.bits_per_char >= 4.0 {
        return true;
    }
    run.split(['/', '.', '=', '+', '~']).any(|part| {
        let bare: String = part.chars().filter(char::is_ascii_alphanumeric).collect();
        let mix = Mix::of(&bare);
        let is_hex = mix.digits > 0 && bare.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_mixed = mix.digits > 1 && mix.lower + mix.upper > 1 && mix.bits_per_char >= 3.0;
        let alternates = mix.turns * 3 >= bare.len() && mix.lower > 0 && mix.upper > 0;
        (bare.len() >= 16 && (is_hex || is_mixed))
            || (bare.len() >= 20 && alternates)
            || (part.len() >= 32 && bare.len() == part.len() && mix.bits_per_char >= 3.5)
    })
}

/// How a text is mixed.
struct Mix {
    lower: usize,
    upper: usize,
    digits: usize,
    /// Changes between small and capital letters.
    turns: usize,
    /// Shannon's entropy of its own characters.
    bits_per_char: f64,
}

impl Mix {
    fn of(text: &str) -> Self {
        let mut counts = [0_u32; 256];
        let mut mix = Self { lower: 0, upper: 0, digits: 0, turns: 0, bits_per_char: 0.0 };
        let mut before = None;
        for byte in text.bytes() {
            if let Some(count) = counts.get_mut(usize::from(byte)) {
                *count += 1;
            }
            mix.lower += usize::from(byte.is_ascii_lowercase());
            mix.upper += usize::from(byte.is_ascii_uppercase());
            mix.digits += usize::from(byte.is_ascii_digit());
            let capital = byte.is_ascii_uppercase();
            mix.turns += usize::from(before.is_some_and(|before| before != capital));
            before = Some(capital);
        }
        let total = f64::from(u32::try_from(text.len()).unwrap_or(u32::MAX).max(1));
        let share = |count: &u32| f64::from(*count) / total;
        let kinds = counts.iter().filter(|count| **count > 0).map(share);
        mix.bits_per_char = kinds.map(|share| -share * share.log2()).sum();
        mix
    }

    fn all_kinds(&self) -> bool {
        self.lower > 0 && self.upper > 0 && self.digits > 0
    }
}

fn is_delimiter(c: char) -> bool {
    c.is_whitespace() || "\"'`;|&(){}[]<>,".contains(c)
}

/// A cut text up to its last blank or sign: half a secret may look like none.
fn whole_words(text: &str) -> &str {
    text.rfind(is_delimiter).and_then(|end| text.get(..end)).unwrap_or_default()
}

/// Appends an argument as a POSIX shell would read it back; control characters are escaped, so that
/// a command line is one line.
fn put_quoted(line: &mut String, argument: &str) {
    let plain = |c: char| c.is_alphanumeric() || "_-./:=@%+,*".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        line.push_str(argument);
        return;
    }
    line.push('\'');
    for c in argument.chars() {
        match c {
            '\'' => line.push_str("'\\''"),
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line.push('\'');
}

#[cfg(test)]
mod tests;
