//! What comes before an HTTP session: the agent's first byte says whether it speaks TLS.

use std::io;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use proto::postgres::{Leg as Posture, Transport};
use tokio::net::TcpStream;
use types::principal::Principal;
use types::target::Target;

use super::{HANDSHAKE, NotOpened, Opened, PATIENCE, Preface, Why, Wire, opened};
use crate::cancels::Way;
use crate::door::Door;
use crate::leg::Stream;
use crate::targets::{Protocol, TargetRule};
use crate::tls::When;

/// Brings both legs to where requests can begin.
pub(crate) async fn open_http(
    door: &Door,
    (principal, target): (&Principal, &Target),
    (rule, names): (&TargetRule, &[Arc<str>]),
    agent: TcpStream,
    server: TcpStream,
) -> Result<Opened, NotOpened> {
    let preface = Preface { door, principal, target, rule, names };
    let opening = Box::pin(preface.open_http(agent, server));
    tokio::time::timeout(PATIENCE, opening).await.unwrap_or_else(|_| Err(Why::Late.into()))
}

impl Preface<'_> {
    async fn open_http(&self, agent: TcpStream, server: TcpStream) -> Result<Opened, NotOpened> {
        let (agent, server) = (Wire::new(agent), Wire::new(server));
        let first = agent.peek().await.map_err(Why::Agent)?;
        let when = self.rule.tls.when();
        match first {
            None => Err(Why::Agent(io::ErrorKind::UnexpectedEof.into()).into()),
            Some(HANDSHAKE) if !self.door.tls.is_offered() => Err(Why::NotTaken.into()),
            Some(HANDSHAKE) if when == When::Never => Err(Why::NotOffered.into()),
            Some(HANDSHAKE) => self.both_http(agent, server).await,
            Some(_) if when == When::Always => {
                let name = self.known_as();
                let secured = self.rule.tls.connect(server.counted(), &name).await;
                let agent = Stream::Plain(agent.counted());
                match secured {
                    Ok(server) => {
                        let way = Way::Tls(self.rule.tls.clone(), name);
                        Ok(opened((agent, Posture::Plain), (server, way), Vec::new(), None))
                    }
                    Err(error) => Err(NotOpened { why: Why::Connect(error), agent: Some(agent) }),
                }
            }
            Some(_) => Ok(Opened {
                agent: Stream::Plain(agent.counted()),
                server: Stream::Plain(server.counted()),
                transport: Transport::default(),
                way: Way::Plain,
                first: Vec::new(),
                tls: None,
                host: None,
            }),
        }
    }

    /// The agent's hello tells the server's name; then the server's handshake, then the agent's.
    async fn both_http(&self, agent: Wire, server: Wire) -> Result<Opened, NotOpened> {
        let tls = &self.door.tls;
        let offer = tls.hear(agent.counted()).await.map_err(Why::Agent)?;
        let host: Option<Arc<str>> =
            offer.server_name().map(|name| name.to_ascii_lowercase().into());
        let name = host.clone().unwrap_or_else(|| self.known_as());
        let is_wrong = host.as_ref().is_some_and(|host| !self.is_target(host));
        let server = if is_wrong {
            Err(Why::WrongName(name.to_string()))
        } else {
            self.rule.tls.connect(server.counted(), &name).await.map_err(Why::Connect)
        };
        let now = UNIX_EPOCH + Duration::from_micros(self.door.clock.now().unix_us.unsigned_abs());
        let names = self.certified(host.as_deref());
        let (agent, _) =
            offer.accept(tls, &names, now, Protocol::Http).await.map_err(Why::Accept)?;
        let agent = Stream::Agent(Box::new(agent));
        match server {
            Ok(server) => {
                let way = Way::Tls(self.rule.tls.clone(), name);
                Ok(opened((agent, Posture::Plain), (server, way), Vec::new(), host))
            }
            Err(why) => Err(NotOpened { why, agent: Some(agent) }),
        }
    }
}
