//! Questions on a stream (RFC 7766): each behind its length of two bytes, answered in turn.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use types::accepted::Accepted;
use types::principal::Principal;

use crate::answer::Transport;
use crate::client::Client;
use crate::message::{QUESTION_BYTES_MAX, Question, Unfit};
use crate::server::Forwarder;

/// How long a client may be silent between questions, or take for one (RFC 7766 §6.2.3: seconds).
const IDLE: Duration = Duration::from_secs(10);

/// How long a client may take to read an answer of at most 64 KiB.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);

/// A connection that an agent made to a DNS server.
pub(crate) struct Connection {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) accepted: Accepted,
    pub(crate) principal: Principal,
}

/// Bytes of payload from and to an agent.
#[derive(Clone, Copy, Debug, Default)]
struct Bytes {
    sent: u64,
    received: u64,
}

/// Answers a connection until it ends. One question at a time: what is behind it waits in the
/// socket, so a client that pipelines is bounded by its own windows.
pub(crate) async fn serve(forwarder: Rc<Forwarder>, connection: Connection) {
    let Connection { stream, accepted, principal } = connection;
    let opened = Client::open(&accepted, principal, &forwarder.resources, &forwarder.ledger);
    let client = match opened {
        Ok(client) => client,
        Err(error) => return tracing::warn!(%error, "a connection for names can't be recorded"),
    };
    let mut bytes = Bytes::default();
    let reason = converse(&forwarder, &client, stream, &mut bytes).await.unwrap_or("client");
    forwarder.ledger.close(client.session, reason);
    let Bytes { sent, received } = bytes;
    // What stood unread in the socket went nowhere: more from the agent is no difference.
    let sent = if reason == "client" { sent } else { u64::MAX };
    forwarder.resources.asker.connection_ended(accepted.socket_cookie, sent, received);
}

async fn converse(
    forwarder: &Forwarder,
    client: &Client,
    stream: std::net::TcpStream,
    counted: &mut Bytes,
) -> io::Result<&'static str> {
    let mut stream = TcpStream::from_std(stream)?;
    let mut bytes = vec![0; QUESTION_BYTES_MAX];
    loop {
        let mut length = [0; 2];
        match timeout(IDLE, stream.read_exact(&mut length)).await {
            Ok(read) => read?,
            Err(_) => return Ok("idle"),
        };
        let length = usize::from(u16::from_be_bytes(length));
        let Some(message) = bytes.get_mut(..length) else {
            forwarder.resources.counters.malformed.up();
            return Ok("violation");
        };
        match timeout(IDLE, stream.read_exact(message)).await {
            Ok(read) => read?,
            Err(_) => return Ok("idle"),
        };
        counted.sent += 2 + length as u64;
        let answer = match Question::parse(message) {
            Ok(question) => forwarder.answer(client, &question, (Transport::Tcp, length)).await,
            Err(unfit) => {
                forwarder.resources.counters.malformed.up();
                match unfit {
                    Unfit::Answer(answer) => answer,
                    Unfit::Silent => return Ok("violation"),
                }
            }
        };
        let Ok(length) = u16::try_from(answer.len()) else { return Ok("violation") };
        // In one write, so that it is one segment (RFC 7766 §8).
        let framed: Vec<u8> = length.to_be_bytes().into_iter().chain(answer).collect();
        match timeout(WRITE_PATIENCE, stream.write_all(&framed)).await {
            Ok(written) => written?,
            Err(_) => return Ok("idle"),
        }
        counted.received += framed.len() as u64;
    }
}
