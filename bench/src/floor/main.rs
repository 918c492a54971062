//! The least that a proxy does which keeps our promise: no byte of a response goes down before a
//! record of its command is on the disk. It reads no protocol, decides nothing and masks nothing.
//! What vestibule costs beyond it is vestibule's; what this costs beyond other proxies is the disk's.
//!
//! One thread. Whatever came in one look at the sockets goes up at once and shares one durable write, made as
//! the journal makes it; answers wait for that. The record has the size of vestibule's own.

mod socket;

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use journal::disk::{Disk, DiskFile, Os};
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Registry, Token};

use self::socket::{Socket, Tls};

/// Relay to a server on this host, and record on the way.
#[derive(Parser)]
struct Cli {
    /// Where it listens.
    #[arg(long)]
    listen: u16,
    /// The server's port.
    #[arg(long)]
    server: u16,
    /// The file that takes the records; written over.
    #[arg(long)]
    journal: PathBuf,
    /// Bytes of a record.
    #[arg(long, default_value_t = 590)]
    record: usize,
    /// Speak TLS on both legs, by the certificates of this folder: `server.crt`, `server.key`, `bank.crt`.
    #[arg(long)]
    tls: Option<PathBuf>,
}

fn main() -> Result<()> {
    Floor::start(&Cli::parse())?.run()
}

const LISTENER: Token = Token(0);

struct Floor {
    poll: Poll,
    listener: TcpListener,
    server: SocketAddr,
    /// Connections by number; their two sockets have twice that and one more as tokens.
    connections: HashMap<usize, Connection>,
    next: usize,
    tls: Option<Tls>,
    journal: Journal,
    buffer: Vec<u8>,
}

struct Connection {
    /// The client's and the server's.
    sockets: [Socket; 2],
    /// What the journal must have reached before a byte goes down.
    after: u64,
    /// What waits for that.
    held: Vec<u8>,
}

impl Floor {
    fn start(cli: &Cli) -> Result<Self> {
        let poll = Poll::new().context("no poll")?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, cli.listen));
        let mut listener = TcpListener::bind(address).context("cannot listen")?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            listener,
            server: SocketAddr::from((Ipv4Addr::LOCALHOST, cli.server)),
            connections: HashMap::new(),
            next: 1,
            tls: cli.tls.as_deref().map(Tls::read).transpose()?,
            journal: Journal::create(cli)?,
            buffer: vec![0; 64 * 1024],
        })
    }

    fn run(mut self) -> Result<()> {
        let mut events = Events::with_capacity(256);
        loop {
            self.poll.poll(&mut events, None)?;
            self.take(&events)?;
            // As long as a look brings more for the same trip to the disk.
            while self.journal.waits() {
                let gathered = self.journal.appended;
                self.poll.poll(&mut events, Some(Duration::ZERO))?;
                self.take(&events)?;
                if self.journal.appended == gathered {
                    self.journal.commit()?;
                    self.release()?;
                }
            }
        }
    }

    fn take(&mut self, events: &Events) -> Result<()> {
        for event in events {
            if event.token() == LISTENER {
                self.accept()?;
                continue;
            }
            let (number, side) = (event.token().0 / 2, event.token().0 % 2);
            let Some(connection) = self.connections.get_mut(&number) else { continue };
            if !connection.carry(side, &mut self.journal, &mut self.buffer)? {
                self.connections.remove(&number);
            }
        }
        Ok(())
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let client = match self.listener.accept() {
                Ok((client, _)) => client,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("cannot accept"),
            };
            // Somebody who only looks whether it listens says nothing.
            let Ok(client) = Socket::of_client(client.into(), self.tls.as_ref()) else { continue };
            let mut sockets = [client, Socket::of_server(self.server, self.tls.as_ref())?];
            for (side, socket) in sockets.iter_mut().enumerate() {
                socket.stream().set_nodelay(true)?;
                watch(self.poll.registry(), socket.stream(), Token(2 * self.next + side))?;
            }
            let mut connection = Connection { sockets, after: 0, held: Vec::new() };
            // What came with the end of the handshake has left the socket already.
            if connection.carry(0, &mut self.journal, &mut self.buffer)? {
                self.connections.insert(self.next, connection);
            }
            self.next += 1;
        }
    }

    /// Sends down what is on the disk now.
    fn release(&mut self) -> Result<()> {
        for connection in self.connections.values_mut() {
            if !connection.held.is_empty() && connection.after <= self.journal.durable {
                let [client, _] = &mut connection.sockets;
                send(client, &connection.held)?;
                connection.held.clear();
            }
        }
        Ok(())
    }
}

fn watch(registry: &Registry, socket: &mut mio::net::TcpStream, token: Token) -> Result<()> {
    registry.register(socket, token, Interest::READABLE).context("cannot watch a socket")
}

impl Connection {
    /// Carries what came from one side; false once that has ended.
    fn carry(&mut self, side: usize, journal: &mut Journal, buffer: &mut [u8]) -> Result<bool> {
        let [client, server] = &mut self.sockets;
        loop {
            let from = if side == 0 { &mut *client } else { &mut *server };
            let count = match from.read(buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(false),
                Err(error) => return Err(error).context("cannot read"),
            };
            let came = buffer.get(..count).unwrap_or_default();
            if side == 0 {
                self.after = journal.append();
                send(server, came)?;
            } else if self.after <= journal.durable {
                send(client, came)?;
            } else {
                self.held.extend_from_slice(came);
            }
            // epoll(7): a stream that gave less than it was asked for is empty.
            if count < buffer.len() {
                return Ok(true);
            }
        }
    }
}

/// Small messages only: a socket that is full ends the run.
fn send(to: &mut Socket, bytes: &[u8]) -> Result<()> {
    match to.write(bytes) {
        Ok(count) if count == bytes.len() => Ok(()),
        Ok(_) => bail!("a peer does not read"),
        Err(error)
            if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) =>
        {
            Ok(())
        }
        Err(error) => Err(error).context("cannot write"),
    }
}

/// A file of zeros on the disk, so that a sync has nothing to say of the inode; written round and
/// round, a block's rest with zeros.
struct Journal {
    file: Box<dyn DiskFile>,
    record: Vec<u8>,
    batch: Vec<u8>,
    offset: u64,
    /// Records so far, and those on the disk.
    appended: u64,
    durable: u64,
}

const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;

impl Journal {
    fn create(cli: &Cli) -> Result<Self> {
        let file = Os.create(&cli.journal, JOURNAL_BYTES).context("the journal")?;
        let zeros = vec![0; 1024 * 1024];
        for megabyte in 0..JOURNAL_BYTES / 1024 / 1024 {
            file.write_all_at(&zeros, megabyte * 1024 * 1024).context("the journal")?;
        }
        file.sync_all().context("the journal")?;
        let record = vec![b'r'; cli.record];
        Ok(Self { file, record, batch: Vec::new(), offset: 0, appended: 0, durable: 0 })
    }

    fn append(&mut self) -> u64 {
        self.batch.extend_from_slice(&self.record);
        self.appended += 1;
        self.appended
    }

    fn waits(&self) -> bool {
        self.durable < self.appended
    }

    fn commit(&mut self) -> Result<()> {
        let bytes = u64::try_from(self.batch.len())?;
        if self.offset + bytes > JOURNAL_BYTES {
            self.offset = 0;
        }
        self.file.write_durable([&self.batch, &[]], self.offset).context("the journal")?;
        self.offset += bytes;
        self.batch.clear();
        self.durable = self.appended;
        Ok(())
    }
}
