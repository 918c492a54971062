//! What comes before a session: who encrypts which leg. Here for PostgreSQL, for HTTP in [`http`].
//!
//! An agent's request for TLS is put to the server first, and answered as the server answered: an
//! agent that insists on TLS is never served over a leg without it. The two handshakes are ours;
//! towards the agent with a certificate for the name that it asked for, towards the server with all
//! the verification that the target's configuration asks for (`tls::target`).
//!
//! None of it is a command: it goes without waiting for a record. What came of it is in the session's,
//! which is written where the agent only asks and leaves as well.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use ca::{Name, end_point};
use proto::postgres::{CancelKey, EncryptionRequest, Leg as Posture, Transport, fatal_error};
use proto::session::Transmit;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client;
use tokio_rustls::rustls::ProtocolVersion;
use tracing::debug;
use types::accepted::Accepted;
use types::addr::OrigDst;
use types::hex::hex;
use types::limits::STARTUP_BYTES_MAX;
use types::principal::Principal;
use types::target::{Target, Tls};

use crate::admit::dial_from;
use crate::cancels::Way;
use crate::door::Door;
use crate::flows::Bytes;
use crate::ledger::Ledger;
use crate::leg::{Leg, Stream};
use crate::targets::{Protocol, TargetRule};
use crate::tls::{AcceptError, Counted, TargetTls, When};

mod http;

pub(crate) use self::http::open_http;

/// How long all of it may take: what PostgreSQL gives a client to log in (`authentication_timeout`).
const PATIENCE: Duration = Duration::from_mins(1);

/// The first byte of TLS without a request for it: a handshake record (RFC 8446 §5.1).
const HANDSHAKE: u8 = 0x16;

/// Two legs over which a session can begin.
pub(crate) struct Opened {
    pub(crate) agent: Stream,
    pub(crate) server: Stream,
    pub(crate) transport: Transport,
    /// How the server is reached.
    pub(crate) way: Way,
    /// What the agent said first, already read.
    pub(crate) first: Vec<u8>,
    /// The server's end, if it is encrypted.
    pub(crate) tls: Option<Tls>,
    /// The name by which the agent called the server, if it gave one.
    pub(crate) host: Option<Arc<str>>,
}

/// Why no session begins; the agent is told over what it has, if it has anything.
pub(crate) struct NotOpened {
    pub(crate) why: Why,
    pub(crate) agent: Option<Stream>,
}

/// Why no session begins. None of it holds anything secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Why {
    /// The agent closed, or said nothing.
    #[error("the agent was lost before the session began: {0}")]
    Agent(io::Error),
    /// Whoever stands between may have put them there (CVE-2021-23214).
    #[error("bytes behind a request for encryption, before its answer")]
    Stuffed,
    /// Direct TLS without ALPN (PostgreSQL 17).
    #[error("direct TLS must name the protocol `postgresql` (ALPN)")]
    NoAlpn,
    /// What the agent calls the server is not the target that policy sees.
    #[error("`{0}` is no name of this target")]
    WrongName(String),
    /// No certificate, or the agent did not like it.
    #[error("TLS towards the agent failed: {0}")]
    Accept(#[from] AcceptError),
    /// There is no certificate to show to agents.
    #[error("agents are not offered TLS on this host")]
    NotTaken,
    /// The server has no TLS, and the agent or the configuration want it.
    #[error("the target does not offer TLS")]
    NotOffered,
    /// The server's certificate or handshake is no good.
    #[error("TLS towards the target failed: {0}")]
    Connect(io::Error),
    /// The server answered nothing that makes sense, or was lost.
    #[error("the target was lost before the session began: {0}")]
    Server(io::Error),
    /// It took too long.
    #[error("the session did not begin within {} s", PATIENCE.as_secs())]
    Late,
}

impl Why {
    /// The word in records.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Agent(_) => "agent_lost",
            Self::Stuffed => "stuffed",
            Self::NoAlpn => "no_alpn",
            Self::WrongName(_) => "wrong_name",
            Self::Accept(_) => "agent_tls",
            Self::NotTaken => "no_agent_tls",
            Self::NotOffered => "target_without_tls",
            Self::Connect(_) => "target_tls",
            Self::Server(_) => "target_lost",
            Self::Late => "late",
        }
    }
}

impl From<Why> for NotOpened {
    fn from(why: Why) -> Self {
        Self { why, agent: None }
    }
}

/// Brings both legs to where a session can begin.
pub(crate) async fn open(
    door: &Door,
    (principal, target): (&Principal, &Target),
    (rule, names): (&TargetRule, &[Arc<str>]),
    agent: TcpStream,
    server: TcpStream,
) -> Result<Opened, NotOpened> {
    let preface = Preface { door, principal, target, rule, names };
    let opening = Box::pin(preface.open(agent, server));
    tokio::time::timeout(PATIENCE, opening).await.unwrap_or_else(|_| Err(Why::Late.into()))
}

struct Preface<'p> {
    door: &'p Door,
    principal: &'p Principal,
    target: &'p Target,
    rule: &'p TargetRule,
    names: &'p [Arc<str>],
}

/// Ends a session that did not begin: recorded, and the agent is told where it can be.
pub(crate) async fn refuse(
    door: &Door,
    protocol: Protocol,
    mut ledger: Ledger<'_>,
    refused: NotOpened,
) {
    let NotOpened { why, agent } = refused;
    let now = door.clock.now();
    ledger.not_begun(why.word(), &why.to_string(), now);
    let Some(agent) = agent else {
        // What it sent and was answered was no session's.
        return ledger.close(why.word(), Bytes::unread(usize::MAX), now);
    };
    let mut leg = Leg::new(agent);
    let told = match protocol {
        Protocol::Postgresql => fatal_error(*b"08006", &format!("vestibule: {why}")),
        Protocol::Http => crate::http::raw(502, &why.to_string()),
    };
    let telling = tokio::time::timeout(TELLING, tell(&mut leg, &told)).await;
    debug!(?telling, "the agent was told");
    let carried = Bytes { sent: leg.came(), received: leg.written() };
    ledger.close(why.word(), carried, door.clock.now());
}

/// Connects to a server that is reached by `way`, for something of our own.
pub(crate) async fn reach(
    door: &Arc<Door>,
    (netns_cookie, addr): (Option<u64>, SocketAddr),
    way: &Way,
) -> Result<(Stream, Posture), Why> {
    let server = Wire::new(dial_from(door, netns_cookie, addr).await.map_err(Why::Server)?);
    Ok(match way {
        Way::Plain => (Stream::Plain(server.counted()), Posture::Plain),
        Way::Tls(rules, name) => {
            let server = secure(rules, server, name).await?;
            let posture = posture(&server);
            (Stream::Target(Box::new(server)), posture)
        }
    })
}

/// What binds an authentication to a server's leg.
fn posture(server: &client::TlsStream<Counted>) -> Posture {
    let certificate = server.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    Posture::Tls { end_point: certificate.and_then(|der| end_point(der)) }
}

/// Sends a cancel request of our own to a server that is reached by `way`, on a connection of its own,
/// and waits until the server closes it: whatever it cancels is signalled by then.
pub(crate) async fn cancel(
    door: &Arc<Door>,
    accepted: &Accepted,
    way: &Way,
    request: &[u8],
) -> Result<(), Why> {
    let from = (Some(accepted.netns_cookie), accepted.orig_dst.0);
    let (server, _) = reach(door, from, way).await?;
    let mut leg = Leg::new(server);
    let mut transmit = Transmit::default();
    transmit.buffer().extend_from_slice(request);
    while !transmit.is_empty() {
        poll_fn(|cx| leg.poll_write(cx, &mut transmit)).await.map_err(Why::Server)?;
    }
    poll_fn(|cx| leg.poll_flush(cx)).await.map_err(Why::Server)?;
    let mut buffer = [0; 1];
    // A reset is an end as well.
    let end = poll_fn(|cx| leg.poll_read(cx, &mut buffer).map_ok(drop)).await;
    debug!(?end, "a statement over its limit was cancelled");
    Ok(())
}

/// How long an agent may take to be told.
const TELLING: Duration = Duration::from_secs(5);

/// Says it behind the agent's first packet: with bytes unread, the socket's end would be a reset,
/// which overtakes what was said.
async fn tell(leg: &mut Leg, told: &[u8]) -> io::Result<()> {
    let mut buffer = vec![0; STARTUP_BYTES_MAX];
    poll_fn(|cx| leg.poll_read(cx, &mut buffer).map_ok(drop)).await?;
    let mut transmit = Transmit::default();
    transmit.buffer().extend_from_slice(told);
    while !transmit.is_empty() {
        poll_fn(|cx| leg.poll_write(cx, &mut transmit)).await?;
    }
    poll_fn(|cx| leg.poll_flush(cx)).await?;
    poll_fn(|cx| leg.poll_shutdown(cx)).await
}

/// What the agent wants.
enum Wanted {
    Plain(Vec<u8>),
    Tls { direct: bool },
}

impl Preface<'_> {
    async fn open(&self, agent: TcpStream, server: TcpStream) -> Result<Opened, NotOpened> {
        let (mut agent, mut server) = (Wire::new(agent), Wire::new(server));
        let tls = &self.rule.tls;
        let is_offered = self.door.tls.is_offered() && tls.when() != When::Never;
        let wanted = if is_offered {
            wanted(&mut agent, &mut server).await?
        } else {
            Wanted::Plain(Vec::new())
        };
        let mut first = match wanted {
            Wanted::Plain(first) => first,
            Wanted::Tls { direct } => return self.both(agent, server, direct).await,
        };
        let way = match self.cancelled(&mut agent, &mut first).await? {
            Some(way) => way,
            None if tls.when() == When::Always => Way::Tls(tls.clone(), self.known_as()),
            None => Way::Plain,
        };
        let Way::Tls(rules, name) = &way else {
            return Ok(Opened {
                agent: Stream::Plain(agent.counted()),
                server: Stream::Plain(server.counted()),
                transport: Transport::default(),
                way,
                first,
                tls: None,
                host: None,
            });
        };
        let secured = secure(rules, server, name).await;
        let agent = Stream::Plain(agent.counted());
        match secured {
            Ok(server) => Ok(opened((agent, Posture::Plain), (server, way), first, None)),
            Err(why) => Err(NotOpened { why, agent: Some(agent) }),
        }
    }

    /// The way of the session that a cancel request names: its key goes to the server as the session
    /// went. Clients cancel in clear what is inside TLS (libpq's PQcancel in every version).
    async fn cancelled(&self, agent: &mut Wire, first: &mut Vec<u8>) -> Result<Option<Way>, Why> {
        let head = first.as_slice().try_into().ok();
        let Some(length) = head.and_then(CancelKey::request_length) else { return Ok(None) };
        let head = first.len();
        first.resize(length, 0);
        let rest = first.get_mut(head..).unwrap_or_default();
        let read = agent.fill(rest).await.map_err(Why::Agent)?;
        first.truncate(head + read);
        let Some(key) = CancelKey::of_request(first) else { return Ok(None) };
        // Of what is refused nothing goes up; the session says so.
        let found = self.door.cancels.find(self.target.addr, &key, self.principal);
        Ok(found.ok().map(|found| found.way.clone()))
    }

    /// The agent's hello tells the server's name; then the server's handshake, then the agent's.
    async fn both(&self, agent: Wire, server: Wire, direct: bool) -> Result<Opened, NotOpened> {
        let tls = &self.door.tls;
        let offer = tls.hear(agent.counted()).await.map_err(Why::Agent)?;
        if direct && !offer.names_postgresql() {
            return Err(Why::NoAlpn.into());
        }
        let host: Option<Arc<str>> = offer.server_name().map(Into::into);
        let is_wrong = host.as_ref().is_some_and(|host| !self.is_target(host));
        let name = host.clone().unwrap_or_else(|| self.known_as());
        let server = if is_wrong {
            Err(Why::WrongName(name.to_string()))
        } else {
            secure(&self.rule.tls, server, &name).await
        };
        let now = UNIX_EPOCH + Duration::from_micros(self.door.clock.now().unix_us.unsigned_abs());
        let accepted =
            offer.accept(tls, &self.certified(host.as_deref()), now, Protocol::Postgresql).await;
        let (agent, leaf) = accepted.map_err(Why::Accept)?;
        let agent = Stream::Agent(Box::new(agent));
        match server {
            Ok(server) => {
                let posture = Posture::Tls { end_point: end_point(&leaf.certificate) };
                let way = Way::Tls(self.rule.tls.clone(), name);
                Ok(opened((agent, posture), (server, way), Vec::new(), host))
            }
            Err(why) => Err(NotOpened { why, agent: Some(agent) }),
        }
    }

    /// Whether the same target goes by this name: a server may choose what it serves by it.
    fn is_target(&self, host: &Arc<str>) -> bool {
        let name = std::slice::from_ref(host);
        let found = self.door.targets.find(self.target.addr, name);
        found.is_some_and(|(target, _)| target.name == self.target.name)
    }

    /// The name by which the agent knows the server, else its address.
    fn known_as(&self) -> Arc<str> {
        let OrigDst(address) = self.target.addr;
        let ip = || address.ip().to_canonical().to_string().into();
        self.target.host.as_ref().or_else(|| self.names.first()).cloned().unwrap_or_else(ip)
    }

    /// What the agent's certificate is for: every name by which it may know the server.
    fn certified(&self, host: Option<&str>) -> Vec<Name> {
        let OrigDst(address) = self.target.addr;
        let known = self.target.host.iter().chain(self.names).map(AsRef::as_ref);
        let mut names: Vec<Name> = Vec::new();
        let ip = Name::Ip(address.ip().to_canonical());
        for name in host.into_iter().chain(known).map(Name::new).chain([ip]) {
            if !names.contains(&name) && names.len() < NAMES_MAX {
                names.push(name);
            }
        }
        names
    }
}

/// Names in one certificate: as many as one address is remembered by, and its own two.
const NAMES_MAX: usize = 16;

fn opened(
    (agent, downstream): (Stream, Posture),
    (server, way): (client::TlsStream<Counted>, Way),
    first: Vec<u8>,
    host: Option<Arc<str>>,
) -> Opened {
    let (_, connection) = server.get_ref();
    let version = match connection.protocol_version() {
        Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
        Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "unknown",
    };
    let certificate = connection.peer_certificates().and_then(|chain| chain.first());
    let peer = certificate.map(|der| hex(&Sha256::digest(der))).unwrap_or_default();
    let tls = Some(Tls { version: version.into(), peer: peer.into() });
    let transport = Transport { downstream, upstream: posture(&server) };
    let server = Stream::Target(Box::new(server));
    Opened { agent, server, transport, way, first, tls, host }
}

/// Reads what the agent wants; requests for encryption are answered on the way, that for TLS as the
/// server answers it.
async fn wanted(agent: &mut Wire, server: &mut Wire) -> Result<Wanted, Why> {
    let mut asked = [false; 2];
    loop {
        if agent.peek().await.map_err(Why::Agent)? == Some(HANDSHAKE) {
            let offers = server.offers_tls().await?;
            return if offers { Ok(Wanted::Tls { direct: true }) } else { Err(Why::NotOffered) };
        }
        let mut first = [0; EncryptionRequest::BYTES];
        let read = agent.fill(&mut first).await.map_err(Why::Agent)?;
        let request = if read == first.len() { EncryptionRequest::read(first) } else { None };
        let seen = match request {
            Some(EncryptionRequest::Tls) => &mut asked[0],
            Some(EncryptionRequest::Gss) => &mut asked[1],
            None => return Ok(Wanted::Plain(first.get(..read).unwrap_or_default().to_vec())),
        };
        // Whoever asks twice is left to the session, which knows no such message.
        if std::mem::replace(seen, true) {
            return Ok(Wanted::Plain(first.to_vec()));
        }
        let is_yes = request == Some(EncryptionRequest::Tls) && server.offers_tls().await?;
        if agent.has_more() {
            return Err(Why::Stuffed);
        }
        agent.write(if is_yes { b"S" } else { b"N" }).await.map_err(Why::Agent)?;
        if is_yes {
            return Ok(Wanted::Tls { direct: false });
        }
    }
}

/// TLS towards the server, which may have been asked already.
async fn secure(
    tls: &TargetTls,
    mut server: Wire,
    name: &str,
) -> Result<client::TlsStream<Counted>, Why> {
    if !server.offers_tls().await? {
        return Err(Why::NotOffered);
    }
    tls.connect(server.counted(), name).await.map_err(Why::Connect)
}

/// A socket before it is a leg.
struct Wire {
    stream: TcpStream,
    read: u64,
    written: u64,
    /// What the server said to a request for TLS.
    offers_tls: Option<bool>,
}

impl Wire {
    fn new(stream: TcpStream) -> Self {
        Self { stream, read: 0, written: 0, offers_tls: None }
    }

    fn counted(self) -> Counted {
        Counted::new(self.stream, self.read, self.written)
    }

    /// The next byte, which stays; none at the end of the stream.
    async fn peek(&self) -> io::Result<Option<u8>> {
        let mut byte = [0];
        Ok((self.stream.peek(&mut byte).await? == 1).then_some(byte[0]))
    }

    /// Whether more has arrived.
    fn has_more(&self) -> bool {
        rustix::io::ioctl_fionread(&self.stream).is_ok_and(|count| count > 0)
    }

    /// Reads until the buffer is full or the stream ends; answers how much.
    async fn fill(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..)
            && !rest.is_empty()
        {
            let count = self.stream.read(rest).await?;
            if count == 0 {
                break;
            }
            filled += count;
            self.read += count as u64;
        }
        Ok(filled)
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Asks the server for TLS, once. Exactly one byte is read: what comes behind it belongs to TLS
    /// (CVE-2021-23222).
    async fn offers_tls(&mut self) -> Result<bool, Why> {
        if let Some(offers) = self.offers_tls {
            return Ok(offers);
        }
        self.write(&EncryptionRequest::TLS).await.map_err(Why::Server)?;
        let mut answer = [0];
        let read = self.fill(&mut answer).await.map_err(Why::Server)?;
        let offers = match (read, answer) {
            (1, [b'S']) => true,
            (1, [b'N']) => false,
            _ => return Err(Why::Server(io::ErrorKind::InvalidData.into())),
        };
        self.offers_tls = Some(offers);
        Ok(offers)
    }
}
