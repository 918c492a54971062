use types::command::{Action, CommandKind, Risk};
use types::event::{Event, Status};

use super::super::Leg;
use super::*;

#[test]
fn a_login_is_relayed_and_probed_behind_the_agents_back() {
    let steps = opened();
    let seen = check(&steps);
    let [
        Event::Command(connect),
        Event::Outcome(outcome),
        Event::ProbeWanted,
        Event::Probed(Some(rows)),
    ] = seen.events.as_slice()
    else {
        panic!("{:?}", seen.events)
    };
    assert_eq!(connect.kind, CommandKind::Connect);
    assert_eq!(connect.statement.accesses[0].action, Action::Connect);
    assert_eq!((outcome.command, outcome.status), (connect.id, Status::Ok));
    assert_eq!(rows, &[[Some("x".to_owned())]]);
    assert_eq!(seen.up, [steps[0].1.clone(), query("SELECT catalog")].concat());
    assert_eq!(seen.down, steps[1].1, "the server's login, and nothing of the probe");
}

#[test]
fn passwords_go_through_and_nowhere_else() {
    let password = message(b'p', b"hunter2\0");
    let seen = check(&[
        agent(&[startup(&[("user", "bob")])]),
        server(&[message(b'R', &[0, 0, 0, 3])]),
        agent(std::slice::from_ref(&password)),
        server(&[message(b'E', b"SFATAL\0VFATAL\0C28P01\0Mno\0\0")]),
    ]);
    assert!(seen.up.ends_with(&password));
    assert!(!format!("{:?}", seen.events).contains("hunter2"));
    assert_eq!(seen.outcomes()[0].error_code, Some(*b"28P01"));
}

#[test]
fn a_refused_login_never_reaches_the_server() {
    for parameters in
        [[("user", "bob"), ("options", "-c role=dba")], [("user", "bob"), ("role", "dba")]]
    {
        let seen = check(&[agent(&[startup(&parameters)])]);
        assert!(seen.commands()[0].statement.risks.contains(Risk::PRIVILEGE));
        assert_eq!(seen.statuses(), [Status::Denied]);
        assert_eq!(seen.up, b"");
        assert!(seen.ended);
        assert!(seen.down.windows(18).any(|window| window == b"SFATAL\0VFATAL\0C425"));
    }
}

#[test]
fn encryption_is_declined_once() {
    let ssl = [8_u32.to_be_bytes(), 80_877_103_u32.to_be_bytes()].concat();
    let gss = [8_u32.to_be_bytes(), 80_877_104_u32.to_be_bytes()].concat();
    let both = check(&[
        agent(std::slice::from_ref(&gss)),
        agent(std::slice::from_ref(&ssl)),
        opened()[0].clone(),
    ]);
    assert_eq!(both.down, b"NN");
    assert_eq!(both.commands().len(), 1);
    for (behind, what) in [
        (vec![ssl.clone(), ssl.clone()], "encryption is requested twice"),
        (vec![ssl.clone(), vec![0x16, 3, 1]], "TLS after it was declined"),
        (vec![vec![0x16, 3, 1]], "TLS without a request for it, where none is offered"),
    ] {
        let steps: Vec<Step> = behind.into_iter().map(|bytes| agent(&[bytes])).collect();
        let seen = check(&steps);
        assert_eq!(seen.violation(), Some(what));
        assert!(seen.ended);
    }
    // Stuffed bytes are caught even when they come alone, while the answer is not written.
    let stuffed = check(&[agent(&[ssl, startup(&[("user", "mallory")])])]);
    assert!(stuffed.violation().unwrap().contains("before its answer"));
    assert_eq!((stuffed.up.len(), stuffed.commands().len()), (0, 0));
}

#[test]
fn no_encryption_is_requested_inside_tls() {
    for code in [80_877_103_u32, 80_877_104] {
        let within = Leg::Tls { end_point: None };
        let transport = Transport { downstream: within, upstream: Leg::Plain };
        let mut session = PostgresSession::new(Arc::clone(&ANALYZER), transport);
        let request = [8_u32.to_be_bytes(), code.to_be_bytes()].concat();
        session.handle_input(Side::Downstream, &request, Timestamp::default());
        let event = session.poll_event();
        assert!(matches!(event, Some(Event::Violation(_))), "{event:?}");
        assert!(session.is_ended() && session.transmit(Side::Downstream).is_empty());
    }
}

fn cancel(process: u32, key: &[u8]) -> Vec<u8> {
    let length = u32::try_from(12 + key.len()).unwrap();
    [&length.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), &process.to_be_bytes(), key].concat()
}

#[test]
fn cancel_requests_go_up_with_the_servers_key() {
    for length in [4, 32, 256] {
        let seen = check(&[agent(&[cancel(7, &vec![b'o'; length])])]);
        assert_eq!(seen.commands()[0].kind, CommandKind::Cancel);
        assert_eq!(seen.statuses(), [Status::Ok]);
        assert_eq!(seen.up, cancel(70, &vec![b'r'; length]));
        assert_eq!(seen.down, b"");
    }
}

#[test]
fn keys_of_nobody_are_answered_by_closing() {
    let seen = check(&[agent(&[cancel(8, b"none")])]);
    assert_eq!(seen.statuses(), [Status::Skipped]);
    assert!(seen.ended && seen.up.is_empty() && seen.down.is_empty());
}

#[test]
fn the_agent_gets_a_key_of_ours() {
    let logged_in = |startup: &[u8], key: &[u8], before: &[Vec<u8>]| {
        let mut session = PostgresSession::new(Arc::clone(&ANALYZER), Transport::default());
        session.set_cancel_key(Secret::new(*b"abcdefghijklmnopqrstuvwxyz012345"));
        let mut transcript = Transcript::default();
        let mut answer = vec![message(b'R', &[0, 0, 0, 0])];
        answer.extend_from_slice(before);
        answer.push(message(b'K', &[&[0, 0, 0, 9], key].concat()));
        for (side, bytes) in [agent(&[startup.to_vec()]), server(&answer)] {
            session.handle_input(side, &bytes, Timestamp::default());
            settle(&mut session, &mut transcript);
        }
        let keys = session.issued_key().cloned();
        drain(&mut session, &mut transcript);
        (transcript, keys)
    };
    let of_version = |version: u32| {
        let mut packet = startup(&[("user", "bob"), ("_pq_.x", "y")]);
        packet[4..8].copy_from_slice(&version.to_be_bytes());
        packet
    };
    let older = [message(b'v', &[0, 3, 0, 0, 0, 0, 0, 0])];
    for (version, key, before, own) in [
        (196_608, b"real".to_vec(), &[][..], Some(4)),
        (196_610, vec![5; 32], &[], Some(32)),
        (196_610, vec![5; 256], &[], Some(32)),
        (196_610, b"real".to_vec(), &older, Some(4)),
        // Grease: as the agent sent it, and what the server makes of it.
        (0x0003_270f, b"real".to_vec(), &older, Some(4)),
        (196_608, vec![5; 32], &[], None),
        (196_610, vec![5; 32], &older, None),
        (196_610, vec![5; 257], &[], None),
        (196_608, b"abc".to_vec(), &[], None),
    ] {
        let packet = of_version(version);
        let (seen, keys) = logged_in(&packet, &key, before);
        assert_eq!(seen.up, packet, "{version:#x}");
        let Some(length) = own else {
            assert!(seen.violation().is_some() && keys.is_none(), "{version:#x} {key:?}");
            continue;
        };
        let keys = keys.unwrap();
        assert_eq!((keys.real.process, keys.real.key.expose()), (9, &key));
        let own = &b"abcdefghijklmnopqrstuvwxyz012345"[..length];
        assert!(seen.down.ends_with(&message(b'K', &[&[0, 0, 0, 9], own].concat())));
        assert_eq!(keys.own.key.expose(), own);
        assert!(before.iter().all(|one| memchr::memmem::find(&seen.down, one).is_some()));
    }
}

#[test]
fn replication_is_an_access_of_its_own() {
    let seen = check(&[agent(&[startup(&[("user", "bob"), ("replication", "database")])])]);
    let actions: Vec<_> =
        seen.commands()[0].statement.accesses.iter().map(|access| access.action).collect();
    assert_eq!(actions, [Action::Connect, Action::Replicate]);
}

#[test]
fn impossible_startup_packets_end_the_session() {
    for bytes in [
        10_000_000_u32.to_be_bytes().to_vec(),
        vec![0, 0, 0, 4],
        [9_u32.to_be_bytes().as_slice(), &196_608_u32.to_be_bytes(), &[0]].concat(),
        [8_u32.to_be_bytes(), 131_072_u32.to_be_bytes()].concat(),
    ] {
        let seen = check(&[agent(&[bytes])]);
        assert!(seen.ended && seen.violation().is_some() && seen.up.is_empty());
        assert_eq!(seen.down.first(), Some(&b'E'));
    }
}
