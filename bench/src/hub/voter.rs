//! People who vote by the API of either hub, until it is acknowledged.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use approval::desk::Desk as _;
use approval::vote::{Answer, Approver, Vote, VoteError};
use hub::desk::HubDesk;
use hub::store::{PostgresRules, PostgresStore, Store};
use integration::idp::{CLIENT, SignedBy};
use integration::{Hub, Idp, Postgres, bank};
use journal::clock::SystemClock;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::Instant;
use types::clock::Clock;
use types::id::RequestId;
use types::secret::Secret;

/// People: each votes twice in three seconds at the most, as the API lets one person act once a second.
const PEOPLE: usize = 240;

/// Addresses that they come from: the API takes ten calls a second from each.
const ADDRESSES: usize = 60;

/// How long a vote is tried for: longer than the minute for which the API refuses who comes too often.
const PATIENCE: Duration = Duration::from_mins(3);

/// How long one answer may take: hubs wait 5 s for hosts.
const ANSWER: Duration = Duration::from_secs(8);

/// What is waited before the second try; it doubles.
const AGAIN: Duration = Duration::from_millis(25);

/// The longest wait between two tries.
const AGAIN_MOST: Duration = Duration::from_millis(800);

/// An acknowledged vote.
pub(crate) struct Cast {
    pub(crate) request: RequestId,
    pub(crate) voted: String,
    /// From the first try to the acknowledgement.
    pub(crate) ms: f64,
}

/// Those who vote.
pub(crate) struct Approvers {
    tokens: Vec<String>,
    hubs: [SocketAddr; 2],
    desks: Vec<HubDesk>,
    retries: AtomicU64,
}

impl Approvers {
    /// People of the group that may approve, with tokens for an hour.
    pub(crate) fn new(provider: &Idp, audience: &str, hubs: [&Hub; 2]) -> Result<Self> {
        let seconds = SystemClock.now().unix_us / 1_000_000;
        let header = json!({ "alg": "ES256", "kid": "ES256-1", "typ": "at+jwt" }).to_string();
        let token = |person: usize| {
            let claims = json!({
                "iss": provider.issuer(), "sub": format!("person-{person}"), "aud": audience,
                "exp": seconds + 3_600, "iat": seconds, "client_id": CLIENT, "jti": format!("{person}"),
                "name": format!("Person {person}"), "groups": ["dba"],
            });
            provider.sign(&header, &claims.to_string(), SignedBy::Es256)
        };
        let tokens = (0..PEOPLE).map(token).collect::<Result<_>>()?;
        let [one, other] = hubs.map(Hub::console_address);
        let hubs = [one.parse()?, other.parse()?];
        Ok(Self { tokens, hubs, desks: Vec::new(), retries: AtomicU64::new(0) })
    }

    /// Has them vote by two desks in this process, on the hubs' database.
    pub(crate) async fn by_desk(&mut self, server: &Postgres) -> Result<()> {
        for _ in 0..2 {
            let user = integration::postgres::SUPERUSER;
            let rules = PostgresRules {
                url: format!("postgresql://{user}@127.0.0.1:{}/hub", server.port()),
                password: Some(Arc::new(|| Ok(Secret::new(bank::PASSWORD.as_bytes().to_vec())))),
                ca: None,
            };
            let store = Store::Postgres(PostgresStore::open(&rules).await?);
            self.desks.push(HubDesk::new(Arc::new(store)));
        }
        Ok(())
    }

    /// Approves a request at one hub or the other, until one of them says that it has it.
    pub(crate) async fn vote(
        &self,
        number: usize,
        (request, shown): (RequestId, String),
    ) -> Result<Cast> {
        let begun = Instant::now();
        let body = json!({ "answer": "approve", "shown_sha256": shown }).to_string();
        let (mut at, mut again, mut last) = (number, AGAIN, String::new());
        while begun.elapsed() < PATIENCE {
            let hub = if at % 2 == 0 { self.hubs[0] } else { self.hubs[1] };
            let asked = async {
                match self.desks.get(at % 2) {
                    Some(desk) => cast(desk, number, request, &shown).await,
                    None => self.post(hub, (at, number), request, &body).await,
                }
            };
            match tokio::time::timeout(ANSWER, asked).await {
                Ok(Ok((200, answer))) => {
                    let voted = answer["voted"].as_str().context("no `voted`")?.to_owned();
                    let ms = begun.elapsed().as_secs_f64() * 1_000.0;
                    return Ok(Cast { request, voted, ms });
                }
                // The host has not told the hub yet, or the hub can't say.
                Ok(Ok((status @ (404 | 429 | 502 | 503), answer))) => {
                    last = format!("{status}: {answer}");
                }
                Ok(Ok((status, answer))) => bail!("{request}: {status}: {answer}"),
                // It was killed.
                Ok(Err(error)) => last = error.to_string(),
                Err(late) => last = late.to_string(),
            }
            self.retries.fetch_add(1, Ordering::Relaxed);
            at += 1;
            tokio::time::sleep(again).await;
            again = (again * 2).min(AGAIN_MOST);
        }
        bail!("{request}: not acknowledged in {} s: {last}", PATIENCE.as_secs())
    }

    /// How often it was asked again.
    pub(crate) fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    async fn post(
        &self,
        hub: SocketAddr,
        (at, number): (usize, usize),
        request: RequestId,
        body: &str,
    ) -> Result<(u16, Value)> {
        let token = self.tokens.get(number % PEOPLE).context("no token")?;
        let from = u8::try_from(2 + (at + number) % ADDRESSES)?;
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::new(127, 0, 0, from), 0)))?;
        let mut stream = socket.connect(hub).await?;
        let asked = format!(
            "POST /api/v1/approvals/{request}/votes HTTP/1.1\r\nhost: {hub}\r\n\
             authorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             content-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(asked.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let status = answer.split(' ').nth(1).context("no status")?.parse()?;
        let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
        Ok((status, serde_json::from_str(body).unwrap_or_default()))
    }
}

/// A vote by a desk's own code, answered as the API answers.
async fn cast(
    desk: &HubDesk,
    number: usize,
    request: RequestId,
    shown: &str,
) -> Result<(u16, Value)> {
    let person = number % PEOPLE;
    let vote = Vote {
        approver: Approver {
            idp: "https://idp.example".into(),
            sub: format!("person-{person}"),
            user: format!("Person {person}"),
            groups: vec!["dba".into()],
        },
        answer: Answer::Approve,
        reason: String::new(),
        at_us: SystemClock.now().unix_us,
        way: "api".into(),
        from: "127.0.0.1".into(),
        shown_sha256: shown.to_owned(),
    };
    Ok(match desk.vote(request, vote).await {
        Ok(Ok(voted)) => (200, json!({ "voted": voted })),
        Ok(Err(VoteError::NotFound)) => (404, Value::Null),
        Ok(Err(error)) => (409, json!({ "error": error.to_string() })),
        Err(error) => (503, json!({ "error": error.to_string() })),
    })
}
