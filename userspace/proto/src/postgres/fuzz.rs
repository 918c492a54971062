//! The fuzzer's way in: bytes of both sides and decisions, in any order, to one session.

use std::sync::{Arc, LazyLock};

use types::addr::Side;
use types::clock::Timestamp;
use types::command::CommandKind;
use types::decision::{Keep, Limit, Measure};
use types::event::Event;
use types::id::{CommandId, PolicyId};
use types::secret::Secret;

use super::{
    Credential, Injection, KeysWanted, Methods, Nonce, Password, PostgresSession, ScramKeys,
    Transport, Verifier,
};
use crate::limit::{Bound, Limits};
use crate::session::{Obligations, Refusal, Session, Verdict};
use crate::sql::Analyzer;

/// One analyzer for all inputs, as one is shared by all sessions.
static ANALYZER: LazyLock<Arc<Analyzer>> = LazyLock::new(|| Arc::new(Analyzer::new()));

/// The keys of every login: what they are computed from changes nothing that can fail.
static KEYS: LazyLock<ScramKeys> = LazyLock::new(|| {
    let wanted = KeysWanted { salt: [1].into(), iterations: 1 };
    ScramKeys::derive(&Secret::new(Vec::new()), &wanted)
});

static VERIFIER: LazyLock<Verifier> =
    LazyLock::new(|| Verifier::new(&Secret::new(b"placeholder".to_vec()), [1; 16]));

fn injection(has_placeholder: bool) -> Injection {
    let credential = Credential {
        name: "fuzz".into(),
        account: "app".into(),
        secret: Secret::new(b"secret".to_vec()),
        methods: Methods { md5: true, cleartext_without_tls: true, ..Methods::default() },
        placeholder: has_placeholder.then(|| VERIFIER.clone()),
    };
    let nonce = Nonce([1; 18]);
    Injection { credential: Arc::new(credential), upstream: nonce.clone(), downstream: nonce }
}

/// Runs one input: a list of chunks, each a byte of flags, a length byte and its bytes.
///
/// Flags: 1 from the server, 2 refuse what this chunk asks, 4 skip probes, 8 end of stream after
/// it, 16 everything waiting is written before it, 32 a credential is used for a login asked with it,
/// 64 with a placeholder, 128 what it asks is limited. Of inputs of an odd length passwords are looked at: 64 asks the
/// agent for one, 2 refuses what it would send to the server. What chunks ask whose length 5 divides waits for the next
/// chunk, before which that is decided as it would be if that asked it, and by 2 and 64 its transaction rolled back.
pub fn one_input(mut input: &[u8]) {
    let mut session = PostgresSession::new(Arc::clone(&ANALYZER), Transport::default());
    session.set_cancel_key(Secret::new([7; 32]));
    if input.len() % 2 == 1 {
        session.hold_opening();
        session.hold_passwords();
    }
    let now = Timestamp::default();
    let mut held = Vec::new();
    while let [flags, length, rest @ ..] = input {
        let (chunk, behind) = rest.split_at_checked(usize::from(*length)).unwrap_or((rest, &[]));
        input = behind;
        let side = if flags & 1 == 0 { Side::Downstream } else { Side::Upstream };
        if flags & 16 != 0 {
            session.sent(now);
            for side in [Side::Downstream, Side::Upstream] {
                let count = session.transmit(side).len();
                session.transmit(side).consume(count);
            }
        }
        release(&mut session, *flags, &mut held);
        session.handle_input(side, chunk, now);
        let holds = chunk.len() % 5 == 0;
        settle(&mut session, *flags, holds.then_some(&mut held));
        if !held.is_empty() && !session.is_left() {
            session.tell_held("waits", "for people");
            if length % 2 == 0 {
                session.ask_timeout();
            } else {
                session.ask_plan();
            }
        }
        while weigh(&mut session, *flags) {
            settle(&mut session, *flags, None);
        }
        if flags & 8 != 0 {
            session.handle_eof(side, now);
            settle(&mut session, *flags, None);
        }
    }
    session.handle_eof(Side::Upstream, now);
    settle(&mut session, 0, None);
    assert!(session.is_ended(), "a session ends with its server");
}

/// One row, or one more that is small, for a millisecond.
fn limits(flags: u8) -> Option<Limits> {
    if flags & 128 == 0 {
        return None;
    }
    let bounds = [(Measure::Rows, 1), (Measure::Bytes, 64), (Measure::Time, 1_000)];
    let bound = |(measure, most)| {
        let limit = Limit { policy: PolicyId("fuzz".into()), measure, most, window_s: None };
        Bound { limit, window: None }
    };
    Limits::new(bounds.into_iter().map(bound).collect())
}

/// Looks at passwords; whether there was anything.
fn weigh(session: &mut PostgresSession, flags: u8) -> bool {
    if session.is_met() {
        if flags & 64 == 0 {
            session.open();
        } else {
            session.ask_password();
        }
        return true;
    }
    match session.password() {
        Some(Password::Asked(_)) => session.open(),
        Some(Password::Relayed(_)) if flags & 2 == 0 => session.pass_password(),
        Some(Password::Relayed(_)) => session.refuse_token("no", "a token"),
        None => return false,
    }
    true
}

/// Decides what waits.
fn release(session: &mut PostgresSession, flags: u8, held: &mut Vec<CommandId>) {
    for command in held.drain(..) {
        let refusal = Refusal::new("fuzz".into(), "no".into());
        let verdict = match flags & 0x42 {
            0x42 => Verdict::RollBack(refusal),
            2 => Verdict::Deny(refusal),
            _ => Verdict::Allow,
        };
        session.handle_decision(command, verdict);
    }
    settle(session, flags, None);
}

fn settle(session: &mut PostgresSession, flags: u8, mut held: Option<&mut Vec<CommandId>>) {
    while let Some(event) = session.poll_event() {
        match event {
            Event::Command(command) => {
                if command.kind == CommandKind::Connect && flags & 32 != 0 {
                    session.inject(injection(flags & 64 != 0));
                }
                if let Some(asked) = session.cancel_request().cloned() {
                    session.forward_cancel(asked);
                }
                let verdict = if let Some(held) = &mut held {
                    held.push(command.id);
                    Verdict::Hold
                } else if flags & 2 == 0 {
                    let obligations =
                        |limits| Obligations { limits: Some(limits), record: Some(Keep::Head(99)) };
                    limits(flags).map_or(Verdict::Allow, |it| Verdict::Under(obligations(it)))
                } else {
                    Verdict::Deny(Refusal::new("fuzz".into(), "no".into()))
                };
                session.handle_decision(command.id, verdict);
            }
            Event::ProbeWanted if flags & 4 == 0 => session.probe("SELECT 1"),
            Event::ProbeWanted => session.skip_probe(),
            Event::Outcome(_)
            | Event::Violation(_)
            | Event::Authenticated(_)
            | Event::Notified(_)
            | Event::Probed(_) => {}
        }
    }
    if session.is_limited() {
        let now = Timestamp { unix_us: 0, mono_ns: u64::from(flags & 1) * 1_000_000 };
        if session.time_left(now) == Some(0) {
            session.time_out(now);
        }
        if session.take_cancel().is_some() {
            session.cancel_ended(flags & 4 == 0);
            session.cancel_again();
        }
    }
    if session.keys_wanted().is_some() {
        session.set_keys(&KEYS);
    }
}
