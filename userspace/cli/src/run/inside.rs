//! `vestibule run` inside an agent: all that holds that one holds what it starts; the daemon gives it its name.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use types::control::Response;
use types::inside::{DOOR, REQUEST_BYTES_MAX};
use types::secret::Secret;

use super::{Args, PATIENCE};
use crate::whom;

/// How long the door may take to open: it is on this host.
const DOOR_PATIENCE: Duration = Duration::from_secs(5);

/// The door, where this process is an agent's and no control socket is to be had.
pub(super) fn door(control: &Path) -> Option<TcpStream> {
    if UnixStream::connect(control).is_ok() {
        return None;
    }
    TcpStream::connect_timeout(&SocketAddr::V4(DOOR), DOOR_PATIENCE).ok()
}

/// Has this process become another agent's; answers what the daemon says of it.
pub(super) fn start(mut door: TcpStream, args: &Args) -> Result<Response> {
    let whom::Args { token_file, identity, owner } = &args.whom;
    if args.user.is_some() || args.group.is_some() || identity.is_some() || owner.is_some() {
        bail!("inside an agent, --user, --group, --as and --owner are the outer one's");
    }
    let token = match token_file {
        Some(file) => read_token(file).with_context(|| format!("{}", file.display()))?,
        None => Secret::new(String::new()),
    };
    let (agent, token) = (args.agent.as_str(), token.expose().trim());
    let request = Secret::new(format!("{agent}\n{token}\n"));
    door.set_read_timeout(Some(PATIENCE))?;
    door.write_all(request.expose().as_bytes()).context("the daemon closed the door")?;
    let mut answer = String::new();
    BufReader::new(door.take(ANSWER_BYTES_MAX))
        .read_line(&mut answer)
        .context("the daemon did not answer in time")?;
    match serde_json::from_str(&answer).context("the daemon's answer is not understood")? {
        Response::Failed { reason } => bail!("{reason}"),
        response => Ok(response),
    }
}

fn read_token(file: &Path) -> Result<Secret<String>> {
    let mut text = Secret::new(String::new());
    let most = u64::try_from(REQUEST_BYTES_MAX)?;
    text.expose_mut(|text| File::open(file)?.take(most).read_to_string(text))?;
    Ok(text)
}

/// An answer: a path, a profile.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;
