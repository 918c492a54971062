//! A connection's two sockets, in plain text or both in TLS.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use mio::net::TcpStream;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
};

/// SSLRequest (PostgreSQL 18, "Message Formats"): its length and its number.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// The longest that a peer may take to agree on TLS.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// What it takes to speak TLS on both legs.
pub(crate) struct Tls {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Tls {
    /// Reads `NAME.crt`, `NAME.key` for the clients, and the authority `bank.crt` for the server.
    pub(crate) fn read(folder: &Path) -> Result<Self> {
        let read =
            |name: &str| CertificateDer::from_pem_file(folder.join(name)).context("a certificate");
        let key = PrivateKeyDer::from_pem_file(folder.join("server.key")).context("the key")?;
        let server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![read("server.crt")?], key)?;
        let mut roots = RootCertStore::empty();
        roots.add(read("bank.crt")?)?;
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Self { server: Arc::new(server), client: Arc::new(client) })
    }
}

/// One end of a connection.
pub(crate) enum Socket {
    Plain(TcpStream),
    Tls(Box<Connection>, TcpStream),
}

impl Socket {
    /// A client's, which asks for TLS where the floor speaks it; agrees on it before this returns.
    pub(crate) fn of_client(stream: std::net::TcpStream, tls: Option<&Tls>) -> Result<Self> {
        let Some(tls) = tls else { return Self::plain(stream) };
        let mut stream = stream;
        let mut asked = [0; 8];
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(HANDSHAKE_MAX))?;
        stream.read_exact(&mut asked).context("a client that asks for nothing")?;
        ensure!(asked == SSL_REQUEST, "a client wants no TLS");
        stream.write_all(b"S")?;
        Self::agree(stream, ServerConnection::new(Arc::clone(&tls.server))?.into())
    }

    /// The server's.
    pub(crate) fn of_server(server: SocketAddr, tls: Option<&Tls>) -> Result<Self> {
        let mut stream = std::net::TcpStream::connect(server).context("no server")?;
        let Some(tls) = tls else { return Self::plain(stream) };
        stream.write_all(&SSL_REQUEST)?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
        ensure!(answer == *b"S", "the server has no TLS");
        let name = ServerName::from(server.ip());
        Self::agree(stream, ClientConnection::new(Arc::clone(&tls.client), name)?.into())
    }

    fn plain(stream: std::net::TcpStream) -> Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self::Plain(TcpStream::from_std(stream)))
    }

    fn agree(mut stream: std::net::TcpStream, mut tls: Connection) -> Result<Self> {
        while tls.is_handshaking() {
            tls.complete_io(&mut stream).context("no agreement on TLS")?;
        }
        stream.set_nonblocking(true)?;
        Ok(Self::Tls(Box::new(tls), TcpStream::from_std(stream)))
    }

    /// What poll watches.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(stream) | Self::Tls(_, stream) => stream,
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(tls, stream) => loop {
                match tls.reader().read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    read => return read,
                }
                if tls.read_tls(stream)? == 0 {
                    return Ok(0);
                }
                tls.process_new_packets().map_err(io::Error::other)?;
            },
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(tls, stream) => {
                let count = tls.writer().write(bytes)?;
                while tls.wants_write() {
                    tls.write_tls(stream)?;
                }
                Ok(count)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) | Self::Tls(_, stream) => stream.flush(),
        }
    }
}
