//! The fuzzer's way in: bytes of both sides and decisions, in any order, to one session.

use std::sync::{Arc, LazyLock};

use types::addr::Side;
use types::clock::Timestamp;
use types::event::Event;

use super::{PostgresSession, Transport};
use crate::session::{Refusal, Session, Verdict};
use crate::sql::Analyzer;

/// One analyzer for all inputs, as one is shared by all sessions.
static ANALYZER: LazyLock<Arc<Analyzer>> = LazyLock::new(|| Arc::new(Analyzer::new()));

/// Runs one input: a list of chunks, each a byte of flags, a length byte and its bytes.
///
/// Flags: 1 from the server, 2 refuse what this chunk asks, 4 skip probes, 8 end of stream after
/// it, 16 everything waiting is written before it.
pub fn one_input(mut input: &[u8]) {
    let mut session = PostgresSession::new(Arc::clone(&ANALYZER), Transport::default());
    let now = Timestamp::default();
    while let [flags, length, rest @ ..] = input {
        let (chunk, behind) = rest.split_at_checked(usize::from(*length)).unwrap_or((rest, &[]));
        input = behind;
        let side = if flags & 1 == 0 { Side::Downstream } else { Side::Upstream };
        if flags & 16 != 0 {
            for side in [Side::Downstream, Side::Upstream] {
                let count = session.transmit(side).len();
                session.transmit(side).consume(count);
            }
        }
        session.handle_input(side, chunk, now);
        settle(&mut session, *flags);
        if flags & 8 != 0 {
            session.handle_eof(side, now);
            settle(&mut session, *flags);
        }
    }
    session.handle_eof(Side::Upstream, now);
    settle(&mut session, 0);
    assert!(session.is_ended(), "a session ends with its server");
}

fn settle(session: &mut PostgresSession, flags: u8) {
    while let Some(event) = session.poll_event() {
        match event {
            Event::Command(command) => {
                let verdict = if flags & 2 == 0 {
                    Verdict::Allow
                } else {
                    Verdict::Deny(Refusal { policy: "fuzz".into(), message: "no".into() })
                };
                session.handle_decision(command.id, verdict);
            }
            Event::ProbeWanted if flags & 4 == 0 => session.probe("SELECT 1"),
            Event::ProbeWanted => session.skip_probe(),
            Event::Outcome(_) | Event::Violation(_) | Event::Probed(_) | Event::CatalogChanged => {}
        }
    }
}
