//! Writes an archive in which nearly every ready question has rows into a folder, for engines that are compared:
//! `cargo run -p archive --example eventful -- DIR [SESSIONS]`.

#![expect(clippy::unwrap_used, reason = "an example that fails may end")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::PathBuf;
use std::sync::Arc;

use common::Node;
use journal::record::{Approval, Begin, Frame};
use types::approval::Coverage;
use types::clock::Clock;
use types::command::{
    Access, Action, Analysis, BlindToken, BlindTokens, CommandKind, Risk, Statement, TableName,
};
use types::decision::{Decision, Effect};
use types::id::{CommandId, PolicyId, RequestId, SessionId};

/// Control records as the daemon writes them, as far as questions look into them.
const CONTROLS: &[(&str, &str)] = &[
    ("policy.loaded", r#"{"old_digest":null,"new_digest":"aa","files":["baseline.cedar"]}"#),
    ("policy.text", r#"{"new_digest":"aa","file":"baseline.cedar","text":"permit (…);"}"#),
    (
        "policy.loaded",
        r#"{"old_digest":"aa","new_digest":"bb","files":["it's \"quoted\"\\.cedar"]}"#,
    ),
    ("archive.retention", r#"{"std7y_days":2557,"payload13m_days":397}"#),
    ("hold.set", r#"{"name":"LH-7","where":{"agent":"reader"},"reason":"case 17"}"#),
    ("hold.released", r#"{"name":"LH-7"}"#),
    ("archive.dispose_refused", r#"{"hold":"LH-7","files":[]}"#),
    ("ship.shipped", r#"{"to":"file:///mnt/archive","size":7}"#),
    ("agent.enrolled", r#"{"agent":"reader","subject":"ada"}"#),
];

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    let to = PathBuf::from(arguments.next().unwrap());
    let sessions: u32 = arguments.next().map_or(2, |n| n.to_str().unwrap().parse().unwrap());
    let mut node = Node::start(64 * 1024 * 1024);
    for (kind, detail) in CONTROLS {
        node.last = node.recorder.control(kind, detail).unwrap();
    }
    node.heartbeat();
    for _ in 0..sessions {
        node.session(170);
    }
    approved(&mut node);
    node.seal();
    // Past midnight, and longer without a heartbeat than may be.
    node.sleep(7_200_000_000);
    node.heartbeat();
    let bypassed =
        r#"{"flows_observed":9,"flows_bypassed":1,"ring_drops":2,"clock_state":"unsynced"}"#;
    node.last = node.recorder.control("heartbeat", bypassed).unwrap();
    node.session(17);
    // What is open when the daemon ends has no known end.
    let open = node.open();
    node.begin(open, 1, "SELECT name FROM customers WHERE id = 1");
    node.restart();
    node.seal();
    for part in ["archive", "journal", "keys"] {
        let from = node.dir.path().join(part);
        common::plant(&to.join(part), &common::tree(&from));
    }
}

/// A session of commands that people let through: one another's, one's own, in an emergency; one names tagged values.
fn approved(node: &mut Node) {
    let session = node.open();
    let who = [("bob@idp", false), ("ada", false), ("bob@idp", true), ("s1@idp", false)];
    for (command, (approver, broken_glass)) in (1..).zip(who) {
        let approval = Approval {
            request: RequestId::new(node.clock.now(), [command; 10]),
            approvers: vec![approver.to_owned()],
            granted_us: Some(node.clock.now().unix_us),
            covers: Some(Coverage::Alike(20)),
            broken_glass,
            held_us: Some(4_000_000),
        };
        begin(node, session, u32::from(command), "GRANT", Some(&approval));
        node.end(session, u32::from(command), false);
    }
    // Of a kind that has no verb.
    begin(node, session, 5, "", None);
    node.end(session, 5, false);
    node.close(session);
}

fn begin(
    node: &mut Node,
    session: SessionId,
    command: u32,
    verb: &'static str,
    approval: Option<&Approval>,
) {
    let at = node.clock.now();
    let sql = "GRANT SELECT ON public.accounts TO reader";
    let table = TableName { schema: Some("public".into()), name: "accounts".into() };
    let accesses = vec![Access { action: Action::Privilege, table: Some(table) }];
    let analysis = Analysis::new(verb, sql.to_owned(), accesses, Risk::DDL);
    let statement = Statement::new(sql, analysis);
    let decision = Decision {
        effect: Effect::Allow,
        obligations: Arc::from([]),
        determining: Arc::from([PolicyId("p2".into())]),
        reason: "people may let it through".into(),
        policy_digest: [4; 32],
    };
    let tokens = vec![BlindToken([1; 8]), BlindToken([2; 8])];
    let blind = BlindTokens { tokens, is_cut: true };
    let frame = Frame::Begin(Begin {
        session,
        command: CommandId(command),
        at,
        kind: CommandKind::Query,
        statement: &statement,
        text: sql,
        parameters: &[],
        batch: command,
        decision: &decision,
        decided_us: 7,
        identity: 0,
        approval,
        blind: Some(&blind),
    });
    node.last = node.recorder.append(frame).unwrap();
}
