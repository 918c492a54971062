//! Reconciliation: what the kernel counted of a flow against what its session saw.
//!
//! The kernel tells of a redirected socket's end how many bytes of payload went each way. A session
//! tells what it took from the agent and what it gave it. Bytes that the kernel counted and no
//! session saw, or a flow without a session, went past us: each such difference is for a record and
//! an alert. The reverse is none: what is still under way when an agent dies was never received.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use types::clock::Timestamp;
use types::limits::SESSIONS_MAX;

/// One side waits this long for the other: sockets linger in FIN-WAIT-2 for up to 60 s.
const PATIENCE_US: u64 = 90 * 1_000_000;

/// Sides waiting: every session there may be, ended at once, four times over: 40,000 x about 80
/// bytes = 3.2 MB. More than that are counted and not compared.
const WAITING_MAX: usize = 4 * SESSIONS_MAX;

/// Bytes of payload of one flow, as one of the two counted them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    /// From the agent.
    pub sent: u64,
    /// To the agent.
    pub received: u64,
}

impl Bytes {
    /// Of a connection that was closed without being read.
    pub fn unread(received: usize) -> Self {
        Self { sent: u64::MAX, received: received as u64 }
    }
}

/// What went past us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The agent-side socket.
    pub socket_cookie: u64,
    /// As the kernel counted.
    pub kernel: Bytes,
    /// As the session did; none if there was no session, nor a refusal.
    pub session: Option<Bytes>,
}

impl fmt::Display for Difference {
    /// The JSON object in records.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { socket_cookie, kernel, session } = self;
        write!(f, r#"{{"socket_cookie":{socket_cookie},"kernel":{kernel}"#)?;
        match session {
            Some(session) => write!(f, r#","session":{session}}}"#),
            None => write!(f, r#","session":null}}"#),
        }
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sent, received } = self;
        write!(f, r#"{{"sent":{sent},"received":{received}}}"#)
    }
}

/// What is known when the kernel saw a flow end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Its session ended as well, and saw the same.
    Agreed,
    /// Its session ended as well, and saw less.
    Differed(Difference),
    /// Nothing of its session yet.
    First,
}

/// Flows of which one side is known.
#[derive(Debug, Default)]
pub struct Flows(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    sides: HashMap<u64, (Timestamp, Side)>,
    uncompared: u64,
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Kernel(Bytes),
    Session(Bytes),
}

impl Flows {
    /// The session (or the refusal) of a flow ended, at `now`; answers a difference.
    pub fn session_ended(&self, cookie: u64, session: Bytes, now: Timestamp) -> Option<Difference> {
        let mut waiting = self.waiting();
        if let Some((_, Side::Kernel(kernel))) = waiting.sides.remove(&cookie) {
            return compare(cookie, kernel, session);
        }
        waiting.keep(cookie, Side::Session(session), now);
        None
    }

    /// The kernel saw a flow end, at `now`.
    pub fn kernel_ended(&self, cookie: u64, kernel: Bytes, now: Timestamp) -> Ended {
        let mut waiting = self.waiting();
        if let Some((_, Side::Session(session))) = waiting.sides.remove(&cookie) {
            return compare(cookie, kernel, session).map_or(Ended::Agreed, Ended::Differed);
        }
        waiting.keep(cookie, Side::Kernel(kernel), now);
        Ended::First
    }

    /// Gives up waiting for what should have come long ago; answers the flows that carried
    /// something and never were a session.
    pub fn expire(&self, now: Timestamp) -> Vec<Difference> {
        let mut waiting = self.waiting();
        let late = |since: Timestamp| now.us_since(since) > PATIENCE_US;
        let mut found = Vec::new();
        waiting.sides.retain(|&socket_cookie, &mut (since, side)| {
            if !late(since) {
                return true;
            }
            if let Side::Kernel(kernel) = side
                && kernel != Bytes::default()
            {
                found.push(Difference { socket_cookie, kernel, session: None });
            }
            false
        });
        found
    }

    /// Ends that found no room, since the start.
    pub fn uncompared(&self) -> u64 {
        self.waiting().uncompared
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn keep(&mut self, cookie: u64, side: Side, now: Timestamp) {
        if self.sides.len() < WAITING_MAX {
            self.sides.insert(cookie, (now, side));
        } else {
            self.uncompared += 1;
        }
    }
}

fn compare(socket_cookie: u64, kernel: Bytes, session: Bytes) -> Option<Difference> {
    let past = kernel.sent > session.sent || kernel.received > session.received;
    past.then_some(Difference { socket_cookie, kernel, session: Some(session) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(second: u64) -> Timestamp {
        Timestamp { unix_us: 0, mono_ns: second * 1_000_000_000 }
    }

    const fn bytes(sent: u64, received: u64) -> Bytes {
        Bytes { sent, received }
    }

    #[test]
    fn what_the_kernel_counted_and_no_session_saw_is_a_difference() {
        for (kernel, session, differs) in [
            (bytes(10, 20), bytes(10, 20), false),
            (bytes(11, 20), bytes(10, 20), true),
            (bytes(10, 21), bytes(10, 20), true),
            (bytes(10, 19), bytes(10, 20), false),
        ] {
            let flows = Flows::default();
            assert_eq!(flows.kernel_ended(1, kernel, at(0)), Ended::First);
            assert_eq!(flows.session_ended(1, session, at(1)).is_some(), differs);
            assert_eq!(flows.session_ended(2, session, at(0)), None);
            let ended = flows.kernel_ended(2, kernel, at(1));
            assert_eq!(matches!(ended, Ended::Differed(_)), differs, "{ended:?}");
            assert_eq!(ended == Ended::Agreed, !differs);
            assert_eq!(flows.expire(at(1_000)), []);
        }
    }

    #[test]
    fn a_flow_without_a_session_is_a_difference_once_it_carried_something() {
        let flows = Flows::default();
        flows.kernel_ended(1, bytes(5, 0), at(0));
        flows.kernel_ended(2, bytes(0, 0), at(0));
        flows.session_ended(3, bytes(5, 0), at(0));
        assert_eq!(flows.expire(at(60)), []);
        let differences = flows.expire(at(91));
        let past = Difference { socket_cookie: 1, kernel: bytes(5, 0), session: None };
        assert_eq!(differences, [past]);
        assert_eq!(flows.expire(at(1_000)), []);
    }

    #[test]
    fn more_ends_than_there_is_room_for_are_counted() {
        let flows = Flows::default();
        for cookie in 0..WAITING_MAX as u64 + 7 {
            flows.kernel_ended(cookie, bytes(1, 1), at(0));
        }
        assert_eq!(flows.uncompared(), 7);
    }
}
