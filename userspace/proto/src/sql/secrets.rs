//! Secrets in SQL, for the record: which constants and parameters are passwords, keys or tokens.
//!
//! A constant is one by what it stands behind (`PASSWORD`, an option's or a column's name, `crypt(`), by its
//! column in an INSERT, or by what is in it (`password=` in a connection string, `user:pw@` in a URL, how
//! well-known tokens begin). A secret under a name of no meaning is not found.

use std::borrow::Cow;
use std::ops::Range;

use pg_query::protobuf::Token;
use types::command::{Parameter, ParameterValue};
use types::command_line;
use types::secret_words::{self, TOKENS};

use super::normalize;

/// What stands in for a secret.
const STAND_IN: &str = "'[secret]'";

/// What is kept of a text that may hold a secret and can't be read.
const NOT_KEPT: &str = "[not kept: it may hold a secret, and can't be read]";

/// What of a statement is secret.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Secrets<'t> {
    /// The text without them; borrowed where there are none.
    pub text: Cow<'t, str>,
    /// Numbers, from 1, of the parameters that are.
    pub parameters: Vec<usize>,
}

/// Finds the secrets of one statement.
pub fn find(text: &str) -> Secrets<'_> {
    if !may_hold(text) {
        return Secrets { text: text.into(), parameters: Vec::new() };
    }
    let Some(tokens) = tokens(text) else {
        return Secrets { text: Cow::Owned(NOT_KEPT.to_owned()), parameters: Vec::new() };
    };
    let mut walk = Walk { tokens: &tokens, ..Walk::default() };
    for at in 0..tokens.len() {
        walk.step(at);
    }
    let (mut kept, mut end) = (String::new(), 0);
    for (range, stand_in) in walk.found {
        let secret = text.get(range.clone()).unwrap_or_default();
        if secret.starts_with('\'') && secret.contains('\\') {
            // Where backslashes escape, it ends elsewhere.
            return Secrets { text: Cow::Owned(NOT_KEPT.to_owned()), parameters: walk.parameters };
        }
        kept.push_str(text.get(end..range.start).unwrap_or_default());
        kept.push_str(&stand_in);
        end = range.end;
    }
    let text = match end {
        0 => text.into(),
        _ => (kept + text.get(end..).unwrap_or_default()).into(),
    };
    Secrets { text, parameters: walk.parameters }
}

/// Whether a value, by itself, is a secret or holds one.
pub fn is_in(value: &str) -> bool {
    may_hold(value) && (announces(value) || in_url(value) || is_token(value))
}

/// Leaves a parameter's value out that is a secret, by its number (`is_told`) or by what is in it; whether it did.
pub fn leave_out(parameter: &mut Parameter, is_told: bool) -> bool {
    let bytes = match &parameter.value {
        ParameterValue::Text { bytes, .. } | ParameterValue::Binary { bytes, .. }
            if is_secret(parameter, is_told) =>
        {
            *bytes
        }
        _ => return false,
    };
    parameter.value = ParameterValue::Text { text: "[secret]".to_owned(), bytes };
    true
}

/// Whether [`leave_out`] leaves a parameter out.
pub fn is_secret(parameter: &Parameter, is_told: bool) -> bool {
    match &parameter.value {
        ParameterValue::Null => false,
        ParameterValue::Text { text, .. } => is_told || is_in(text),
        ParameterValue::Binary { .. } => is_told,
    }
}

/// A token that is no comment.
struct Piece<'t> {
    kind: Token,
    word: &'t str,
    range: Range<usize>,
}

fn tokens(text: &str) -> Option<Vec<Piece<'_>>> {
    let mut pieces = Vec::new();
    for token in normalize::tokens(text)? {
        let range = usize::try_from(token.start).ok()?..usize::try_from(token.end).ok()?;
        let kind = Token::try_from(token.token).ok()?;
        if !matches!(kind, Token::SqlComment | Token::CComment) {
            pieces.push(Piece { kind, word: text.get(range.clone())?, range });
        }
    }
    Some(pieces)
}

#[derive(Default)]
struct Walk<'t> {
    tokens: &'t [Piece<'t>],
    /// For each bracket that is open: whether all constants in it are secret.
    brackets: Vec<bool>,
    insert: Insert,
    /// Places in the text, and what is kept instead.
    found: Vec<(Range<usize>, Cow<'static, str>)>,
    parameters: Vec<usize>,
}

/// How far an INSERT is, whose columns say what its values are.
#[derive(Debug, Default)]
struct Insert {
    part: Part,
    /// Which columns hold secrets.
    columns: Vec<bool>,
    /// Which column's value comes.
    at: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    None,
    Table,
    Columns,
    Values,
}

impl Walk<'_> {
    fn step(&mut self, at: usize) {
        let Some(Piece { kind, word, range }) = self.tokens.get(at) else { return };
        match *word {
            "(" => {
                let inner = self.brackets.last() == Some(&true) || self.opens_secret(at);
                self.brackets.push(inner);
                self.insert.open(self.brackets.len());
            }
            ")" => {
                self.brackets.pop();
            }
            "," if self.brackets.len() == 1 => self.insert.at += 1,
            _ => self.insert.word(word, self.brackets.len()),
        }
        let by_place = || {
            self.brackets.last() == Some(&true)
                || self.is_announced(at)
                || self.insert.is_secret(self.brackets.len())
        };
        let secret = match kind {
            Token::Param if by_place() => {
                let number = word.get(1..).and_then(|number| number.parse::<usize>().ok());
                self.parameters.extend(number.filter(|number| *number > 0));
                return;
            }
            Token::Sconst | Token::Usconst if self.word(at, 1).eq_ignore_ascii_case("program") => {
                let line = command(word);
                if line != *word {
                    self.found.push((range.clone(), line.into()));
                }
                return;
            }
            Token::Sconst | Token::Usconst => by_place() || is_in(word),
            Token::Bconst | Token::Xconst | Token::Iconst | Token::Fconst => by_place(),
            _ => false,
        };
        if secret {
            self.found.push((range.clone(), STAND_IN.into()));
        }
    }

    /// The token so many before one.
    fn word(&self, at: usize, back: usize) -> &str {
        let piece = at.checked_sub(back).and_then(|at| self.tokens.get(at));
        piece.map_or("", |piece| piece.word)
    }

    /// Whether a constant stands behind a secret's name.
    fn is_announced(&self, at: usize) -> bool {
        let (last, before) = (self.word(at, 1), self.word(at, 2));
        if is_name(last) {
            let counts = last.to_ascii_lowercase().ends_with("tokens");
            return !counts;
        }
        let operator = matches!(last, "=" | ":=" | "=>" | "<>" | "!=")
            || last.eq_ignore_ascii_case("to")
            || last.eq_ignore_ascii_case("like");
        // As in `set_config('app.token', 'x', false)`, too.
        (operator || last == ",") && is_name(before) && (operator || before.starts_with('\''))
    }

    /// Whether a bracket makes secret what is in it: `password IN (`, `crypt(`.
    fn opens_secret(&self, at: usize) -> bool {
        let (last, before) = (self.word(at, 1), self.word(at, 2));
        let last = last.to_ascii_lowercase();
        FUNCTIONS.iter().any(|name| last.contains(name))
            || (matches!(&*last, "in" | "any" | "=") && is_name(before))
    }
}

impl Insert {
    fn word(&mut self, word: &str, depth: usize) {
        match self.part {
            _ if depth == 0 && word.eq_ignore_ascii_case("insert") => {
                *self = Self { part: Part::Table, ..Self::default() };
            }
            Part::Columns if depth == 1 => {
                if let Some(column) = self.columns.get_mut(self.at) {
                    *column |= is_name(word);
                } else {
                    self.columns.resize(self.at, false);
                    self.columns.push(is_name(word));
                }
            }
            Part::Columns | Part::Table if depth == 0 && word.eq_ignore_ascii_case("values") => {
                self.part = Part::Values;
            }
            Part::Values if depth == 0 && word.eq_ignore_ascii_case("on") => self.part = Part::None,
            _ => {}
        }
    }

    fn open(&mut self, depth: usize) {
        if depth == 1 {
            self.at = 0;
            if self.part == Part::Table {
                self.part = Part::Columns;
            }
        }
    }

    fn is_secret(&self, depth: usize) -> bool {
        self.part == Part::Values && depth > 0 && self.columns.get(self.at) == Some(&true)
    }
}

/// A program's command line as a constant, without its secrets.
fn command(constant: &str) -> String {
    let inner = constant.trim_matches(['\'', '$']).replace("''", "'");
    let line = command_line::redacted(words(&inner).join("\0").as_bytes(), false);
    if line.contains(command_line::REPLACEMENT) || is_in(&inner) {
        format!("'{}'", line.replace('\'', "''"))
    } else {
        constant.to_owned()
    }
}

/// The words of a command line, without the quotes around them.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut quote) = (vec![String::new()], None);
    for c in line.chars() {
        match (quote, words.last_mut()) {
            (Some(open), _) if c == open => quote = None,
            (None, _) if c == '"' || c == '\'' => quote = Some(c),
            (None, Some(word)) if c.is_whitespace() => {
                if !word.is_empty() {
                    words.push(String::new());
                }
            }
            (_, Some(word)) => word.push(c),
            (_, None) => {}
        }
    }
    words
}

/// Whether a text may hold a secret or its name; quick, since it is asked of every text.
fn may_hold(text: &str) -> bool {
    let bytes = text.as_bytes();
    if bytes.iter().all(u8::is_ascii_digit) {
        // Mostly a key.
        return false;
    }
    let holds = |(at, window): (usize, &[u8])| {
        let [a, b, c] = *window else { return false };
        let begins = [a, b, c].map(|byte| byte.to_ascii_lowercase());
        let rest = bytes.get(at..).unwrap_or_default();
        let is_here = |stem: &&[u8]| {
            rest.get(..stem.len()).is_some_and(|here| here.eq_ignore_ascii_case(stem))
        };
        may_begin(begins) && STEMS.iter().any(is_here)
    };
    bytes.windows(3).enumerate().any(holds)
}

/// Whether one of [`STEMS`] begins so.
fn may_begin(bytes: [u8; 3]) -> bool {
    matches!(
        &bytes,
        b"pas"
            | b"pwd"
            | b"pgp"
            | b"pro"
            | b"pri"
            | b"sec"
            | b"sk_"
            | b"rk_"
            | b"tok"
            | b"key"
            | b"aut"
            | b"cre"
            | b"cry"
            | b"cvv"
            | b"cvc"
            | b"hma"
            | b"bea"
            | b"eyj"
            | b"ghp"
            | b"gho"
            | b"ghu"
            | b"ghs"
            | b"ghr"
            | b"git"
            | b"glp"
            | b"aki"
            | b"asi"
            | b"://"
            | b"xox"
            | b"otp"
    )
}

/// Whether a word, or a constant that is one, is a secret's name.
fn is_name(word: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-\"' ".contains(&byte);
    if word.is_empty() || word.len() > NAME_BYTES_MAX || !word.bytes().all(is_word) {
        return false;
    }
    secret_words::is_name(&secret_words::plain(word))
}

/// Whether a text names a secret and gives it: `password=x`, `"token": "x"`, `Authorization: Bearer x`.
fn announces(text: &str) -> bool {
    let mut pieces = text.split(['=', ':']);
    let Some(mut before) = pieces.next() else { return false };
    for piece in pieces {
        let named = before.trim_end_matches([' ', '\t', '"', '\'', '\\']);
        let start = named.rfind(|c: char| !c.is_ascii_alphanumeric() && !"_.-".contains(c));
        let name = named.get(start.map_or(0, |at| at + 1)..).unwrap_or_default();
        let value = piece.trim_matches([' ', '\'', '"']);
        if !value.is_empty() && (is_name(name) || name.eq_ignore_ascii_case("authorization")) {
            return true;
        }
        before = piece;
    }
    text.contains("PRIVATE KEY-----")
}

/// Whether there is a URL with a password (RFC 3986, 3.2.1).
fn in_url(text: &str) -> bool {
    text.match_indices("://").any(|(at, mark)| {
        let rest = text.get(at + mark.len()..).unwrap_or_default();
        let authority = rest.split(['/', '?', '#', ' ', '\'', '"']).next().unwrap_or_default();
        authority.rsplit_once('@').is_some_and(|(account, _)| account.contains(':'))
    })
}

/// Whether a word of it begins as well-known tokens do.
fn is_token(text: &str) -> bool {
    let mut words = text.split(|c: char| !c.is_ascii_alphanumeric() && !"_-".contains(c));
    words.any(|word| secret_words::begins(word, &TOKENS, 12))
}

/// PostgreSQL's names have at most 63 bytes; two of them, quoted.
const NAME_BYTES_MAX: usize = 130;

/// Parts of the names of functions whose arguments are keys or passwords: pgcrypto's.
const FUNCTIONS: [&str; 4] = ["crypt", "pgp_sym", "pgp_pub", "hmac"];

/// One of these is in whatever holds one of the above or of the common words, its separators aside.
const STEMS: [&[u8]; 30] = [
    b"pass",
    b"pwd",
    b"pgp_",
    b"program",
    b"private",
    b"secret",
    b"sk_live",
    b"rk_live",
    b"token",
    b"key",
    b"auth",
    b"credential",
    b"crypt",
    b"cvv",
    b"cvc",
    b"hmac",
    b"bearer",
    b"eyj",
    b"ghp_",
    b"gho_",
    b"ghu_",
    b"ghs_",
    b"ghr_",
    b"github_pat_",
    b"glpat-",
    b"akia",
    b"asia",
    b"://",
    b"xox",
    b"otp",
];

#[cfg(test)]
mod tests {
    use types::secret_words::NAMES;

    use super::*;

    #[test]
    fn secrets_are_replaced() {
        for (text, kept) in [
            ("ALTER ROLE jo PASSWORD 'x''y'", "ALTER ROLE jo PASSWORD '[secret]'"),
            (
                "CREATE USER jo WITH ENCRYPTED PASSWORD /* c */ E'x\\'y' VALID UNTIL '2030-01-01'",
                "CREATE USER jo WITH ENCRYPTED PASSWORD /* c */ '[secret]' VALID UNTIL '2030-01-01'",
            ),
            ("alter user jo password $q$x'y$q$", "alter user jo password '[secret]'"),
            (
                "CREATE USER MAPPING FOR jo SERVER s OPTIONS (user 'u', password 'p')",
                "CREATE USER MAPPING FOR jo SERVER s OPTIONS (user 'u', password '[secret]')",
            ),
            (
                "ALTER USER MAPPING FOR jo SERVER s OPTIONS (SET \"password\" 'p')",
                "ALTER USER MAPPING FOR jo SERVER s OPTIONS (SET \"password\" '[secret]')",
            ),
            (
                "CREATE SUBSCRIPTION s CONNECTION 'host=h password=''x y'' dbname=d' PUBLICATION p",
                "CREATE SUBSCRIPTION s CONNECTION '[secret]' PUBLICATION p",
            ),
            (
                "CREATE SUBSCRIPTION s CONNECTION 'host=h dbname=passage' PUBLICATION p",
                "CREATE SUBSCRIPTION s CONNECTION 'host=h dbname=passage' PUBLICATION p",
            ),
            (
                "SELECT * FROM dblink('postgresql://jo:pw@h/d', 'SELECT 1') AS t(a int)",
                "SELECT * FROM dblink('[secret]', 'SELECT 1') AS t(a int)",
            ),
            (
                "SELECT dblink_connect('c', 'host=h passWord = pw')",
                "SELECT dblink_connect('c', '[secret]')",
            ),
            ("SET app.api_token TO 'x'", "SET app.api_token TO '[secret]'"),
            (
                "SELECT set_config('app.token', 'x', false)",
                "SELECT set_config('app.token', '[secret]', false)",
            ),
            (
                "ALTER SYSTEM SET primary_conninfo = 'user=r password=x'",
                "ALTER SYSTEM SET primary_conninfo = '[secret]'",
            ),
            (
                "SELECT id FROM users WHERE password = crypt('pw', salt) AND name = 'jo'",
                "SELECT id FROM users WHERE password = crypt('[secret]', salt) AND name = 'jo'",
            ),
            (
                "SELECT 1 WHERE token IN ('a', 'b') AND c IN ('d')",
                "SELECT 1 WHERE token IN ('[secret]', '[secret]') AND c IN ('d')",
            ),
            (
                "INSERT INTO users (name, password, age) VALUES ('jo', 'x', 3), ('al', lower('Y'), 4)",
                "INSERT INTO users (name, password, age) VALUES ('jo', '[secret]', 3), ('al', lower('[secret]'), 4)",
            ),
            (
                "UPDATE users SET u.pin = 4, password = 1234 WHERE id = 7",
                "UPDATE users SET u.pin = 4, password = '[secret]' WHERE id = 7",
            ),
            ("SELECT '{\"n\": 1, \"password\": \"x\"}'::json", "SELECT '[secret]'::json"),
            ("SELECT 'ghp_0123456789abcdef0123'", "SELECT '[secret]'"),
            ("ALTER ROLE jo PASSWORD 'x\\' y'", NOT_KEPT),
            ("ALTER ROLE jo PASSWORD 'x", NOT_KEPT),
        ] {
            assert_eq!(find(text).text, kept, "{text}");
        }
    }

    #[test]
    fn programs_are_kept_without_them() {
        let find = |text| find(text).text.into_owned();
        let sent =
            find("COPY t TO PROGRAM 'curl -H \"Authorization: Bearer abc123DEF456\" https://h/x'");
        assert!(
            sent.contains("curl") && sent.contains("***") && !sent.contains("abc123"),
            "{sent}"
        );
        let sent = find("COPY t TO PROGRAM 'PGPASSWORD=hunter2 psql -h h'");
        assert!(sent.contains("psql -h h") && !sent.contains("hunter2"), "{sent}");
        assert_eq!(find("COPY t TO PROGRAM 'gzip > /tmp/x'"), "COPY t TO PROGRAM 'gzip > /tmp/x'");
    }

    #[test]
    fn no_secret_is_passed_over() {
        for stem in STEMS {
            assert!(may_begin(*stem.first_chunk().unwrap()), "{stem:?}");
        }
        for name in NAMES.iter().chain(&FUNCTIONS).chain(&TOKENS) {
            assert!(may_hold(name) && may_hold(&format!("x_{}", name.to_uppercase())), "{name}");
        }
        assert!(!may_hold("UPDATE pgbench_accounts SET abalance = abalance + 7 WHERE aid = 3"));
        assert!(is_in("k AKIA0123456789ABCDEF"));
    }

    #[test]
    fn what_is_none_stays() {
        for text in [
            "SELECT token, password FROM t WHERE id = 5 AND name = 'x'",
            "SELECT 'it was a secret' AS note, 5 AS tokens_used",
            "SELECT key FROM t WHERE max_tokens = 5 ORDER BY key LIMIT 3",
            "INSERT INTO t (a, b) VALUES ('monkey', 'c')",
            "SELECT * FROM bypass WHERE note = 'see: https://h/p?a=b'",
        ] {
            let found = find(text);
            let is_limit = text.contains("max_tokens");
            assert!(
                is_limit || matches!(found.text, Cow::Borrowed(kept) if kept == text),
                "{found:?}"
            );
        }
    }

    #[test]
    fn parameters_are_found_by_their_place() {
        for (text, parameters) in [
            ("UPDATE users SET name = $1, password = $2 WHERE id = $3", &[2][..]),
            ("INSERT INTO users (name, password) VALUES ($1, crypt($2, gen_salt('bf')))", &[2]),
            ("SELECT set_config('app.secret', $1, true)", &[1]),
            ("SELECT id FROM users WHERE id = $1", &[]),
        ] {
            assert_eq!(find(text).parameters, parameters, "{text}");
        }
        assert!(is_in("host=h password=x") && !is_in("password") && !is_in("plain"));
    }
}
