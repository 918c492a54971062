//! Between psql and the server: every simple Query is asked about before it goes on.

use std::collections::BTreeMap;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail};

use super::tree::{self, Wanted};
use super::wire::{self, Message};
use super::{Demand, Seen};
use crate::port::Port;

/// A relay on a port of its own.
#[derive(Debug)]
pub(super) struct Relay {
    port: Port,
    ended: Arc<AtomicBool>,
    listener: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts to relay connections to `server`; what is seen of `file` goes to `to`.
    ///
    /// # Errors
    /// If no port can be listened on.
    pub(super) fn start(server: u16, file: &str, to: Sender<Seen>) -> Result<Self> {
        let port = Port::take()?;
        let listener = TcpListener::bind(("127.0.0.1", port.number())).context("no port")?;
        let ended = Arc::new(AtomicBool::new(false));
        let (file, stop) = (file.to_owned(), Arc::clone(&ended));
        let listener = thread::spawn(move || {
            let mut sessions = Vec::new();
            for psql in listener.incoming().map_while(Result::ok) {
                if stop.load(Ordering::Acquire) {
                    break;
                }
                let (file, to) = (file.clone(), to.clone());
                // A session ends with an error where psql or the server hangs up.
                sessions.push(thread::spawn(move || session(psql, server, file, &to).ok()));
            }
            for session in sessions {
                drop(session.join());
            }
        });
        Ok(Self { port, ended, listener: Some(listener) })
    }

    /// Answers the port on 127.0.0.1.
    pub(super) fn port(&self) -> u16 {
        self.port.number()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        drop(TcpStream::connect(("127.0.0.1", self.port())));
        if let Some(listener) = self.listener.take() {
            listener.join().ok();
        }
    }
}

/// One connection.
struct Session {
    psql: TcpStream,
    server: TcpStream,
    file: String,
    /// The transaction's status, as ReadyForQuery has it.
    status: u8,
    standard_conforming_strings: bool,
}

/// What the answer to one Query says.
#[derive(Default)]
struct Answer {
    /// Texts of LOG messages that come from no function, with their details.
    logged: Vec<(String, String)>,
    rows: Vec<Vec<String>>,
    tags: Vec<String>,
    error: Option<String>,
}

fn session(mut psql: TcpStream, server: u16, file: String, to: &Sender<Seen>) -> Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", server)).context("the server")?;
    for stream in [&psql, &server] {
        stream.set_nodelay(true).context("a socket's option")?;
    }
    let startup = wire::startup(&mut psql)?;
    std::io::Write::write_all(&mut server, &startup).context("the server")?;
    let mut session =
        Session { psql, server, file, status: b'I', standard_conforming_strings: true };
    session.log_in()?;
    loop {
        let message = Message::read(&mut session.psql)?;
        match message.tag {
            b'Q' => {
                let seen = session.query(&message)?;
                to.send(seen).ok();
            }
            b'X' => return message.write(&mut session.server),
            tag => {
                message.write(&mut session.server)?;
                if matches!(tag, b'S' | b'F') {
                    session.answer(true)?;
                }
            }
        }
    }
}

impl Session {
    fn log_in(&mut self) -> Result<()> {
        loop {
            let message = Message::read(&mut self.server)?;
            message.write(&mut self.psql)?;
            match (message.tag, message.body.get(..4)) {
                (b'Z', _) => return Ok(()),
                (b'E', _) => bail!("no login"),
                // Anything but AuthenticationOk and AuthenticationSASLFinal asks for an answer.
                (b'R', Some([0, 0, 0, kind])) if ![0, 12].contains(kind) => {
                    Message::read(&mut self.psql)?.write(&mut self.server)?;
                }
                _ => {}
            }
        }
    }

    fn query(&mut self, message: &Message) -> Result<Seen> {
        let text = message.body.strip_suffix(b"\0").unwrap_or(&message.body);
        let mut seen = Seen {
            file: self.file.clone(),
            text: text.to_vec(),
            standard_conforming_strings: self.standard_conforming_strings,
            ..Seen::default()
        };
        if self.status != b'E' && can_be_taken_back(text, self.status) {
            self.ask(&mut seen)?;
        }
        message.write(&mut self.server)?;
        let answer = self.answer(true)?;
        if seen.parsed.is_none() {
            // Without the log: what has a tag was parsed, what fails otherwise was, too.
            let failed = answer.error.as_deref();
            seen.parsed = if failed == Some("42601") { None } else { Some(true) };
        }
        (seen.tags, seen.error) = (answer.tags, answer.error);
        Ok(seen)
    }

    /// Asks the server what it says of the text, and takes back what that did.
    fn ask(&mut self, seen: &mut Seen) -> Result<()> {
        let (begin, end) = if self.status == b'I' {
            ("BEGIN READ ONLY", "ROLLBACK")
        } else {
            let end = "ROLLBACK TO SAVEPOINT vestibule_asks; RELEASE SAVEPOINT vestibule_asks";
            ("SAVEPOINT vestibule_asks; SET LOCAL transaction_read_only = on", end)
        };
        let set = "SET LOCAL client_min_messages = log; SET LOCAL debug_print_parse = on";
        if self.run(format!("{begin}; {set}").as_bytes())?.error.is_some() {
            self.run(end.as_bytes())?;
            return Ok(());
        }
        let answer = self.run(&seen.text)?;
        self.run(end.as_bytes())?;
        seen.parsed = Some(answer.logged.iter().any(|(text, _)| text.starts_with("statement: ")));
        seen.refused_as_write = answer.error.as_deref() == Some("25006");
        let trees = answer.logged.iter().filter(|(text, _)| text == "parse tree:");
        let wanted: Vec<Wanted> = trees.flat_map(|(_, tree)| tree::wanted(tree)).collect();
        if !wanted.is_empty() {
            seen.relations = self.names(&wanted)?;
        }
        Ok(())
    }

    /// The names behind the numbers.
    fn names(&mut self, wanted: &[Wanted]) -> Result<Vec<Demand>> {
        let oids: Vec<String> = wanted.iter().map(|one| one.oid.to_string()).collect();
        let sql = format!(
            "SELECT c.oid, n.nspname, c.relname, a.attnum, a.attname FROM pg_catalog.pg_class c \
             JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
             JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) c.oid \
             WHERE c.oid OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.oid[])",
            oids.join(",")
        );
        let mut relations: BTreeMap<u32, (Demand, BTreeMap<i32, String>)> = BTreeMap::new();
        for row in self.run(sql.as_bytes())?.rows {
            let Ok([oid, schema, name, number, column]) = <[String; 5]>::try_from(row) else {
                continue;
            };
            let relation = relations.entry(oid.parse().unwrap_or_default()).or_default();
            (relation.0.schema, relation.0.name) = (schema, name);
            relation.1.insert(number.parse().unwrap_or_default(), column);
        }
        let demand = |one: &Wanted| {
            let (demand, columns) = relations.get(&one.oid)?;
            let name = |number: &i32| match number {
                0 => Some("*".to_owned()),
                number => columns.get(number).cloned(),
            };
            Some(Demand {
                permissions: one.permissions,
                selected: one.selected.iter().filter_map(name).collect(),
                written: one.written.iter().filter_map(name).collect(),
                ..demand.clone()
            })
        };
        Ok(wanted.iter().filter_map(demand).collect())
    }

    /// Runs a text of our own; psql hears nothing of it.
    fn run(&mut self, text: &[u8]) -> Result<Answer> {
        Message::query(text).write(&mut self.server)?;
        self.answer(false)
    }

    /// Reads what the server says up to ReadyForQuery; `told`, psql hears it, and gives what is copied in.
    fn answer(&mut self, told: bool) -> Result<Answer> {
        let mut answer = Answer::default();
        loop {
            let message = Message::read(&mut self.server)?;
            if told {
                message.write(&mut self.psql)?;
            }
            match message.tag {
                b'Z' => {
                    self.status = message.body.first().copied().unwrap_or(b'I');
                    return Ok(answer);
                }
                b'C' => answer.tags.push(cstr(&message.body)),
                b'E' => answer.error = message.field(b'C'),
                b'N' if message.field(b'W').is_none() => {
                    let text = message.field(b'M').unwrap_or_default();
                    answer.logged.push((text, message.field(b'D').unwrap_or_default()));
                }
                b'D' if !told => answer.rows.push(row(&message.body)),
                b'S' => self.note(&message.body),
                b'G' if told => self.copy_in()?,
                b'G' => {
                    Message { tag: b'f', body: b"asked only\0".to_vec() }
                        .write(&mut self.server)?;
                }
                _ => {}
            }
        }
    }

    fn copy_in(&mut self) -> Result<()> {
        loop {
            let message = Message::read(&mut self.psql)?;
            message.write(&mut self.server)?;
            if matches!(message.tag, b'c' | b'f') {
                return Ok(());
            }
        }
    }

    fn note(&mut self, body: &[u8]) {
        if let Some(value) = body.strip_prefix(b"standard_conforming_strings\0") {
            self.standard_conforming_strings = value == b"on\0";
        }
    }
}

fn cstr(body: &[u8]) -> String {
    String::from_utf8_lossy(body.strip_suffix(b"\0").unwrap_or(body)).into_owned()
}

/// The texts of a DataRow.
fn row(body: &[u8]) -> Vec<String> {
    let mut values = Vec::new();
    let mut rest = body.get(2..).unwrap_or_default();
    while let [a, b, c, d, behind @ ..] = rest {
        let length = usize::try_from(i32::from_be_bytes([*a, *b, *c, *d])).unwrap_or(0);
        let (value, behind) = behind.split_at_checked(length).unwrap_or((behind, &[]));
        values.push(String::from_utf8_lossy(value).into_owned());
        rest = behind;
    }
    values
}

/// Whether a rollback takes back all that a text does: no transaction control, and nothing of the session's that
/// outlives one (prepared statements, the place of a cursor).
fn can_be_taken_back(text: &[u8], status: u8) -> bool {
    const NEVER: [&str; 17] = [
        "begin",
        "start",
        "commit",
        "end",
        "rollback",
        "abort",
        "savepoint",
        "release",
        "prepare",
        "deallocate",
        "discard",
        "fetch",
        "move",
        "close",
        "listen",
        "unlisten",
        "vacuum",
    ];
    let text = String::from_utf8_lossy(text).to_lowercase();
    let text = behind_comments(&text);
    let words = || text.split(|c: char| !c.is_alphanumeric() && c != '_');
    let first = words().find(|word| !word.is_empty()).unwrap_or_default();
    let several = text.trim_end().trim_end_matches(';').contains(';');
    let hides = several && words().any(|word| NEVER.contains(&word));
    !(NEVER.contains(&first) || hides || first == "set" && status != b'I')
}

/// `text` from its first word on.
fn behind_comments(mut text: &str) -> &str {
    loop {
        text = text.trim_start();
        let end = if text.starts_with("--") {
            text.find('\n')
        } else if text.starts_with("/*") {
            text.find("*/").map(|at| at + 1)
        } else {
            return text;
        };
        text = end.and_then(|end| text.get(end + 1..)).unwrap_or_default();
    }
}
