//! Serves a witness over HTTP/1.1: `POST /add-checkpoint`, `GET /<origin hash>/checkpoint`.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::http;
use crate::log::{Answer, Witness};

/// Connections at once; further ones are closed. Each has a thread and up to 80 KiB.
const CONNECTIONS_MAX: usize = 64;

/// How long a peer may be silent.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Serves what comes, for as long as the process lives; `now_s` says the time, POSIX seconds.
///
/// # Errors
/// If connections can't be accepted any more.
pub fn serve(
    listener: &TcpListener,
    witness: &Witness,
    now_s: &(dyn Fn() -> u64 + Sync),
) -> io::Result<()> {
    let open = AtomicUsize::new(0);
    thread::scope(|scope| {
        for stream in listener.incoming() {
            let stream = stream?;
            if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let open = &open;
            scope.spawn(move || {
                if let Err(error) = answer(stream, witness, now_s) {
                    eprintln!("vestibule-witness: {error}");
                }
                open.fetch_sub(1, Ordering::Relaxed);
            });
        }
        Ok(())
    })
}

fn answer(
    mut stream: TcpStream,
    witness: &Witness,
    now_s: &(dyn Fn() -> u64 + Sync),
) -> io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let (head, body) = http::read(&mut stream, false)?;
    let (method, path) = (head.first.0.as_str(), head.first.1.as_str());
    let hash = path.strip_prefix('/').and_then(|path| path.strip_suffix("/checkpoint"));
    let plain = |status, body: &str| Answer {
        status,
        content_type: "text/plain; charset=utf-8",
        body: body.to_owned(),
    };
    let answer = match (method, path, hash) {
        ("POST", "/add-checkpoint", _) => witness.add(&body, now_s()),
        (_, "/add-checkpoint", _) => plain(405, "POST\n"),
        ("GET", _, Some(hash)) => witness.checkpoint(hash),
        _ => plain(404, "no such place\n"),
    };
    let Answer { status, content_type, body } = answer;
    write!(
        stream,
        "HTTP/1.1 {status} {}\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        reason(status),
        body.len()
    )?;
    stream.flush()
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        409 => "Conflict",
        422 => "Unprocessable Entity",
        _ => "Internal Server Error",
    }
}
