//! An object store of one's own: moto's server, which serves S3's API with versions and object lock. And a way to it that
//! fails as often as it is told.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::paths;
use crate::port::Port;
use crate::process::{Running, run, wait_until};

/// A running store.
#[derive(Debug)]
pub struct Moto {
    server: Running,
    port: Port,
    directory: TempDir,
}

/// What lets in; moto asks nobody.
pub const CREDENTIALS: &str =
    "AWS_ACCESS_KEY_ID=tester\nAWS_SECRET_ACCESS_KEY=secret-of-a-store-that-is-gone-soon\n";

impl Moto {
    /// Starts one with nothing in it.
    ///
    /// # Errors
    /// If moto is not installed or does not start.
    pub fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("vestibule-moto-").tempdir()?;
        let port = Port::take()?;
        let log = File::create(directory.path().join("moto.log")).context("its log")?;
        let mut command = Command::new(paths::python());
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.number().to_string()]);
        command.stdin(Stdio::null()).stdout(log.try_clone().context("its log")?).stderr(log);
        let server = Running::new("moto", &mut command)?;
        let address = ("127.0.0.1", port.number());
        wait_until("moto answers", 60, || Ok(TcpStream::connect(address).is_ok()))?;
        Ok(Self { server, port, directory })
    }

    /// Answers its address.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// Makes a bucket, which locks objects where it is told to.
    ///
    /// # Errors
    /// If it is refused.
    pub fn bucket(&self, name: &str, locks: bool) -> Result<()> {
        let locks = if locks { "True" } else { "False" };
        self.boto(&format!("c.create_bucket(Bucket='{name}', ObjectLockEnabledForBucket={locks})"))
            .map(drop)
    }

    /// Runs statements of Python with `c`, boto3's client, at hand; answers what they print.
    ///
    /// # Errors
    /// With what it says, if that fails.
    pub fn boto(&self, statements: &str) -> Result<String> {
        let program = format!(
            "import boto3, json\nc = boto3.client('s3', endpoint_url='{}', region_name='us-east-1', \
             aws_access_key_id='tester', aws_secret_access_key='x')\n{statements}\n",
            self.endpoint()
        );
        run(Command::new(paths::python()).args(["-c", &program]), 60)?.ok()
    }

    /// A file of credentials for it.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn credentials(&self) -> Result<std::path::PathBuf> {
        let path = self.directory.path().join("credentials");
        std::fs::write(&path, CREDENTIALS)?;
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(path)
    }

    /// A way to it on which half of the requests fail; none by themselves where `seed` is 0.
    ///
    /// # Errors
    /// If there is no port.
    pub fn flaky(&self, seed: u64) -> Result<Flaky> {
        Flaky::start(self.port.number(), seed)
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.server.kill();
    }
}

/// A way to a store on which half of the requests fail: those before the store sees them, or after, or by its word.
#[derive(Debug)]
pub struct Flaky {
    port: Port,
    counts: Arc<Counts>,
}

/// What happened on the way.
#[derive(Debug, Default)]
struct Counts {
    requests: AtomicU64,
    failed: AtomicU64,
    is_calm: bool,
    is_down: AtomicBool,
    state: AtomicU64,
}

impl Flaky {
    fn start(store: u16, seed: u64) -> Result<Self> {
        let port = Port::take()?;
        let listener = TcpListener::bind(("127.0.0.1", port.number()))?;
        let counts = Arc::new(Counts {
            is_calm: seed == 0,
            state: AtomicU64::new(seed),
            ..Counts::default()
        });
        let own = Arc::clone(&counts);
        thread::spawn(move || {
            for agent in listener.incoming().flatten() {
                let counts = Arc::clone(&own);
                // A request that fails in the middle is what this is for.
                thread::spawn(move || drop(pass(&agent, store, &counts)));
            }
        });
        Ok(Self { port, counts })
    }

    /// Answers its address.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port.number())
    }

    /// Lets nothing through any more, or what it let through before.
    pub fn down(&self, is_down: bool) {
        self.counts.is_down.store(is_down, Ordering::SeqCst);
    }

    /// Answers how many requests there were, and how many of them it had fail.
    pub fn counts(&self) -> (u64, u64) {
        let Counts { requests, failed, .. } = &*self.counts;
        (requests.load(Ordering::SeqCst), failed.load(Ordering::SeqCst))
    }
}

impl Counts {
    /// The next number of a fixed sequence (splitmix64).
    fn next(&self) -> u64 {
        let mut z = self.state.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// One connection: one request, then it is closed, so that each request is a choice.
fn pass(agent: &TcpStream, store: u16, counts: &Counts) -> Result<()> {
    agent.set_read_timeout(Some(Duration::from_mins(1)))?;
    let mut request = Vec::new();
    let mut agent_in = agent;
    let mut chunk = vec![0; 64 * 1024];
    let body = loop {
        let count = agent_in.read(&mut chunk)?;
        if count == 0 {
            return Ok(());
        }
        request.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if let Some(at) = request.windows(4).position(|end| end == b"\r\n\r\n") {
            break at + 4;
        }
    };
    counts.requests.fetch_add(1, Ordering::SeqCst);
    let head = String::from_utf8_lossy(request.get(..body).unwrap_or_default()).into_owned();
    let length =
        header(&head, "content-length").and_then(|text| text.parse().ok()).unwrap_or(0_usize);
    let choice = counts.next();
    let fails =
        counts.is_down.load(Ordering::SeqCst) || (!counts.is_calm && choice.is_multiple_of(2));
    let how = (choice >> 8) % 3;
    if fails {
        counts.failed.fetch_add(1, Ordering::SeqCst);
    }
    if fails && (how == 0 || counts.is_down.load(Ordering::SeqCst)) {
        agent.shutdown(Shutdown::Both)?;
        return Ok(());
    }
    let mut rest = vec![0; (body + length).saturating_sub(request.len())];
    agent_in.read_exact(&mut rest)?;
    request.extend_from_slice(&rest);
    if fails && how == 1 {
        let mut agent = agent;
        agent.write_all(
            b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        )?;
        return Ok(());
    }
    let closing = head.trim_end_matches("\r\n").to_owned() + "\r\nconnection: close\r\n\r\n";
    let mut upstream = TcpStream::connect(("127.0.0.1", store))?;
    upstream.write_all(closing.as_bytes())?;
    upstream.write_all(request.get(body..).unwrap_or_default())?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
    if fails {
        // The store did it, and nobody hears of it.
        agent.shutdown(Shutdown::Both)?;
        return Ok(());
    }
    let mut agent = agent;
    agent.write_all(&answer)?;
    agent.shutdown(Shutdown::Both)?;
    Ok(())
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
