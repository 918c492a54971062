//! The control socket: root only, one JSON object a line.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};
use types::control::{Request, Response};

/// A request: a vote's reason of 1,000 bytes, each six in JSON at most, a path, and what is around them.
const REQUEST_BYTES_MAX: u64 = 12 * 1024;

/// Clients at once: launchers of agents and people; each costs a task of a few KiB.
const CLIENTS_MAX: usize = 256;

/// How long a client may take to say what it wants.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);

/// Who answers requests.
pub(crate) trait Answer {
    /// Completes when there is something to answer to `request`: at once but for who watches.
    fn wait<'a>(&'a self, _request: &'a Request) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
        Box::pin(std::future::ready(()))
    }

    /// The answer to `request` from the process `tgid`. May block: it runs off the loop's thread.
    fn answer(&self, request: &Request, tgid: u32) -> Response;

    /// Called once an answer was sent, or could not be.
    fn answered(&self) {}
}

/// Listens at `path`, which is made anew, mode 0600.
pub(crate) fn listen(path: &Path) -> Result<UnixListener> {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("{}", path.display())),
    }
    let listener = UnixListener::bind(path)
        .with_context(|| format!("no control socket at {}", path.display()))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers clients until the runtime ends.
pub(crate) async fn serve<A: Answer + Send + Sync + 'static>(
    listener: UnixListener,
    answer: Arc<A>,
) {
    let clients = Arc::new(Semaphore::new(CLIENTS_MAX));
    loop {
        let Ok(place) = Arc::clone(&clients).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let answer = Arc::clone(&answer);
                tokio::task::spawn_local(async move {
                    if let Err(error) = client(stream, answer).await {
                        debug!(%error, "control client");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "control socket");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn client<A: Answer + Send + Sync + 'static>(
    stream: UnixStream,
    answer: Arc<A>,
) -> Result<()> {
    let peer = stream.peer_cred()?;
    // The socket's mode says so already; a descriptor handed on does not carry root with it.
    anyhow::ensure!(peer.uid() == 0, "user {} is not root", peer.uid());
    let tgid = u32::try_from(peer.pid().context("the peer has no pid")?)?;
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut read = BufReader::new(read.take(REQUEST_BYTES_MAX));
    tokio::time::timeout(REQUEST_PATIENCE, read.read_line(&mut line)).await??;
    let answering = Arc::clone(&answer);
    let response = match serde_json::from_str::<Request>(&line) {
        Ok(request) => {
            answer.wait(&request).await;
            tokio::task::spawn_blocking(move || answering.answer(&request, tgid)).await?
        }
        Err(error) => {
            Response::Failed { reason: format!("the request is not understood: {error}") }
        }
    };
    let mut bytes = serde_json::to_vec(&response)?;
    bytes.push(b'\n');
    let written = write.write_all(&bytes).await;
    answer.answered();
    Ok(written?)
}
