//! Commands of a replication connection (PostgreSQL documentation, "Streaming Replication Protocol").
//!
//! The server reads a query's first word: if it is one of these, a grammar of its own takes the whole
//! string; all else is SQL, where the connection is to a database. `SHOW` is in both, and the same.

use std::sync::Arc;

use types::command::{Access, Action, Risk, Statement};

use super::startup::plain_statement;

/// The words that commands begin with, of servers up to PostgreSQL 18.
const COMMANDS: [&str; 9] = [
    "ALTER_REPLICATION_SLOT",
    BASE_BACKUP,
    "CREATE_REPLICATION_SLOT",
    "DROP_REPLICATION_SLOT",
    "IDENTIFY_SYSTEM",
    "READ_REPLICATION_SLOT",
    "START_REPLICATION",
    "TIMELINE_HISTORY",
    "UPLOAD_MANIFEST",
];

const BASE_BACKUP: &str = "BASE_BACKUP";

/// What kind of session a startup packet asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replication {
    /// One for SQL.
    #[default]
    No,
    /// One for these commands alone (`replication=true`).
    Physical,
    /// One for these commands and SQL in a database (`replication=database`).
    Database,
}

impl Replication {
    /// What the server makes of a value of `replication`. Whatever is not clearly a no is a yes.
    pub(super) fn of(value: &[u8]) -> Self {
        let is_no = |no: &&[u8]| value.eq_ignore_ascii_case(no) || value.is_empty();
        match value {
            b"database" => Self::Database,
            _ if [b"false".as_slice(), b"off", b"no", b"0"].iter().any(is_no) => Self::No,
            _ => Self::Physical,
        }
    }
}

/// The replication command that `text` is; `None` where it is SQL.
pub(super) fn read(text: &[u8]) -> Option<Arc<Statement>> {
    let first = Words(text).next()?;
    let Word::Plain(first) = first else { return None };
    let verb = COMMANDS.into_iter().find(|verb| first.eq_ignore_ascii_case(verb.as_bytes()))?;
    let mut risks = Risk::empty();
    if verb == BASE_BACKUP && !is_to_client(text) {
        risks |= Risk::COPY_PROGRAM;
    }
    let accesses = vec![Access { action: Action::Replicate, table: None }];
    let text = String::from_utf8_lossy(text);
    Some(Arc::new(plain_statement(verb, &text, verb, accesses, risks)))
}

/// Whether a base backup goes to the client, as it does unless `TARGET` says otherwise: into a file on
/// the server, or to a program there (PostgreSQL 15).
fn is_to_client(text: &[u8]) -> bool {
    let mut words = Words(text);
    while let Some(word) = words.next() {
        let (Word::Plain(name) | Word::Quoted(b'"', name)) = word else { continue };
        // Another spelling, `TARGET_DETAIL` for one, is no target of the client's either.
        let is_target = name.to_ascii_lowercase().starts_with(b"target");
        if is_target && words.next() != Some(Word::Quoted(b'\'', b"client")) {
            return false;
        }
    }
    true
}

#[derive(Debug, PartialEq, Eq)]
enum Word<'t> {
    /// A name or a number.
    Plain(&'t [u8]),
    /// What stands between these quotes; doubled ones are left so.
    Quoted(u8, &'t [u8]),
    Other,
}

/// The words of a command, as the server's `repl_scanner.l` cuts them.
struct Words<'t>(&'t [u8]);

impl<'t> Iterator for Words<'t> {
    type Item = Word<'t>;

    fn next(&mut self) -> Option<Word<'t>> {
        let rest = self.0.trim_ascii_start();
        let rest = rest.strip_prefix(b"\x0b").unwrap_or(rest);
        let first = *rest.first()?;
        let in_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$' | 0x80..);
        let (word, length) = match first {
            b'\'' | b'"' => {
                let inner = rest.get(1..).unwrap_or_default();
                let length = quoted(first, inner);
                (Word::Quoted(first, inner.get(..length).unwrap_or_default()), length + 2)
            }
            _ if in_name(&first) => {
                let length = rest.iter().take_while(|b| in_name(b)).count();
                (Word::Plain(rest.get(..length).unwrap_or_default()), length)
            }
            _ => (Word::Other, 1),
        };
        self.0 = rest.get(length..).unwrap_or_default();
        Some(word)
    }
}

/// How many bytes stand before the closing quote.
fn quoted(quote: u8, inner: &[u8]) -> usize {
    let mut at = 0;
    while let Some(byte) = inner.get(at) {
        if *byte == quote {
            if inner.get(at + 1) != Some(&quote) {
                break;
            }
            at += 1;
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_sql() {
        for (text, verb) in [
            ("IDENTIFY_SYSTEM", Some("IDENTIFY_SYSTEM")),
            (" \n\tidentify_system;", Some("IDENTIFY_SYSTEM")),
            ("START_REPLICATION SLOT \"a\" 0/0 TIMELINE 1", Some("START_REPLICATION")),
            ("BASE_BACKUP(LABEL 'x')", Some("BASE_BACKUP")),
            ("START_REPLICATIONS", None),
            ("\"START_REPLICATION\"", None),
            ("/**/ START_REPLICATION", None),
            ("SHOW wal_segment_size", None),
            ("SELECT 'START_REPLICATION'", None),
            ("", None),
        ] {
            let found = read(text.as_bytes());
            assert_eq!(found.as_ref().map(|statement| statement.verb), verb, "{text}");
            assert!(found.is_none_or(|statement| statement.replicates()), "{text}");
        }
    }

    #[test]
    fn backups_onto_the_server_are_told_apart() {
        for (text, elsewhere) in [
            ("BASE_BACKUP", false),
            ("BASE_BACKUP LABEL 'a' FAST WAL NOWAIT", false),
            ("BASE_BACKUP (LABEL 'TARGET ''server''', TARGET 'client')", false),
            ("BASE_BACKUP (TARGET 'server', TARGET_DETAIL '/tmp/x')", true),
            ("BASE_BACKUP (target 'SERVER')", true),
            ("BASE_BACKUP (\"target\" 'shell')", true),
            ("BASE_BACKUP (TARGET 'client', TARGET 'server')", true),
            ("BASE_BACKUP (TARGET client)", true),
            ("BASE_BACKUP (TARGET", true),
        ] {
            let risks = read(text.as_bytes()).unwrap().risks;
            assert_eq!(risks.contains(Risk::COPY_PROGRAM), elsewhere, "{text}");
        }
    }

    #[test]
    fn kinds_of_sessions() {
        for (value, kind) in [
            (b"database".as_slice(), Replication::Database),
            (b"true", Replication::Physical),
            (b"DATABASE", Replication::Physical),
            (b"1", Replication::Physical),
            (b"what", Replication::Physical),
            (b"OFF", Replication::No),
            (b"", Replication::No),
        ] {
            assert_eq!(Replication::of(value), kind, "{value:?}");
        }
    }
}
