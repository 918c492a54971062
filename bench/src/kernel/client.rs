//! The load: what clients do, and the server that answers them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What a client does, and so often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Load {
    /// Connects by TCP and closes.
    Connect,
    /// Sends a byte on one connection and waits for it to come back.
    Echo,
    /// Asks a DNS server by UDP and waits for the answer.
    Datagram,
    /// Sends by UDP where it may not.
    Refused,
    /// Starts a program and waits for its end.
    Process,
    /// Says something over TLS, from memory to memory: one write, one read.
    Tls,
}

impl Load {
    /// Answers its word in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Echo => "echo",
            Self::Datagram => "datagram",
            Self::Refused => "refused",
            Self::Process => "process",
            Self::Tls => "tls",
        }
    }
}

/// How it went.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Answer {
    /// Done, of those asked for.
    pub(crate) done: u64,
    /// All of it, in seconds.
    pub(crate) seconds: f64,
    /// One, in microseconds: the median.
    pub(crate) p50_us: f64,
    /// One, in microseconds: all but a hundredth.
    pub(crate) p99_us: f64,
}

/// Waits for a line, does it, and prints the answer.
#[expect(clippy::print_stdout, reason = "the answer goes to the parent")]
pub(crate) fn run(load: Load, port: u16, count: u32) -> Result<()> {
    let mut times = Vec::with_capacity(count as usize);
    let whole = now();
    let mut timed = |done: Result<bool>, from: Instant| -> Result<()> {
        if done? {
            times.push(from.elapsed());
        }
        Ok(())
    };
    let stream = if load == Load::Echo { Some(connect(port)?) } else { None };
    let sends = matches!(load, Load::Datagram | Load::Refused);
    let socket = sends.then(|| UdpSocket::bind("127.0.0.1:0")).transpose().context("bind")?;
    for _ in 0..count {
        let from = now();
        let done = match load {
            Load::Connect => connect(port).map(|_| true),
            Load::Echo => echo(stream.as_ref().context("it is connected")?).map(|()| true),
            Load::Datagram => Ok(ask(socket.as_ref()).is_ok()),
            Load::Refused => {
                Ok(socket.as_ref().is_some_and(|s| s.send_to(b"x", "127.0.0.2:443").is_err()))
            }
            Load::Process => start().map(|()| true),
            Load::Tls => anyhow::bail!("Python does that"),
        };
        timed(done, from)?;
    }
    let seconds = whole.elapsed().as_secs_f64();
    times.sort();
    let at = |part: usize| -> f64 {
        let time = times.get(times.len() * part / 100);
        time.map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    let done = times.len() as u64;
    let answer = Answer { done, seconds, p50_us: at(50), p99_us: at(99) };
    println!("{}", serde_json::to_string(&answer)?);
    Ok(())
}

/// Echoes what comes, one connection after the other, and answers datagrams on the same port.
pub(crate) fn serve(port: u16) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).context("the server's port")?;
    let socket = UdpSocket::bind(("127.0.0.1", port)).context("the server's datagram port")?;
    std::thread::spawn(move || {
        let mut datagram = [0; 512];
        while let Ok((size, from)) = socket.recv_from(&mut datagram) {
            drop(socket.send_to(datagram.get(..size).unwrap_or_default(), from));
        }
    });
    loop {
        let (mut stream, _) = listener.accept().context("accept")?;
        stream.set_nodelay(true)?;
        let mut byte = [0];
        while matches!(stream.read(&mut byte), Ok(1)) {
            if stream.write_all(&byte).is_err() {
                break;
            }
        }
    }
}

fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).context("connect")?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn echo(mut stream: &TcpStream) -> Result<()> {
    let mut byte = [7];
    stream.write_all(&byte)?;
    stream.read_exact(&mut byte)?;
    ensure!(byte == [7], "another byte came back");
    Ok(())
}

/// A datagram to a DNS server that does not exist: the kernel sends it to the daemon.
fn ask(socket: Option<&UdpSocket>) -> Result<()> {
    let socket = socket.context("no socket")?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    socket.send_to(b"question", "127.0.0.53:53")?;
    let mut answer = [0; 512];
    socket.recv_from(&mut answer)?;
    Ok(())
}

fn start() -> Result<()> {
    let status = Command::new("/bin/true").stdin(Stdio::null()).status().context("/bin/true")?;
    ensure!(status.success(), "/bin/true failed");
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "it measures time")]
fn now() -> Instant {
    Instant::now()
}
