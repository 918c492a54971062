//! One request after the other: looked at, decided, recorded, sent, answered.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::header::EXPECT;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use identity::oidc::Presented;
use identity::standing::{Held, Standing};
use journal::record::Lsn;
use mask::Masks;
use policy::SessionPolicy;
use proto::http::Refused;
use sha2::{Digest, Sha256};
use tracing::debug;
use types::command::Action;
use types::decision::{Decision, Keep};
use types::event::{Outcome, Status};
use types::id::CommandId;
use types::identity::Way;

use super::answer::{Composed, Treating, Unmaskable, compose, error_code};
use super::body::{Broken, Down, Up};
use super::intake::{self, Called, Shown, examine, upwards};
use super::io::Io;
use super::problem::Problem;
use super::shared::Shared;
use super::taped::Taped;
use crate::bearer;
use crate::durability::Seat;
use crate::flows::Bytes;
use crate::follower::Follower;
use crate::ledger::Ledger;
use crate::serve::Worker;

mod decide;

/// The rule by which requests are refused that are not HTTP as it is spoken here.
const RULE: &str = "http";

/// What is read of a refused request's body, so that the connection can go on: one buffer of the socket's.
const DRAINED_BYTES_MAX: u64 = 64 * 1024;

/// How long that may take.
const DRAINING: Duration = Duration::from_secs(2);

/// A session of requests between an agent and a target.
pub(super) struct Talk<'w> {
    worker: &'w Worker,
    seat: Seat,
    called: Called,
    shared: Rc<Shared>,
    agent: Io,
    sender: RefCell<SendRequest<Up>>,
    /// Whom the agent acts for without a token of its own requests.
    standing: Arc<Standing>,
    state: RefCell<State<'w>>,
}

struct State<'w> {
    ledger: Ledger<'w>,
    follower: Follower,
    policy: Option<(Arc<SessionPolicy>, Arc<Masks>)>,
    /// SHA-256 of the token that the session goes by.
    token: Option<[u8; 32]>,
    commands: u32,
}

/// A request that was decided.
struct Decided {
    command: CommandId,
    at: Lsn,
    masks: Option<Arc<Masks>>,
    /// What refuses an answer that can't be masked.
    unmasked: Option<Decision>,
    /// How much of the answer is recorded, where policy says.
    record: Option<Keep>,
}

impl<'w> Talk<'w> {
    pub(super) fn new(
        (worker, seat): (&'w Worker, Seat),
        called: Called,
        (shared, agent): (&Rc<Shared>, &Io),
        sender: SendRequest<Up>,
        (ledger, follower): (Ledger<'w>, Follower),
    ) -> Self {
        let standing = Arc::clone(follower.standing());
        Self {
            worker,
            seat,
            called,
            shared: Rc::clone(shared),
            agent: agent.clone(),
            sender: RefCell::new(sender),
            standing,
            state: RefCell::new(State { ledger, follower, policy: None, token: None, commands: 0 }),
        }
    }

    /// Answers a request; whatever becomes of it is recorded.
    pub(super) async fn handle(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Down>, Broken> {
        let came = self.agent.take_head();
        let (parts, body) = request.into_parts();
        let head =
            came.windows(4).position(|four| four == b"\r\n\r\n").map_or(came.len(), |at| at + 4);
        self.shared.taken();
        self.shared.took(head);
        let mut body = Some(body);
        match self.answered(&came, &parts, &mut body).await {
            Ok(response) => Ok(response),
            Err(mut problem) => {
                if let Some(body) = body
                    && (problem.ends || !drained(&parts, body).await)
                {
                    problem.ends = true;
                    self.shared.linger();
                }
                let session = self.state.borrow().ledger.session();
                let (head, body) = problem.answer(session);
                Ok(head.map(|()| Down::whole(body, &self.shared, &self.agent)))
            }
        }
    }

    async fn answered(
        &self,
        came: &[u8],
        parts: &Parts,
        body: &mut Option<Incoming>,
    ) -> Result<Response<Down>, Problem> {
        let examined = examine(came, parts, &self.called);
        let identified = match &examined {
            Ok(_) => self.identify(parts).await,
            Err(_) => Ok(false),
        };
        self.follow(None);
        let is_head = parts.method == Method::HEAD;
        let decided = self.decide(&examined, identified, is_head);
        let (decided, refused) = decided
            .map_err(|error| self.unrecorded(format!("{error}; nothing goes on unrecorded")))?;
        // A refusal is told once it is on disk; so is what has an effect sent.
        let (Ok(intake), None) = (&examined, &refused) else {
            self.durable(decided.at).await?;
            return Err(refused.unwrap_or_else(|| not_http(Refused::Head)));
        };
        if intake.asked.action != Action::Fetch {
            self.durable(decided.at).await?;
        }
        let has_masks = decided.masks.is_some();
        let body = body.take().map(|body| Up::new(body, &self.shared));
        let has_token = identified.unwrap_or(false);
        let request = body.and_then(|body| upwards(intake, parts, body, (has_token, has_masks)));
        let outcome = Outcome::new(decided.command, Status::Interrupted);
        let Some(request) = request else {
            return Err(self.lost(outcome, "the request can't be written anew"));
        };
        self.sent(request, &decided, outcome).await
    }

    /// Sends a request that was allowed, and makes the answer.
    async fn sent(
        &self,
        request: Request<Up>,
        decided: &Decided,
        mut outcome: Outcome,
    ) -> Result<Response<Down>, Problem> {
        outcome.sent_at = Some(self.shared.clock.now());
        let ready = poll_fn(|cx| self.sender.borrow_mut().poll_ready(cx));
        let response = match self.unless_gone(ready).await {
            Ok(Ok(())) => {
                let sending = self.sender.borrow_mut().send_request(request);
                self.unless_gone(sending).await
            }
            Ok(Err(error)) => Ok(Err(error)),
            Err(why) => Err(why),
        };
        let response = match response {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                debug!(%error, "no answer");
                return Err(self.lost(outcome, "the target gave no answer that makes sense"));
            }
            Err(why) => {
                self.end(outcome);
                return Err(gone(why));
            }
        };
        outcome.first_at = Some(self.shared.clock.now());
        self.durable(decided.at).await?;
        let status = response.status();
        if status.is_informational() {
            return Err(self.lost(outcome, "the target changes the protocol"));
        }
        let treating = Treating {
            masks: decided.masks.as_ref(),
            may_pass: decided.unmasked.is_none(),
            ends: self.sender.borrow().is_closed(),
            record: decided.record,
        };
        match compose(&response, &treating, outcome.clone()) {
            Ok(Composed { head, masks, ending }) => {
                let (body, to) = (response.into_body(), (&self.shared, &self.agent));
                Ok(head.map(|()| Down::of_server(body, masks, ending, to)))
            }
            Err(why) => Err(self.withheld(outcome, decided, status, why)),
        }
    }

    /// Refuses an answer that no mask can be applied to.
    fn withheld(
        &self,
        mut outcome: Outcome,
        decided: &Decided,
        status: StatusCode,
        Unmaskable(why): Unmaskable,
    ) -> Problem {
        let rule = decided.unmasked.as_ref().map_or("default-deny", Decision::rule).to_owned();
        let reason = decided.unmasked.as_ref().map_or("", |decision| &*decision.reason);
        self.state.borrow().ledger.withheld(outcome.command, &rule, why);
        outcome.status = Status::Error;
        outcome.error_code = error_code(StatusCode::BAD_GATEWAY);
        outcome.sample = format!("HTTP/1.1 {} withheld: {why}", status.as_u16()).into_bytes();
        self.end(outcome);
        let detail =
            format!("the target's answer ({}) is withheld: {why}; {reason}", status.as_u16());
        Problem { status: StatusCode::BAD_GATEWAY, policy: rule, detail, ends: true }
    }

    /// What a future answers; or why the agent acts for nobody any more, where that comes first.
    async fn unless_gone<F: Future>(&self, future: F) -> Result<F::Output, &'static str> {
        let mut future = pin!(future);
        poll_fn(|cx| match self.shared.gone() {
            Some(why) => Poll::Ready(Err(why)),
            None => future.as_mut().poll(cx).map(Ok),
        })
        .await
    }

    /// Waits until what was recorded is on disk.
    async fn durable(&self, lsn: Lsn) -> Result<(), Problem> {
        let waited = poll_fn(|cx| self.seat.poll(lsn, cx)).await;
        waited.map_err(|error| {
            self.shared.go("journal_failed");
            self.unrecorded(error.to_string())
        })
    }

    /// What the agent is told where nothing can be recorded; that goes down all the same.
    fn unrecorded(&self, detail: String) -> Problem {
        self.agent.with_tape(Taped::give_up);
        let (status, policy) = (StatusCode::SERVICE_UNAVAILABLE, "journal".to_owned());
        Problem { status, policy, detail, ends: true }
    }

    /// Has the session act by the token that a request shows; answers whether it shows one that counts, else why not.
    async fn identify(&self, parts: &Parts) -> Result<bool, &'static str> {
        let presented = match intake::shown(parts, self.worker.door.bearers.as_deref()) {
            Shown::Nothing => return Ok(false),
            Shown::Astray => {
                self.state.borrow().ledger.token_refused(Way::Bearer, NOT_TAKEN);
                return Err(NOT_TAKEN);
            }
            Shown::Token(presented) => presented,
        };
        let digest: [u8; 32] = Sha256::digest(presented.token().expose()).into();
        if self.state.borrow().token == Some(digest) {
            return Ok(true);
        }
        let verifying = self.verifying(presented);
        let verified = self.unless_gone(verifying).await.and_then(|verified| verified);
        let state = &mut *self.state.borrow_mut();
        let standing = verified.inspect_err(|why| state.ledger.token_refused(Way::Bearer, why))?;
        match state.follower.turn_to(standing) {
            Held::For(identity) => {
                let kept = state.ledger.go_on_for(identity);
                (state.token, state.policy) = (Some(digest), None);
                if kept { Ok(true) } else { Err("too_many_identities") }
            }
            Held::Ended(why) => Err(why),
        }
    }

    fn verifying(&self, presented: Presented) -> bearer::Verifying {
        let state = self.state.borrow();
        bearer::verifying(&self.worker.door, presented, Way::Bearer, &state.ledger, &self.standing)
    }

    /// Goes by whom the agent acts for now; has the session's task woken at changes.
    pub(super) fn follow(&self, cx: Option<&Context<'_>>) {
        let state = &mut *self.state.borrow_mut();
        if let Some(cx) = cx {
            state.follower.watch(cx);
        }
        let now = self.shared.clock.now();
        let why = match state.follower.changed(now.unix_us) {
            None => return,
            Some(Held::For(identity)) => {
                state.policy = None;
                if state.ledger.go_on_for(identity) {
                    return;
                }
                "too many identities"
            }
            Some(Held::Ended(why)) => why,
        };
        if self.shared.go(why) {
            state.ledger.dismissed(why, now);
        }
    }

    /// Notes how a command ended that has no answer of the server's.
    fn end(&self, mut outcome: Outcome) {
        outcome.bytes_in += self.shared.taken();
        self.shared.end(outcome);
    }

    fn lost(&self, mut outcome: Outcome, why: &str) -> Problem {
        (outcome.status, outcome.error_code) = (Status::Error, Some(*b"HT502"));
        self.end(outcome);
        let (policy, detail) = (RULE.to_owned(), why.to_owned());
        Problem { status: StatusCode::BAD_GATEWAY, policy, detail, ends: true }
    }

    /// Writes what has ended.
    pub(super) fn settle(&self) {
        let state = &mut *self.state.borrow_mut();
        for (outcome, at) in self.shared.take_ended() {
            state.ledger.end(outcome, at);
        }
    }

    /// The session's records.
    pub(super) fn with_ledger(&self, act: impl FnOnce(&mut Ledger<'w>)) {
        act(&mut self.state.borrow_mut().ledger);
    }

    /// Ends the session's records, once.
    pub(super) fn close(&self, reason: &str) {
        self.settle();
        self.agent.with_tape(Taped::finish);
        let (sent, received) = self.agent.carried();
        let now = self.shared.clock.now();
        self.state.borrow_mut().ledger.close(reason, Bytes { sent, received }, now);
    }
}

impl Drop for Talk<'_> {
    /// A session cut off by the daemon's stop still closes its records.
    fn drop(&mut self) {
        if !self.state.borrow().ledger.is_closed() {
            self.close("daemon_stop");
        }
    }
}

/// Why a token is refused that stands where none is taken.
const NOT_TAKEN: &str = "not_taken_here";

fn gone(why: &str) -> Problem {
    Problem {
        status: StatusCode::UNAUTHORIZED,
        policy: "identity".to_owned(),
        detail: format!("whom this agent acts for has lost access ({why})"),
        ends: true,
    }
}

fn not_http(refused: Refused) -> Problem {
    Problem {
        status: StatusCode::from_u16(refused.status()).unwrap_or(StatusCode::BAD_REQUEST),
        policy: RULE.to_owned(),
        detail: refused.to_string(),
        ends: refused.ends(),
    }
}

/// Reads what a refused request has for a body; answers whether the next request can follow it.
async fn drained(parts: &Parts, mut body: Incoming) -> bool {
    if body.is_end_stream() {
        return true;
    }
    // To read it would be to ask for it.
    if parts.headers.contains_key(EXPECT) || body.size_hint().lower() > DRAINED_BYTES_MAX {
        return false;
    }
    let draining = async {
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            let Ok(frame) = frame else { return false };
            bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
            if bytes > DRAINED_BYTES_MAX {
                return false;
            }
        }
        true
    };
    tokio::time::timeout(DRAINING, draining).await.unwrap_or(false)
}
