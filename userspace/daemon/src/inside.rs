//! Agents started inside agents: what comes to [`types::inside::DOOR`] is answered.
//!
//! Who asks is the kernel's word. The asking process keeps all that holds the outer agent (filter, namespaces,
//! user); the daemon alone moves it, once, into a cgroup of its own below the outer one's.

use std::fs;
use std::net::TcpStream as StdStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use identity::process::still_runs;
use proxy::door::LocalService;
use proxy::flows::Bytes;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tracing::debug;
use types::accepted::Accepted;
use types::control::{Level, Response};
use types::id::AgentName;
use types::inside::REQUEST_BYTES_MAX;
use types::principal::{Assurance, Principal, ProcessKey};
use types::secret::Secret;

use crate::desk::Desk;
use crate::keeper::Proven;
use crate::profile;

/// Requests that wait to be taken up, and that are answered at once: each costs a task and 17 KiB.
const WAITING_MAX: usize = 64;

/// How long the asking process may take to say what it wants.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);

/// Hands connections to the daemon's own thread.
#[derive(Debug)]
pub(crate) struct Inside(mpsc::Sender<Knock>);

/// One connection to the door.
#[derive(Debug)]
pub(crate) struct Knock {
    stream: StdStream,
    accepted: Accepted,
    principal: Principal,
}

/// What an agent asks for.
struct Asked {
    agent: AgentName,
    token: Option<Secret<String>>,
}

/// The inner agent's own token, if it has any.
enum Own {
    /// It was shown.
    Presented(Proven),
    /// It was had with the outer one's.
    Exchanged(Proven),
    /// It acts by the outer one's.
    None,
}

impl Inside {
    /// And where they come out.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Knock>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (Self(sender), receiver)
    }
}

impl LocalService for Inside {
    fn serve(&self, stream: StdStream, accepted: Accepted, principal: Principal) -> bool {
        self.0.try_send(Knock { stream, accepted, principal }).is_ok()
    }
}

/// Answers agents until the runtime ends.
pub(crate) async fn serve(mut knocks: mpsc::Receiver<Knock>, desk: Arc<Desk>) {
    let places = Arc::new(Semaphore::new(WAITING_MAX));
    while let Some(knock) = knocks.recv().await {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let desk = Arc::clone(&desk);
        tokio::task::spawn_local(async move {
            let cookie = knock.accepted.socket_cookie;
            let mut bytes = Bytes::default();
            if let Err(error) = client(knock, &desk, &mut bytes).await {
                debug!(%error, "a start inside an agent");
            }
            let door = &desk.door;
            if let Some(found) = door.flows.session_ended(cookie, bytes, door.clock.now()) {
                door.record_difference(&found);
            }
            drop(place);
        });
    }
}

async fn client(knock: Knock, desk: &Arc<Desk>, bytes: &mut Bytes) -> Result<()> {
    let Knock { stream, accepted, principal } = knock;
    let (read, mut write) = TcpStream::from_std(stream)?.into_split();
    let mut read = BufReader::new(read.take(REQUEST_BYTES_MAX as u64));
    let (mut name, mut token) = (String::new(), String::new());
    let said = async {
        bytes.sent += u64::try_from(read.read_line(&mut name).await?)?;
        bytes.sent += u64::try_from(read.read_line(&mut token).await?)?;
        anyhow::Ok(())
    };
    tokio::time::timeout(REQUEST_PATIENCE, said).await??;
    let token = Secret::new(token);
    let given = Secret::new(token.expose().trim_end().to_owned());
    let token = Some(given).filter(|token| !token.expose().is_empty());
    let response = match name.trim_end().parse::<AgentName>() {
        Ok(agent) => {
            let desk = Arc::clone(desk);
            let start = move || desk.start_inside(&accepted, &principal, &Asked { agent, token });
            tokio::task::spawn_blocking(start).await?
        }
        Err(_) => Err(anyhow::anyhow!("the first line names no agent")),
    };
    let response =
        response.unwrap_or_else(|error| Response::Failed { reason: format!("{error:#}") });
    let mut answer = serde_json::to_vec(&response)?;
    answer.push(b'\n');
    write.write_all(&answer).await?;
    bytes.received += u64::try_from(answer.len())?;
    Ok(())
}

impl Desk {
    /// An error where an agent may not start another; recorded.
    pub(crate) fn may_start(&self, outer: &AgentName, inner: &AgentName, tgid: u32) -> Result<()> {
        if profile::may_start(&self.agents.profiles, outer, inner) {
            return Ok(());
        }
        let reason = format!("`{outer}` may not start `{inner}`: no profile's `starts` says so");
        let detail = serde_json::json!({
            "agent": inner.as_str(), "what": { "tgid": tgid, "inside": outer.as_str() }, "reason": reason,
        });
        self.door.recorder.control("enrollment.refused", &detail.to_string())?;
        bail!(reason)
    }

    /// Makes the asking process another agent's, inside its own.
    fn start_inside(
        &self,
        accepted: &Accepted,
        principal: &Principal,
        asked: &Asked,
    ) -> Result<Response> {
        let (outer, process) = (accepted.enrolled, accepted.process.key);
        self.may_start(&principal.agent, &asked.agent, process.tgid)?;
        let profile = self.agents.profile(&asked.agent);
        let least = match profile.level {
            Some(Level::A1) => Assurance::A1,
            Some(Level::A2) => Assurance::A2,
            None => Assurance::A0,
        };
        ensure!(
            principal.assurance >= least,
            "profile `{}` asks for level {}, and the outer agent is held by less",
            profile.name,
            least.as_str()
        );
        let around = self.door.enrollments.get(outer).context("the outer agent is unknown")?;
        let own = match &asked.token {
            Some(token) => Own::Presented(self.keeper.presented(token)?),
            None => self.keeper.inside(&around)?.map_or(Own::None, Own::Exchanged),
        };
        let still = Still::new(process)?;
        let (path, enrollment) = self.agents.enroll_below(&asked.agent, Some(outer))?;
        match own {
            Own::Presented(proven) => self.keeper.bind_presented(&enrollment, proven)?,
            Own::Exchanged(proven) => self.keeper.bind_inside(&enrollment, &around, proven)?,
            Own::None => {}
        }
        ensure!(still.runs(), "the asking process has ended");
        self.agents.kernel.join(&path, process.tgid)?;
        ensure!(still.runs(), "the asking process has ended");
        Ok(self.enrolled(&path, &enrollment))
    }
}

/// A process whose number is no other's as long as it runs.
struct Still(OwnedFd);

impl Still {
    fn new(process: ProcessKey) -> Result<Self> {
        let pid = i32::try_from(process.tgid).ok().and_then(Pid::from_raw);
        let pid = pid.context("no process has that number")?;
        let held = pidfd_open(pid, PidfdFlags::empty()).context("the asking process has ended")?;
        // By now the number can't become another's unseen.
        ensure!(still_runs(process), "the asking process has ended");
        Ok(Self(held))
    }

    /// Once a process has ended and was waited for, and its number may become another's, its pidfd's is -1
    /// (pidfd_open(2), proc_pid_fdinfo(5)).
    fn runs(&self) -> bool {
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", self.0.as_raw_fd()));
        info.is_ok_and(|info| {
            info.lines().any(|line| line.starts_with("Pid:") && !line.ends_with("-1"))
        })
    }
}
