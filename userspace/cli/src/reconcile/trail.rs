//! A server's own trail: what pgaudit wrote of each statement, read from PostgreSQL's csvlog or jsonlog.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use types::clock::from_utc;

/// The longest line of jsonlog that is read: a statement of a few megabytes, escaped.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Columns of csvlog up to `application_name`.
const COLUMNS: usize = 23;

/// What stands before a session's id in `application_name`.
const MARK: &str = "vestibule/";

/// The length of a session's id.
const ID_LENGTH: usize = 36;

/// pgaudit's word for a text that it wrote before (`pgaudit.log_statement_once`).
const BEFORE: &str = "<previously logged>";

/// pgaudit's word for a text that it was told not to write (`pgaudit.log_statement`).
const WITHHELD: &str = "<not logged>";

/// One statement that the server ran, as all of pgaudit's lines of it tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ran {
    /// When, as the server wrote it.
    pub(super) at: String,
    /// The same, microseconds since 1970 UTC.
    pub(super) at_us: i64,
    /// In which file its first line is, by number.
    pub(super) file: usize,
    /// Which line.
    pub(super) line: u64,
    /// The server's own id of the connection.
    pub(super) connection: String,
    /// The session that the connection's name told last.
    pub(super) mark: Option<String>,
    /// The role that logged in.
    pub(super) account: String,
    /// The database.
    pub(super) database: String,
    /// The client's address, without its port.
    pub(super) client: String,
    /// The statement's texts: its own first, then those of what it ran within.
    pub(super) texts: Vec<String>,
    /// The command's word, of its first line.
    pub(super) command: String,
    /// Whether its own line is missing: what was run within it is all that pgaudit was told to write.
    pub(super) is_inner: bool,
    /// Whether nothing else came on its connection.
    pub(super) is_last: bool,
}

/// One line of the log, in either form.
#[derive(Debug, Default)]
struct Line {
    at: String,
    account: String,
    database: String,
    client: String,
    connection: String,
    message: String,
    application: String,
}

/// What pgaudit says in one line.
#[derive(Debug, PartialEq, Eq)]
struct Audit {
    statement: u64,
    substatement: u64,
    command: String,
    text: String,
}

#[derive(Default)]
struct Connection {
    mark: Option<String>,
    open: Option<(u64, Ran)>,
}

/// Calls `each` with every statement of a log in several files, the oldest first, as soon as all of its lines were
/// read; the number of lines of pgaudit comes back. `offset_s` is how far the log's times are ahead of UTC where they
/// name a zone by letters.
pub(super) fn read(
    paths: &[PathBuf],
    offset_s: Option<i64>,
    each: &mut dyn FnMut(Ran) -> Result<()>,
) -> Result<u64> {
    let mut connections: HashMap<String, Connection> = HashMap::new();
    let mut audited = 0;
    for (file, path) in paths.iter().enumerate() {
        lines(path, &mut |number, line| {
            let connection = connections.entry(line.connection.clone()).or_default();
            if let Some(mark) = mark(&line.application) {
                connection.mark = Some(mark.to_owned());
            }
            if line.message.starts_with("disconnection: ") {
                let gone = connections.remove(&line.connection);
                return finish(gone, each);
            }
            let Some(said) = line.message.strip_prefix("AUDIT: ") else { return Ok(()) };
            audited += 1;
            connection.take(line.ran((file, number), offset_s)?, audit(said)?, each)
        })
        .with_context(|| path.display().to_string())?;
    }
    connections.into_values().try_for_each(|connection| finish(Some(connection), each))?;
    Ok(audited)
}

impl Line {
    fn ran(&self, (file, line): (usize, u64), offset_s: Option<i64>) -> Result<Ran> {
        Ok(Ran {
            at_us: unix_us(&self.at, offset_s)?,
            at: self.at.clone(),
            file,
            line,
            connection: self.connection.clone(),
            account: self.account.clone(),
            database: self.database.clone(),
            client: self.client.clone(),
            ..Ran::default()
        })
    }
}

impl Connection {
    /// Takes a line of pgaudit: of the statement that is open, or of the next.
    fn take(
        &mut self,
        ran: Ran,
        said: Audit,
        each: &mut dyn FnMut(Ran) -> Result<()>,
    ) -> Result<()> {
        if let Some((statement, open)) = &mut self.open {
            if *statement == said.statement {
                if !open.texts.contains(&said.text) && said.text != BEFORE {
                    open.texts.push(said.text);
                }
                return Ok(());
            }
            each(std::mem::take(open))?;
        }
        let ran = Ran {
            mark: self.mark.clone(),
            texts: vec![said.text],
            command: said.command,
            is_inner: said.substatement > 1,
            ..ran
        };
        self.open = Some((said.statement, ran));
        Ok(())
    }
}

fn finish(connection: Option<Connection>, each: &mut dyn FnMut(Ran) -> Result<()>) -> Result<()> {
    let Some((_, ran)) = connection.and_then(|connection| connection.open) else { return Ok(()) };
    each(Ran { is_last: true, ..ran })
}

/// The session's id at the end of a connection's name.
fn mark(application: &str) -> Option<&str> {
    let at = application.len().checked_sub(MARK.len() + ID_LENGTH)?;
    application.get(at..)?.strip_prefix(MARK).filter(|id| {
        let is_place = |at| matches!(at, 8 | 13 | 18 | 23);
        id.bytes()
            .enumerate()
            .all(|(at, byte)| if is_place(at) { byte == b'-' } else { byte.is_ascii_hexdigit() })
    })
}

/// Takes a message of pgaudit apart (pgaudit 1.7, "Format").
fn audit(said: &str) -> Result<Audit> {
    let mut reader =
        csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(said.as_bytes());
    let fields = reader.records().next().context("pgaudit's line is empty")??;
    let field =
        |at: usize| fields.get(at).with_context(|| format!("pgaudit's line has no field {at}"));
    let text = field(7)?.to_owned();
    ensure!(
        text != WITHHELD,
        "the server wrote no statements: set pgaudit.log_statement = on, what was logged so far can't be compared"
    );
    Ok(Audit {
        statement: field(1)?.parse().context("the statement's number")?,
        substatement: field(2)?.parse().context("the number within the statement")?,
        command: field(4)?.to_owned(),
        text,
    })
}

fn lines(path: &Path, each: &mut dyn FnMut(u64, Line) -> Result<()>) -> Result<()> {
    let file = BufReader::with_capacity(1 << 20, File::open(path)?);
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("csv") => csv_lines(file, each),
        Some("json") => json_lines(file, each),
        _ => bail!(
            "is neither csvlog (.csv) nor jsonlog (.json): set log_destination to one of them"
        ),
    }
}

/// Columns of csvlog (PostgreSQL documentation, "Using CSV-Format Log Output"): those that are gone by are where
/// they were since 9.0.
fn csv_lines(file: impl BufRead, each: &mut dyn FnMut(u64, Line) -> Result<()>) -> Result<()> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(file);
    let mut record = csv::StringRecord::new();
    loop {
        let number = reader.position().line();
        match reader.read_record(&mut record) {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(error) => return Err(error).with_context(|| format!("line {number}")),
        }
        if record.len() < COLUMNS {
            // The server is writing it.
            ensure!(!reader.read_record(&mut record)?, "line {number} is cut off or no csvlog");
            return Ok(());
        }
        let field = |at: usize| record.get(at).unwrap_or_default().to_owned();
        let client = field(4);
        let line = Line {
            at: field(0),
            account: field(1),
            database: field(2),
            client: client.rsplit_once(':').map_or(client.as_str(), |(host, _)| host).to_owned(),
            connection: field(5),
            message: field(13),
            application: field(22),
        };
        each(number, line).with_context(|| format!("line {number}"))?;
    }
}

/// Keys of jsonlog (PostgreSQL documentation, "Using JSON-Format Log Output").
fn json_lines(mut file: impl BufRead, each: &mut dyn FnMut(u64, Line) -> Result<()>) -> Result<()> {
    let mut text = Vec::new();
    for number in 1_u64.. {
        text.clear();
        let mut limited = std::io::Read::take(&mut file, LINE_BYTES_MAX);
        if limited.read_until(b'\n', &mut text)? == 0 {
            break;
        }
        if text.last() != Some(&b'\n') {
            ensure!(file.fill_buf()?.is_empty(), "line {number} is too long");
            // The server is writing it.
            break;
        }
        let value: Value =
            serde_json::from_slice(&text).with_context(|| format!("line {number}"))?;
        let field =
            |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let line = Line {
            at: field("timestamp"),
            account: field("user"),
            database: field("dbname"),
            client: field("remote_host"),
            connection: field("session_id"),
            message: field("message"),
            application: field("application_name"),
        };
        each(number, line).with_context(|| format!("line {number}"))?;
    }
    Ok(())
}

/// A time as PostgreSQL logs it (`2026-12-01 20:10:30.029 UTC`, `… +02`), microseconds since 1970 UTC.
fn unix_us(text: &str, offset_s: Option<i64>) -> Result<i64> {
    let parse = || {
        let mut parts = text.splitn(3, ' ');
        let (day, time, zone) = (parts.next()?, parts.next()?, parts.next()?);
        let (time, fraction) = time.split_once('.')?;
        let micros = 10_i64.pow(6_u32.checked_sub(u32::try_from(fraction.len()).ok()?)?);
        let fraction_us = fraction.parse::<i64>().ok()?.checked_mul(micros)?;
        Some((from_utc(&format!("{day}T{time}Z"))? + fraction_us, zone))
    };
    let (local_us, zone) = parse().with_context(|| format!("{text:?} is no time of a log"))?;
    let offset_s = match zone {
        "UTC" | "GMT" | "Etc/UTC" => Some(0),
        zone => numeric(zone).or(offset_s),
    };
    let offset_s = offset_s.with_context(|| {
        format!("say how far {zone} is from UTC: --utc-offset +01:00, or set log_timezone = 'UTC'")
    })?;
    Ok(local_us - offset_s * 1_000_000)
}

/// `+02`, `-03:30`, `+0530`: seconds ahead of UTC.
pub(super) fn numeric(zone: &str) -> Option<i64> {
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let digits: String = digits.chars().filter(|c| *c != ':').collect();
    let (hours, minutes) = match digits.len() {
        2 => (digits.as_str(), "0"),
        4 => digits.split_at(2),
        _ => return None,
    };
    let (hours, minutes) = (hours.parse::<i64>().ok()?, minutes.parse::<i64>().ok()?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_with_a_session_or_has_none() {
        let id = "019e2f8a-0000-7000-8000-00000000000f";
        assert_eq!(mark(&format!("psql vestibule/{id}")), Some(id));
        assert_eq!(mark(&format!("vestibule/{id}")), Some(id));
        assert_eq!(mark(&format!("vestibule/{id} ")), None);
        assert_eq!(mark(id), None);
        assert_eq!(mark("vestibule/019e2f8a"), None);
        assert_eq!(mark("vestibule/019e2f8a-0000-7000-8000-00000000000ü"), None);
    }

    #[test]
    fn times_of_logs_are_read_with_their_zone() {
        assert_eq!(unix_us("1970-01-02 00:00:01.5 UTC", None).unwrap(), 86_401_500_000);
        assert_eq!(unix_us("2026-12-01 20:10:30.029 UTC", None).unwrap(), 1_796_155_830_029_000);
        assert_eq!(
            unix_us("2026-12-01 22:10:30.029 +02", None).unwrap(),
            unix_us("2026-12-01 16:40:30.029 -0330", None).unwrap()
        );
        assert_eq!(
            unix_us("2026-12-01 21:10:30.029 CET", numeric("+01:00")).unwrap(),
            1_796_155_830_029_000
        );
        let error = unix_us("2026-12-01 21:10:30.029 CET", None).unwrap_err().to_string();
        assert!(error.contains("--utc-offset"), "{error}");
        for text in ["", "2026-12-01", "2026-12-01 21:10 UTC", "x-12-01 21:10:30.029 UTC"] {
            unix_us(text, None).unwrap_err();
        }
    }

    #[test]
    fn pgaudits_line_is_taken_apart() {
        let said = "SESSION,2,1,WRITE,INSERT,,,\"insert into t values (1,'x'),(2,'it''s \"\"q\"\"\nnl')\",<none>";
        let audit = audit(said).unwrap();
        assert_eq!((audit.statement, audit.substatement, &*audit.command), (2, 1, "INSERT"));
        assert_eq!(audit.text, "insert into t values (1,'x'),(2,'it''s \"q\"\nnl')");
        let withheld = super::audit("SESSION,1,1,READ,SELECT,,,<not logged>,<not logged>");
        assert!(withheld.unwrap_err().to_string().contains("pgaudit.log_statement"));
    }
}
