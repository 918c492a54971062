//! Asks a witness, with a limit on each wait.

use std::io::{self, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tlog::merkle::Hash;

use crate::http;
use crate::log::hash;

/// How long a connection and each read may take: a witness syncs one small file.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Why a witness gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The URL is not `http://HOST:PORT/…`.
    #[error("{0} is no http:// URL with a port")]
    Url(String),
    /// It could not be reached, or its answer is none.
    #[error("cannot be asked: {0}")]
    Io(#[from] io::Error),
    /// It refused.
    #[error("refused: {status} {text}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its words.
        text: String,
    },
}

/// What a witness says of a new checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// It cosigned: signature lines.
    Cosigned(String),
    /// It knows another size than was said.
    Knows(u64),
}

/// Has the witness at `url` cosign `note`, of which `proof` shows that it continues the tree of size `old`.
///
/// # Errors
/// If it can't be asked, or refuses.
pub fn add(url: &str, old: u64, proof: &[Hash], note: &str) -> Result<Added, AskError> {
    let lines: String = proof.iter().map(|hash| STANDARD.encode(hash) + "\n").collect();
    let body = format!("old {old}\n{lines}\n{note}");
    let (status, text) = ask(url, "POST", "add-checkpoint", &body)?;
    let known = text.trim_end().parse().ok();
    match (status, known) {
        (200, _) => Ok(Added::Cosigned(text)),
        (409, Some(size)) => Ok(Added::Knows(size)),
        _ => Err(refused(status, &text)),
    }
}

/// The newest checkpoint of the log `origin` that the witness at `url` cosigned; `None` where it has none.
///
/// # Errors
/// If it can't be asked, or refuses.
pub fn checkpoint(url: &str, origin: &str) -> Result<Option<String>, AskError> {
    match ask(url, "GET", &format!("{}/checkpoint", hash(origin)), "")? {
        (200, note) => Ok(Some(note)),
        (404, _) => Ok(None),
        (status, text) => Err(refused(status, &text)),
    }
}

fn refused(status: u16, text: &str) -> AskError {
    let text = text.chars().take(200).map(|c| if c.is_control() { ' ' } else { c }).collect();
    AskError::Refused { status, text }
}

fn ask(url: &str, method: &str, path: &str, body: &str) -> Result<(u16, String), AskError> {
    let wrong = || AskError::Url(url.to_owned());
    let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
    let (host, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_end_matches('/');
    let place = if prefix.is_empty() { format!("/{path}") } else { format!("/{prefix}/{path}") };
    let address = host.to_socket_addrs().map_err(|_| wrong())?.next().ok_or_else(wrong)?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(
        stream,
        "{method} {place} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let (head, text) = http::read(&mut stream, true)?;
    let status = head.first.0.parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok((status, text))
}
