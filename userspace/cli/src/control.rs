//! One request to the daemon, one answer.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use types::control::{Request, Response};

/// The daemon's answer to `request`; its refusal is an error.
pub(crate) fn ask(socket: &Path, request: &Request, patience: Duration) -> Result<Response> {
    let stream = UnixStream::connect(socket).with_context(|| {
        format!(
            "no daemon answers at {}; start vestibuled, or name its socket with --control",
            socket.display()
        )
    })?;
    stream.set_read_timeout(Some(patience))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    (&stream).write_all(&line).context("the daemon closed the control socket")?;
    let mut answer = String::new();
    BufReader::new((&stream).take(ANSWER_BYTES_MAX))
        .read_line(&mut answer)
        .context("the daemon did not answer in time")?;
    match serde_json::from_str(&answer).context("the daemon's answer is not understood")? {
        Response::Failed { reason } => bail!("{reason}"),
        response => Ok(response),
    }
}

/// Where the daemon's executable is: beside this one, where it is there, or as `PATH` has it.
pub(crate) fn program(daemon: &Path) -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(daemon)));
    beside.filter(|path| path.exists()).unwrap_or_else(|| daemon.to_owned())
}

/// An answer: 16,384 agents × about 100 B = 1.6 MiB, or 1,000 requests for approval × about 3 KiB = 3 MiB.
const ANSWER_BYTES_MAX: u64 = 8 * 1024 * 1024;
