//! What goes in comes out, for any content; and whatever comes in, decoding does not panic.

use std::sync::Arc;

use proptest::prelude::*;
use types::addr::OrigDst;
use types::clock::Timestamp;
use types::command::{Action, Analysis, BlindToken, BlindTokens, CommandKind, Statement};
use types::decision::{Effect, Limit, Measure};
use types::event::{Outcome, Status};
use types::id::{AgentName, CgroupId, CommandId, RequestId, SessionId};
use types::identity::{Actor, Identity, Subject, Token, Way};
use types::principal::{Assurance, ImageKey, Inode, Login};
use types::redact::{DataClass, MaskCount};
use types::target::{Target, Tls};

use super::*;
use crate::codec::Cursor;
use crate::decode;
use crate::frame::FrameKind;
use crate::record::{AccessEntry, Record, RecordedChunk};

const BOOT: BootId = BootId([5; 16]);

fn back(kind: FrameKind, frame: &Frame<'_>) -> Record {
    let mut body = Vec::new();
    put_body(&mut body, frame, BOOT, text_digest(frame));
    assert!(body.len() <= crate::record::BODY_BYTES_MAX);
    let record = decode::record(kind, &body).unwrap().unwrap();
    // No shorter body is one but those of earlier versions, and no longer one.
    let earlier = match kind {
        FrameKind::Begin => 5, // 2 to 6
        FrameKind::End => 2,   // 2 and 3
        _ => 0,
    };
    let shorter = (0..body.len()).step_by(1 + body.len() / 64);
    let read = shorter.filter(|cut| decode::record(kind, &body[..*cut]).is_ok()).count();
    assert!(read <= earlier);
    body.push(0);
    assert!(decode::record(kind, &body).is_err());
    record
}

fn at() -> impl Strategy<Value = Timestamp> {
    (any::<i64>(), any::<u64>()).prop_map(|(unix_us, mono_ns)| Timestamp { unix_us, mono_ns })
}

fn id() -> impl Strategy<Value = SessionId> {
    any::<[u8; 16]>().prop_map(SessionId::from_bytes)
}

fn agent() -> impl Strategy<Value = AgentName> {
    "[a-z0-9][a-z0-9._-]{0,62}".prop_map(|name| name.parse().unwrap())
}

fn key() -> impl Strategy<Value = ProcessKey> {
    any::<(u32, u64)>().prop_map(|(tgid, start_ns)| ProcessKey { tgid, start_ns })
}

fn process() -> impl Strategy<Value = Process> {
    let numbers = any::<(u32, u32, u64, Option<(u32, u64)>, Option<[u8; 32]>)>();
    (key(), provenance(), numbers, any::<Option<String>>(), ".{0,15}").prop_map(
        |(key, provenance, (uid, gid, cgroup, exe, exe_sha256), path, comm)| Process {
            key,
            provenance,
            uid,
            gid,
            cgroup: CgroupId(cgroup),
            exe: exe.map(|(dev, ino)| Inode { dev, ino }),
            exe_path: path.map(Into::into),
            exe_sha256,
            comm: comm.into(),
        },
    )
}

fn provenance() -> impl Strategy<Value = Provenance> {
    let ancestors = proptest::collection::vec(key(), 0..=ANCESTORS_MAX);
    let texts = any::<(Option<String>, Option<String>)>();
    let held = any::<Option<(u32, u64, bool, bool)>>();
    let pairs = any::<(Option<(u32, u64)>, Option<(u32, u32)>)>();
    (ancestors, any::<bool>(), texts, held, pairs).prop_map(
        |(ancestors, whole, (line, container), held, (image, login))| Provenance {
            ancestors: ancestors.into(),
            whole,
            image: image.map(|(tgid, at_ns)| ImageKey { tgid, at_ns }),
            command_line: line.map(Into::into),
            container: container.map(Into::into),
            confinement: held.map(
                |(euid, effective_capabilities, no_new_privs, seccomp_filter)| Confinement {
                    euid,
                    effective_capabilities,
                    no_new_privs,
                    seccomp_filter,
                },
            ),
            login: login.map(|(uid, session)| Login { uid, session }),
        },
    )
}

fn principal() -> impl Strategy<Value = Principal> {
    let assurance = prop_oneof![Just(Assurance::A0), Just(Assurance::A1), Just(Assurance::A2)];
    let chain = proptest::collection::vec(agent(), 0..5);
    (agent(), any::<String>(), chain, identity(), process(), assurance).prop_map(
        |(agent, instance, chain, identity, process, assurance)| Principal {
            agent,
            instance: instance.into(),
            chain: chain.into(),
            identity: identity.into(),
            process,
            assurance,
        },
    )
}

fn name() -> impl Strategy<Value = Arc<str>> {
    any::<String>().prop_map(Into::into)
}

fn names() -> impl Strategy<Value = Arc<[Arc<str>]>> {
    proptest::collection::vec(name(), 0..4).prop_map(Into::into)
}

fn maybe() -> impl Strategy<Value = Option<Arc<str>>> {
    proptest::option::of(name())
}

fn token() -> impl Strategy<Value = Token> {
    let way = prop_oneof![
        Just(Way::File),
        Just(Way::Login),
        Just(Way::Client),
        Just(Way::Bearer),
        Just(Way::Password),
        Just(Way::Exchange)
    ];
    let times = any::<(i64, i64, Option<i64>)>();
    (way, maybe(), maybe(), maybe(), times, names(), maybe()).prop_map(
        |(way, client, id, session, (issued_s, expires_s, authenticated_s), methods, class)| {
            Token { way, client, id, session, issued_s, expires_s, authenticated_s, methods, class }
        },
    )
}

fn identity() -> impl Strategy<Value = Identity> {
    let subject =
        (name(), name(), name(), names(), token()).prop_map(|(user, idp, sub, groups, token)| {
            Subject { user, idp, sub, groups, token: token.into() }
        });
    let actor = (name(), name(), maybe()).prop_map(|(idp, sub, client)| Actor { idp, sub, client });
    let actors = proptest::collection::vec(actor, 0..4);
    (proptest::option::of(subject), actors, maybe()).prop_map(|(subject, actors, owner)| Identity {
        subject,
        actors: actors.into(),
        owner,
    })
}

fn parameter() -> impl Strategy<Value = Parameter> {
    let value = prop_oneof![
        Just(ParameterValue::Null),
        any::<(String, u32)>().prop_map(|(text, bytes)| ParameterValue::Text { text, bytes }),
        any::<(Vec<u8>, u32)>().prop_map(|(head, bytes)| ParameterValue::Binary { head, bytes }),
    ];
    (any::<u32>(), value).prop_map(|(type_oid, value)| Parameter { type_oid, value })
}

fn statement(normalized: &str, tables: &[(Option<String>, String)], risks: u32) -> Statement {
    let action = |number: usize| kind::action(u8::try_from(number % 12).unwrap() + 1).unwrap();
    let access = |(number, (schema, name)): (usize, &(Option<String>, String))| Access {
        action: action(number),
        table: Some(TableName {
            schema: schema.as_deref().map(Into::into),
            name: name.as_str().into(),
        }),
    };
    let mut accesses: Vec<_> = tables.iter().enumerate().map(access).collect();
    accesses.push(Access { action: Action::Session, table: None });
    let risks = Risk::from_bits_truncate(risks);
    let analysis = Analysis::new("CREATE TABLE", normalized, accesses, risks);
    Statement::new("", Analysis { fingerprint: i64::MIN, ..analysis })
}

fn window_use() -> impl Strategy<Value = Box<WindowUse>> {
    let policies = proptest::collection::vec("[a-z-]{1,40}", 0..5);
    (policies, any::<(u64, u64, u64)>()).prop_map(|(policies, (rows, bytes, us))| {
        let policies = policies.into_iter().map(|id| PolicyId(id.into())).collect();
        Box::new(WindowUse { policies, rows, bytes, us })
    })
}

fn approval() -> impl Strategy<Value = Approval> {
    let covers = prop_oneof![
        Just(Coverage::Command),
        any::<u32>().prop_map(Coverage::Alike),
        Just(Coverage::Session)
    ];
    let approvers = proptest::collection::vec(".{0,40}", 0..4);
    let numbers = any::<([u8; 16], Option<i64>, bool, Option<u64>)>();
    (approvers, proptest::option::of(covers), numbers).prop_map(
        |(approvers, covers, (request, granted_us, broken_glass, held_us))| Approval {
            request: RequestId::from_bytes(request),
            approvers,
            granted_us,
            covers,
            broken_glass,
            held_us,
        },
    )
}

/// The first of the policies sets limits, one of them over a window.
fn decision(policies: &[String]) -> Decision {
    let limit = |window_s| {
        let policy = PolicyId(policies.first()?.as_str().into());
        Some(Obligation::Limit(Limit { policy, measure: Measure::Rows, most: 1, window_s }))
    };
    Decision {
        effect: Effect::RequireApproval,
        obligations: limit(None).into_iter().chain(limit(Some(5))).collect(),
        determining: policies.iter().map(|id| PolicyId(id.as_str().into())).collect(),
        reason: "because".into(),
        policy_digest: [8; 32],
    }
}

proptest! {
    #[test]
    fn sessions_come_back(
        session in id(),
        at in at(),
        principal in principal(),
        (source, orig_dst) in any::<(std::net::SocketAddrV4, std::net::SocketAddrV4)>(),
        six in any::<(u128, u16)>(),
        (netns_cookie, socket_cookie, name) in any::<(u64, u64, String)>(),
        (database, account) in any::<(Option<String>, Option<String>)>(),
        used in any::<Option<(String, String)>>(),
    ) {
        let addr: std::net::SocketAddr =
            if six.0 % 2 == 0 { orig_dst.into() } else { (std::net::Ipv6Addr::from(six.0), six.1).into() };
        let target = Target {
            name: name.as_str().into(),
            addr: OrigDst(addr),
            host: (six.1 % 2 == 0).then(|| "db.bank.example".into()),
            protocol: "postgresql",
            database: database.map(Into::into),
            tls: (six.1 % 3 == 0)
                .then(|| Tls { version: "TLSv1.3".into(), peer: "ab".repeat(32).into() }),
            // A credential is of an account.
            account: account.or(used.as_ref().map(|_| String::new())).map(Into::into),
            credential: used.map(|(name, role)| UsedCredential { name: name.into(), role: role.into() }),
        };
        let (principal_in, source) = (&principal, source.into());
        let open = SessionOpen {
            session, at, principal: principal_in, source, netns_cookie, socket_cookie,
            target: &target,
        };
        let Record::SessionOpen(found) = back(FrameKind::SessionOpen, &Frame::SessionOpen(open))
        else { panic!("kind") };
        prop_assert_eq!((found.session, found.at, found.boot_id), (session, at, BOOT));
        prop_assert_eq!(&found.principal, &principal);
        prop_assert_eq!((found.source, found.target_addr), (source, addr));
        prop_assert_eq!(
            (found.netns_cookie, found.socket_cookie),
            (netns_cookie, socket_cookie)
        );
        prop_assert_eq!(&*found.target_name, &name);
        prop_assert_eq!(&*found.protocol, "postgresql");
        prop_assert_eq!((found.database, found.account), (target.database, target.account));
        prop_assert_eq!(found.credential, target.credential);
        prop_assert_eq!(found.host, target.host);
        prop_assert_eq!(found.totals, Totals::default());
    }

    #[test]
    fn begins_come_back(
        (session, command, at) in (id(), any::<u32>(), at()),
        text in any::<String>(),
        normalized in any::<String>(),
        tables in proptest::collection::vec(any::<(Option<String>, String)>(), 0..20),
        parameters in proptest::collection::vec(parameter(), 0..9),
        (risks, batch) in any::<(u32, u32)>(),
        policies in proptest::collection::vec("[a-z-]{1,40}", 0..5),
        approval in proptest::option::of(approval()),
        tokens in proptest::collection::vec(any::<[u8; 8]>(), 0..600),
    ) {
        let blind = BlindTokens { tokens: tokens.into_iter().map(BlindToken).collect(), is_cut: batch % 2 == 0 };
        let (statement, decision) = (statement(&normalized, &tables, risks), decision(&policies));
        let frame = Frame::Begin(Begin {
            session, command: CommandId(command), at, kind: CommandKind::Query,
            statement: &statement, text: &text, parameters: &parameters, batch,
            decision: &decision, decided_us: 7, identity: 0, approval: approval.as_ref(),
            blind: (!blind.tokens.is_empty()).then_some(&blind),
        });
        let Record::Begin(found) = back(FrameKind::Begin, &frame) else { panic!("kind") };
        prop_assert_eq!(
            (found.session, found.command, found.at),
            (session, CommandId(command), at)
        );
        prop_assert_eq!((found.kind, found.batch), (CommandKind::Query, batch));
        prop_assert_eq!((&found.text, found.text_sha256), (&text, None));
        let whole = if text.is_empty() { &*statement.text } else { text.as_str() };
        prop_assert_eq!(found.text_bytes, u64::try_from(whole.len()).unwrap());
        prop_assert_eq!(&found.statement.normalized, &normalized);
        prop_assert_eq!((found.statement.fingerprint, found.statement.verb.as_str()), (i64::MIN, "CREATE TABLE"));
        prop_assert_eq!((found.statement.risks, found.parameters), (statement.risks, parameters));
        prop_assert_eq!(found.statement.is_write, statement.needs_wal());
        let accesses: Vec<_> = statement.accesses.iter().map(|access| AccessEntry {
            action: access.action,
            object: access.table.as_ref().map(ToString::to_string),
        }).collect();
        prop_assert_eq!(&found.statement.accesses, &accesses);
        prop_assert_eq!(found.decided_us, Some(7));
        prop_assert_eq!(found.approval, approval);
        let kept = &blind.tokens[..blind.tokens.len().min(BLIND_TOKENS_MAX)];
        prop_assert_eq!(&*found.blind.tokens, kept);
        prop_assert_eq!(found.blind.is_cut, blind.is_cut && !kept.is_empty());
        let windows: Vec<_> = policies.first().map(|id| PolicyId(id.as_str().into())).into_iter().collect();
        prop_assert_eq!(found.windows, windows);
        prop_assert_eq!(found.decision.effect, decision.effect);
        prop_assert_eq!(found.decision.rule.as_str(), decision.rule());
        prop_assert_eq!(found.decision.determining.as_slice(), &*decision.determining);
        prop_assert_eq!(&*found.decision.reason, &*decision.reason);
        prop_assert_eq!(found.decision.policy_digest, decision.policy_digest);
    }

    #[test]
    fn ends_closes_and_controls_come_back(
        (session, command, at) in (id(), any::<u32>(), at()),
        status in 1_u8..=5,
        numbers in any::<(Option<[u8; 5]>, Option<u64>, u64, u64)>(),
        masked in proptest::collection::vec(any::<(String, u64)>(), 0..5),
        sample in any::<Vec<u8>>(),
        (sent_at, first_at, digest) in (
            proptest::option::of(at()), proptest::option::of(at()), any::<Option<[u8; 32]>>(),
        ),
        used in proptest::option::of(window_use()),
        (reason, what, detail) in any::<(String, String, String)>(),
    ) {
        let (error_code, rows, bytes_in, bytes_out) = numbers;
        let masked: Vec<_> = masked.into_iter().map(|(class, count)| MaskCount {
            class: DataClass(class.into()),
            count,
        }).collect();
        let status = kind::status(status).unwrap();
        let command = CommandId(command);
        let outcome = Outcome {
            command, status, error_code, rows, bytes_in, bytes_out, masked, sample, sent_at, first_at,
            digest, used,
        };
        let end = Frame::End(End { session, at, outcome: &outcome });
        let Record::End(found) = back(FrameKind::End, &end) else { panic!("kind") };
        prop_assert_eq!((found.session, found.at, found.outcome), (session, at, outcome));
        let close = Frame::SessionClose(SessionClose { session, at, reason: &reason });
        let Record::SessionClose(found) = back(FrameKind::SessionClose, &close)
        else { panic!("kind") };
        prop_assert_eq!((found.session, found.at, found.reason), (session, at, reason));
        let control = Frame::Control(Control { at, kind: &what, detail: &detail });
        let Record::Control(found) = back(FrameKind::Control, &control) else { panic!("kind") };
        prop_assert_eq!((found.at, found.kind, found.detail), (at, what, detail));
    }

    #[test]
    fn chunks_come_back(
        (session, command, chunk) in (id(), any::<u32>(), any::<u32>()),
        (first_at, last_at) in (at(), at()),
        (stream, codec) in any::<(String, String)>(),
        nonce in any::<[u8; 12]>(),
        sealed in any::<Vec<u8>>(),
    ) {
        let command = CommandId(command);
        let frame = Frame::Chunk(Chunk {
            session, command, stream: &stream, chunk, first_at, last_at, codec: &codec, nonce,
            sealed: &sealed,
        });
        let Record::Chunk(found) = back(FrameKind::Chunk, &frame) else { panic!("kind") };
        let expected = RecordedChunk {
            session, command, stream, chunk, first_at, last_at, codec, nonce, sealed,
        };
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn no_body_makes_decoding_panic(body in any::<Vec<u8>>()) {
        for kind in [
            FrameKind::SessionOpen,
            FrameKind::Begin,
            FrameKind::End,
            FrameKind::SessionClose,
            FrameKind::Control,
            FrameKind::Identity,
            FrameKind::Chunk,
        ] {
            // An error or, by a rare chance, a record.
            drop(decode::record(kind, &body));
        }
    }
}

#[test]
fn what_is_too_long_is_cut_and_the_whole_is_named() {
    let text = "é".repeat(STATEMENT_TEXT_BYTES_MAX);
    let table = (Some("s".repeat(9000)), "t".repeat(9000));
    let tables = vec![table; 2 * ACCESSES_MAX];
    let (statement, decision) =
        (statement(&text, &tables, 0), decision(&vec!["p".repeat(9000); 999]));
    let value = ParameterValue::Text { text: text.clone(), bytes: 7 };
    let parameters = vec![Parameter { type_oid: 25, value }; 2 * PARAMETERS_MAX];
    let frame = Frame::Begin(Begin {
        session: SessionId::from_bytes([1; 16]),
        command: CommandId(1),
        at: Timestamp::default(),
        kind: CommandKind::Query,
        statement: &statement,
        text: &text,
        parameters: &parameters,
        batch: 0,
        decision: &decision,
        decided_us: 7,
        identity: 0,
        approval: None,
        blind: None,
    });
    let Record::Begin(found) = back(FrameKind::Begin, &frame) else { panic!("kind") };
    assert_eq!(found.text.len(), STATEMENT_TEXT_BYTES_MAX);
    assert_eq!(found.text_bytes, u64::try_from(text.len()).unwrap());
    let digest: [u8; 32] = Sha256::digest(&text).into();
    assert_eq!(found.text_sha256, Some(digest));
    assert_eq!(found.statement.accesses.len(), ACCESSES_MAX);
    assert_eq!(found.parameters.len(), PARAMETERS_MAX);
    assert_eq!(found.decision.determining.len(), NAMES_MAX);
    // In version 6 it ended before the tokens.
    let mut body = Vec::new();
    put_body(&mut body, &frame, BOOT, text_digest(&frame));
    body.pop();
    assert_eq!(decode::record(FrameKind::Begin, &body).unwrap(), Some(Record::Begin(found)));
}

#[test]
fn records_of_earlier_versions_are_still_read() {
    let outcome = crate::queue::interrupted(CommandId(3));
    let end = End {
        session: SessionId::from_bytes([1; 16]),
        at: Timestamp::default(),
        outcome: &outcome,
    };
    let mut old_subject = Vec::new();
    put_u8(&mut old_subject, 1);
    for name in ["ada", "idp", "s1"] {
        put_str(&mut old_subject, name, 9);
    }
    let found = identity::get(&mut Cursor::new(&old_subject)).unwrap();
    assert_eq!(
        found.subject.map(|one| [one.user, one.idp, one.sub].join(" ")).unwrap(),
        "ada idp s1"
    );
    assert_eq!(identity::get(&mut Cursor::new(&[0])), Ok(Identity::default()));
    let mut body = Vec::new();
    put_body(&mut body, &Frame::End(end), BOOT, None);
    // Two absent fields less in each version.
    for _ in [3, 2] {
        body.truncate(body.len() - 2);
        let Some(Record::End(found)) = decode::record(FrameKind::End, &body).unwrap() else {
            panic!("kind")
        };
        assert_eq!(found.outcome, outcome);
    }
    assert!((2..=7).all(crate::frame::is_known) && !crate::frame::is_known(8));
}

#[test]
fn numbers_of_words_go_both_ways() {
    for code in 0..=u8::MAX {
        let status = kind::status(code).map(kind::status_code);
        assert_eq!(status.is_ok_and(|c| c == code), (1..=6).contains(&code));
        let action = kind::action(code).map(kind::action_code);
        assert_eq!(action.is_ok_and(|c| c == code), (1..=17).contains(&code));
        let effect = kind::effect(code).map(kind::effect_code);
        assert_eq!(effect.is_ok_and(|c| c == code), (1..=3).contains(&code));
    }
    assert_eq!(kind::status_code(Status::Interrupted), 5);
    assert_eq!(kind::status_code(Status::Limited), 6);
}
