//! The first packet of a connection: StartupMessage, CancelRequest and requests for encryption.
//!
//! Packets here have a length and no tag (PostgreSQL documentation, "Message Formats").

use std::sync::Arc;

use types::command::{Access, Action, Analysis, Risk, Statement};
use types::limits::STARTUP_BYTES_MAX;

use super::cancel::{CancelKey, REQUEST_BYTES};
use super::names::NAME_BYTES;
use super::replication::Replication;
use crate::reader::Reader;

const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
pub(super) const CANCEL_REQUEST: u32 = 80_877_102;

/// What a session was opened with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// The database role.
    pub user: String,
    /// The database; the user's name where none is given.
    pub database: String,
    /// What the client calls itself; may be empty.
    pub application_name: String,
    /// Whether a replication session is asked for.
    pub replication: Replication,
    /// The `options` parameter as given; may be empty.
    pub options: String,
    /// The protocol version: major × 65,536 + minor.
    pub version: u32,
    /// What `options` and the other parameters set that changes privileges or how text is read.
    pub risks: Risk,
}

impl Startup {
    /// The statement that stands for the opening in policies and records.
    pub(super) fn statement(&self) -> Arc<Statement> {
        let mut accesses = vec![Access { action: Action::Connect, table: None }];
        if self.replication != Replication::No {
            accesses.push(Access { action: Action::Replicate, table: None });
        }
        if self.risks.contains(Risk::PRIVILEGE) {
            accesses.push(Access { action: Action::Privilege, table: None });
        }
        Arc::new(plain_statement("CONNECT", "", "CONNECT", accesses, self.risks))
    }
}

/// A first packet.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    /// SSLRequest.
    Ssl,
    /// GSSENCRequest.
    Gss,
    /// CancelRequest.
    Cancel(CancelKey),
    /// StartupMessage.
    Startup(Box<Startup>),
}

/// Why a first packet is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StartupError {
    #[error("TLS without a request for it, where none is offered")]
    Tls,
    #[error("startup packet of an impossible length")]
    Length,
    #[error("startup packet is malformed")]
    Malformed,
    #[error("unsupported protocol version")]
    Version,
    #[error("no user name in the startup packet")]
    NoUser,
    #[error("a startup parameter is given twice")]
    Duplicate,
}

impl StartupError {
    /// The fixed words for the record.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Tls => "TLS without a request for it, where none is offered",
            Self::Length => "startup packet of an impossible length",
            Self::Malformed => "startup packet is malformed",
            Self::Version => "unsupported protocol version",
            Self::NoUser => "no user name in the startup packet",
            Self::Duplicate => "a startup parameter is given twice",
        }
    }

    /// The SQLSTATE the server itself would send.
    pub(super) fn code(self) -> [u8; 5] {
        match self {
            Self::Version => *b"0A000",
            Self::NoUser => *b"28000",
            Self::Tls | Self::Length | Self::Malformed | Self::Duplicate => *b"08P01",
        }
    }
}

/// A request for encryption, which comes before anything else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncryptionRequest {
    /// SSLRequest: TLS.
    Tls,
    /// GSSENCRequest: GSSAPI.
    Gss,
}

impl EncryptionRequest {
    /// Bytes of such a request.
    pub const BYTES: usize = 8;

    /// SSLRequest on the wire.
    pub const TLS: [u8; Self::BYTES] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

    /// What the first bytes of a connection ask for, if encryption.
    pub fn read(bytes: [u8; Self::BYTES]) -> Option<Self> {
        match read(&bytes) {
            Ok(Some((Packet::Ssl, _))) => Some(Self::Tls),
            Ok(Some((Packet::Gss, _))) => Some(Self::Gss),
            _ => None,
        }
    }
}

/// The packet `bytes` start with, and its length; `None` where it is not all here.
pub(super) fn read(bytes: &[u8]) -> Result<Option<(Packet, usize)>, StartupError> {
    if bytes.first() == Some(&0x16) {
        return Err(StartupError::Tls);
    }
    let Some(length) = Reader::new(bytes).u32() else { return Ok(None) };
    let length = length as usize;
    if !(8..=STARTUP_BYTES_MAX).contains(&length) {
        return Err(StartupError::Length);
    }
    let Some(packet) = bytes.get(4..length) else { return Ok(None) };
    let mut reader = Reader::new(packet);
    let code = reader.u32().ok_or(StartupError::Malformed)?;
    let packet = match code {
        SSL_REQUEST if length == 8 => Packet::Ssl,
        GSSENC_REQUEST if length == 8 => Packet::Gss,
        CANCEL_REQUEST if REQUEST_BYTES.contains(&length) => {
            Packet::Cancel(CancelKey::read(reader).ok_or(StartupError::Malformed)?)
        }
        SSL_REQUEST | GSSENC_REQUEST | CANCEL_REQUEST => return Err(StartupError::Length),
        version if version >> 16 == 3 => Packet::Startup(Box::new(startup(version, reader)?)),
        _ => return Err(StartupError::Version),
    };
    Ok(Some((packet, length)))
}

fn startup(version: u32, mut reader: Reader<'_>) -> Result<Startup, StartupError> {
    let mut startup = Startup {
        user: String::new(),
        database: String::new(),
        application_name: String::new(),
        replication: Replication::No,
        options: String::new(),
        version,
        risks: Risk::empty(),
    };
    let mut seen: Vec<&[u8]> = Vec::new();
    loop {
        let key = reader.cstr().ok_or(StartupError::Malformed)?;
        if key.is_empty() {
            break;
        }
        let value = reader.cstr().ok_or(StartupError::Malformed)?;
        seen.push(key);
        let text = || String::from_utf8_lossy(value).into_owned();
        match key {
            b"user" => startup.user = text(),
            b"database" => startup.database = text(),
            b"replication" => startup.replication = Replication::of(value),
            b"options" => {
                startup.options = text();
                startup.risks |= options_risks(value);
            }
            _ => {
                if key == APPLICATION_NAME {
                    startup.application_name = text();
                }
                startup.risks |= setting_risks(key);
            }
        }
    }
    seen.sort_unstable();
    if seen.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
        return Err(StartupError::Duplicate);
    }
    if !reader.is_empty() {
        return Err(StartupError::Malformed);
    }
    if startup.user.is_empty() {
        return Err(StartupError::NoUser);
    }
    if startup.database.is_empty() {
        startup.database.clone_from(&startup.user);
    }
    Ok(startup)
}

/// A StartupMessage of our own, of protocol 3.0, with UTF-8 text (names and values hold no NUL).
pub fn startup_packet(user: &str, database: &str) -> Vec<u8> {
    let mut out = vec![0; 4];
    out.extend(0x0003_0000_u32.to_be_bytes());
    let parameters = [
        ("user", user),
        ("database", database),
        ("application_name", "vestibule"),
        ("client_encoding", "UTF8"),
    ];
    for text in parameters.iter().flat_map(|(name, value)| [name, value]) {
        out.extend(text.bytes().filter(|byte| *byte != 0));
        out.push(0);
    }
    out.push(0);
    super::message::patch_length(&mut out, 0);
    out
}

/// A StartupMessage that was read, for another role; all else as it is. The database that a server
/// takes where none is named is the role's: it is named now.
pub(super) fn for_account(packet: &[u8], account: &str) -> Vec<u8> {
    let mut out = vec![0; 4];
    let mut reader = Reader::new(packet.get(4..).unwrap_or_default());
    out.extend(reader.array::<4>().unwrap_or_default());
    let (mut user, mut has_database, mut replicates_all) = (&b""[..], false, false);
    while let (Some(key @ [_, ..]), Some(value)) = (reader.cstr(), reader.cstr()) {
        let value = match key {
            b"user" => {
                user = value;
                account.as_bytes()
            }
            b"database" if value.is_empty() => continue,
            _ => value,
        };
        has_database |= key == b"database";
        replicates_all |= key == b"replication" && Replication::of(value) == Replication::Physical;
        for text in [key, value] {
            out.extend_from_slice(text);
            out.push(0);
        }
    }
    if !has_database && !replicates_all {
        out.extend([b"database\0", user, b"\0"].concat());
    }
    out.push(0);
    super::message::patch_length(&mut out, 0);
    out
}

/// A StartupMessage that was read, whose `application_name` ends in `mark`: what stands there is cut so that the
/// server, which keeps [`NAME_BYTES`] of it, keeps all of the mark.
pub(super) fn marked(packet: &[u8], mark: &str) -> Vec<u8> {
    let mut out = packet.get(..8).unwrap_or_default().to_vec();
    let mut reader = Reader::new(packet.get(8..).unwrap_or_default());
    let mut name = &b""[..];
    while let (Some(key @ [_, ..]), Some(value)) = (reader.cstr(), reader.cstr()) {
        if key == APPLICATION_NAME {
            name = value;
            continue;
        }
        out.extend([key, b"\0", value, b"\0"].concat());
    }
    let room = NAME_BYTES.saturating_sub(mark.len() + 1);
    let kept = name.get(..room.min(name.len())).unwrap_or_default();
    let gap: &[u8] = if kept.is_empty() { b"" } else { b" " };
    out.extend([APPLICATION_NAME, b"\0", kept, gap, mark.as_bytes(), b"\0\0"].concat());
    super::message::patch_length(&mut out, 0);
    out
}

const APPLICATION_NAME: &[u8] = b"application_name";

/// The risks of an `options` value: the server's command line, split at white space that no
/// backslash escapes (`pg_split_opts`).
fn options_risks(options: &[u8]) -> Risk {
    let mut risks = Risk::empty();
    let words = split_options(options);
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let setting = match word.as_slice() {
            b"-c" => words.next().map(Vec::as_slice),
            [b'-', b'c' | b'-', rest @ ..] => Some(rest),
            // Another switch: not known, so it may do anything.
            _ => {
                risks |= Risk::OPAQUE;
                None
            }
        };
        let Some(setting) = setting else { continue };
        let name = setting.split(|byte| *byte == b'=').next().unwrap_or_default();
        // On the command line a dash in a name stands for an underscore.
        let name: Vec<u8> =
            name.iter().map(|byte| if *byte == b'-' { b'_' } else { *byte }).collect();
        risks |= setting_risks(&name);
    }
    risks
}

fn split_options(options: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word = Vec::new();
    let mut open = false;
    let mut bytes = options.iter().copied();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c => {
                if std::mem::take(&mut open) {
                    words.push(std::mem::take(&mut word));
                }
            }
            b'\\' => {
                open = true;
                word.extend(bytes.next());
            }
            other => {
                open = true;
                word.push(other);
            }
        }
    }
    if open {
        words.push(word);
    }
    words
}

/// What it means to set this parameter at the start of a session.
fn setting_risks(name: &[u8]) -> Risk {
    let name = name.to_ascii_lowercase();
    match name.as_slice() {
        b"role"
        | b"session_authorization"
        | b"session_replication_role"
        | b"session_preload_libraries"
        | b"local_preload_libraries" => Risk::PRIVILEGE,
        b"search_path"
        | b"standard_conforming_strings"
        | b"backslash_quote"
        | b"escape_string_warning" => Risk::REINTERPRETS,
        _ => Risk::empty(),
    }
}

/// A statement that is not SQL, or whose SQL is not known.
pub(super) fn plain_statement(
    verb: &'static str,
    text: &str,
    normalized: &str,
    accesses: Vec<Access>,
    risks: Risk,
) -> Statement {
    Statement::new(text, Analysis::new(verb, normalized, accesses, risks))
}

/// A statement of which nothing is known, so that policy refuses it.
pub(super) fn unknown_statement(text: &str) -> Arc<Statement> {
    let accesses = vec![Access { action: Action::Unknown, table: None }];
    Arc::new(plain_statement("UNKNOWN", text, "UNKNOWN", accesses, Risk::UNPARSED))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(version: u32, body: &[u8]) -> Vec<u8> {
        let mut packet = u32::try_from(body.len() + 8).unwrap().to_be_bytes().to_vec();
        packet.extend_from_slice(&version.to_be_bytes());
        packet.extend_from_slice(body);
        packet
    }

    #[test]
    fn an_applications_name_ends_in_the_mark() {
        let long =
            [&b"user\0a\0application_name\0"[..], &[b'x'; 80], b"\0database\0d\0\0"].concat();
        let mark = "vestibule/019e2f8a-0000-7000-8000-000000000001";
        for (body, name) in [
            (b"user\0a\0\0".as_slice(), mark.to_owned()),
            (b"application_name\0psql\0user\0a\0\0", format!("psql {mark}")),
            (&long, format!("{} {mark}", "x".repeat(16))),
        ] {
            let marked = marked(&packet(196_610, body), mark);
            let Ok(Some((Packet::Startup(read), bytes))) = read(&marked) else {
                panic!("{marked:?}")
            };
            assert_eq!((read.application_name, bytes), (name, marked.len()));
            assert_eq!((read.user.as_str(), read.version), ("a", 196_610));
        }
    }

    #[test]
    fn startup_packets() {
        let opened = |body: &[u8]| match read(&packet(196_608, body)) {
            Ok(Some((Packet::Startup(startup), _))) => Ok(startup),
            Err(error) => Err(error),
            other => panic!("{other:?}"),
        };
        let plain = opened(b"user\0bob\0\0").unwrap();
        assert_eq!((plain.user.as_str(), plain.database.as_str()), ("bob", "bob"));
        assert_eq!(plain.risks, Risk::empty());
        assert_eq!(opened(b"database\0x\0\0"), Err(StartupError::NoUser));
        assert_eq!(opened(b"user\0a\0user\0b\0\0"), Err(StartupError::Duplicate));
        assert_eq!(opened(b"user\0a\0"), Err(StartupError::Malformed));
        assert_eq!(opened(b"user\0a\0\0x"), Err(StartupError::Malformed));
        let kind = opened(b"user\0a\0replication\0database\0\0").unwrap().replication;
        assert_eq!(kind, Replication::Database);
        for (options, risks) in [
            (b"-c role=dba".as_slice(), Risk::PRIVILEGE),
            (b"-crole=dba", Risk::PRIVILEGE),
            (b"--search-path=x", Risk::REINTERPRETS),
            (br"-c\ role=x", Risk::empty()),
            (br"-c ro\le=x", Risk::PRIVILEGE),
            (b"-c geqo=off", Risk::empty()),
            (b"-f s", Risk::OPAQUE),
        ] {
            let mut body = b"user\0a\0options\0".to_vec();
            body.extend_from_slice(options);
            body.extend_from_slice(b"\0\0");
            let found = opened(&body).unwrap().risks;
            assert!(found.contains(risks), "{options:?}: {found:?}");
            assert!(risks != Risk::empty() || !found.contains(Risk::REINTERPRETS));
        }
    }

    #[test]
    fn lengths_and_versions() {
        assert!(matches!(read(&[0, 0, 0]), Ok(None)));
        for (bytes, error) in [
            (vec![0x16], StartupError::Tls),
            (10_001_u32.to_be_bytes().to_vec(), StartupError::Length),
            (7_u32.to_be_bytes().to_vec(), StartupError::Length),
            (packet(131_072, b"\0"), StartupError::Version),
            (packet(SSL_REQUEST, b"x"), StartupError::Length),
            (packet(CANCEL_REQUEST, &[0; 7]), StartupError::Length),
            (packet(CANCEL_REQUEST, &[0; 261]), StartupError::Length),
        ] {
            assert_eq!(read(&bytes).unwrap_err(), error, "{bytes:?}");
        }
        assert!(matches!(read(&packet(SSL_REQUEST, b"")), Ok(Some((Packet::Ssl, 8)))));
        for length in [8, 260] {
            let cancel = packet(CANCEL_REQUEST, &vec![7; length]);
            let Ok(Some((Packet::Cancel(key), _))) = read(&cancel) else { panic!("{length}") };
            assert_eq!((key.process, key.key.expose().len()), (0x0707_0707, length - 4));
        }
    }

    #[test]
    fn another_account_changes_nothing_else() {
        for (body, rewritten) in [
            (
                b"user\0bob\0database\0bank\0options\0-c x=y\0_pq_.z\0\0\0".as_slice(),
                b"user\0app\0database\0bank\0options\0-c x=y\0_pq_.z\0\0\0".as_slice(),
            ),
            (b"a\0b\0user\0bob\0\0", b"a\0b\0user\0app\0database\0bob\0\0"),
            (b"database\0\0user\0bob\0\0", b"user\0app\0database\0bob\0\0"),
            (b"user\0bob\0replication\0true\0\0", b"user\0app\0replication\0true\0\0"),
        ] {
            let found = for_account(&packet(0x0003_270f, body), "app");
            assert_eq!(found, packet(0x0003_270f, rewritten));
        }
    }
}
