//! Armed hooks with a slice of their own, two servers, an enrolled agent, and the taps.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use integration::port::Port;
use redirect::cost::Cost;
use redirect::tap::{SYSTEM_LIBRARIES, Tap};
use redirect::{Enrolled, Guard, Kernel, Options, Unix};
use serde::Serialize;

use crate::client::{Answer, Load};

/// Whose process a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Who {
    /// An enrolled agent's.
    Agent,
    /// Nobody's that concerns the programs.
    Outsider,
}

/// All of it; taken down when dropped.
pub(crate) struct Bed {
    pub(crate) kernel: Kernel,
    tap: Option<Tap>,
    slice: PathBuf,
    outside: PathBuf,
    agent: Enrolled,
    direct: Port,
    servers: Vec<Child>,
    directory: tempfile::TempDir,
}

impl Bed {
    /// Arms the hooks for a slice of this process, and moves this process into it.
    pub(crate) fn new() -> Result<Self> {
        let root = cgroup_root()?;
        let own = fs::read_to_string("/proc/self/cgroup").context("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).context("no cgroup v2")?;
        let outside = root.join(own);
        let slice = format!("vestibule-bench-{}", std::process::id());
        let (listener, direct) = (Port::take()?, Port::take()?);
        let kernel = Kernel::arm(Options {
            cgroup_root: None,
            slice: slice.clone(),
            pin_dir: Path::new("/sys/fs/bpf").join(&slice),
            listener_port: listener.number(),
            dns_port: listener.number(),
            guard: Guard::default(),
            unix: Unix::default(),
        })
        .context("the hooks can't be armed")?;
        let agent = kernel.enroll(&"bench".parse()?, "one", None).context("enrol")?;
        let slice = root.join(slice);
        let directory = tempfile::tempdir().context("a directory")?;
        certificate(directory.path())?;
        let mut bed = Self {
            kernel,
            tap: None,
            outside,
            agent,
            direct,
            servers: Vec::new(),
            directory,
            slice: slice.clone(),
        };
        bed.serve(&slice.join("proxy"), listener.number())?;
        let outside = bed.outside.clone();
        bed.serve(&outside, bed.direct.number())?;
        Ok(bed)
    }

    /// Attaches the taps, or takes them off.
    pub(crate) fn tap(&mut self, on: bool) -> Result<()> {
        self.tap = None;
        if on {
            let libraries = SYSTEM_LIBRARIES.map(PathBuf::from).into();
            let mut tap = self.kernel.tap(libraries).context("the taps")?;
            tap.scan(&self.kernel).context("libraries to tap")?;
            self.tap = Some(tap);
        }
        Ok(())
    }

    /// What every program cost so far.
    pub(crate) fn costs(&mut self) -> Result<Vec<Cost>> {
        let mut costs = self.kernel.costs().context("the programs' costs")?;
        if let Some(tap) = &mut self.tap {
            costs.extend(tap.costs().context("the taps' costs")?);
        }
        Ok(costs)
    }

    /// Runs a client; an agent's connects are redirected, an outsider's reach the same port's server.
    pub(crate) fn run(&mut self, who: Who, load: Load, count: u32) -> Result<Answer> {
        let cgroup = match who {
            Who::Agent => &self.agent.path,
            Who::Outsider => &self.outside,
        };
        let mut client = if load == Load::Tls {
            let mut python = within(cgroup, Path::new("python3"));
            python.args(["-c", TLS]).arg(self.directory.path().join("both.pem"));
            python.arg(count.to_string());
            python
        } else {
            let mut client = within(cgroup, &own_program()?);
            client.args(["client", load.name(), &self.direct.number().to_string()]);
            client.arg(count.to_string());
            client
        };
        let mut client = client.stdout(Stdio::piped()).spawn().context("a client")?;
        // As the daemon does, so that the taps find room.
        while client.try_wait().context("a client")?.is_none() {
            if let Some(tap) = &mut self.tap {
                tap.take(usize::MAX, |_| ());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let output = client.wait_with_output().context("a client")?;
        ensure!(output.status.success(), "{} by {who:?} failed: {}", load.name(), output.status);
        serde_json::from_slice(&output.stdout).context("a client's answer")
    }

    fn serve(&mut self, cgroup: &Path, port: u16) -> Result<()> {
        let mut server = within(cgroup, &own_program()?);
        self.servers.push(server.args(["server", &port.to_string()]).spawn().context("a server")?);
        for _ in 0..500 {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        anyhow::bail!("the server on port {port} does not answer")
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for server in &mut self.servers {
            drop(server.kill());
            drop(server.wait());
        }
        drop(fs::write(self.outside.join("cgroup.procs"), "0"));
        if let Err(error) = self.kernel.disarm() {
            eprintln!("{} stays armed: {error}", self.slice.display());
        }
    }
}

/// A TLS connection within one process, over memory; so many writes and reads.
const TLS: &str = "
import ssl,sys,time,json
a,b=ssl.MemoryBIO(),ssl.MemoryBIO()
c=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT);c.check_hostname=False;c.verify_mode=ssl.CERT_NONE
s=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER);s.load_cert_chain(sys.argv[1])
client,server=c.wrap_bio(a,b),s.wrap_bio(b,a,server_side=True)
done=set()
while len(done)<2:
    for end in (client,server):
        try: end.do_handshake();done.add(end)
        except ssl.SSLWantReadError: pass
n=int(sys.argv[2]);text=b'x'*200;times=[]
whole=time.perf_counter()
for _ in range(n):
    t=time.perf_counter();client.write(text);server.read(200);times.append(time.perf_counter()-t)
whole=time.perf_counter()-whole
times.sort()
print(json.dumps(dict(done=n,seconds=whole,p50_us=times[n//2]*1e6,p99_us=times[n*99//100]*1e6)))
";

/// A command that first moves into a cgroup.
fn within(cgroup: &Path, program: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]).arg(cgroup).arg(program);
    command.stdin(Stdio::null());
    command
}

fn own_program() -> Result<PathBuf> {
    std::env::current_exe().context("this program does not know where it is")
}

fn cgroup_root() -> Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("mountinfo")?;
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).context("no cgroup v2")?;
    line.split(' ').nth(4).map(PathBuf::from).context("mountinfo has five fields")
}

fn certificate(directory: &Path) -> Result<()> {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=bench"])
        .args(["-keyout", "key.pem", "-out", "certificate.pem"])
        .current_dir(directory)
        .stderr(Stdio::null())
        .status();
    ensure!(made.context("openssl")?.success(), "openssl made no certificate");
    let read = |name: &str| fs::read_to_string(directory.join(name)).context("a certificate");
    let both = read("key.pem")? + &read("certificate.pem")?;
    fs::write(directory.join("both.pem"), both).context("a certificate")
}
