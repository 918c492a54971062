//! The shipped policies against their cases, and the decision point's own promises.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use policy::{LoadError, PolicySet, PolicySource, SessionPolicy, cases};
use proptest::prelude::*;
use types::addr::OrigDst;
use types::command::{
    Access, Action, Analysis, Command, CommandKind, Risk, Statement, TableName, Transaction,
};
use types::decision::{Decision, Effect, Obligation};
use types::id::{AgentName, CgroupId, CommandId};
use types::principal::{Assurance, Principal, Process, ProcessKey, Provenance};
use types::redact::Operator;
use types::target::Target;

#[test]
fn shipped_cases() {
    let policies = PolicySet::compile(&shipped()).unwrap();
    assert!(run(&policies, &dir().join("cases/baseline.toml")) > 20);
}

#[test]
fn examples() {
    for (name, replaces) in [
        ("teller-updates", None),
        ("change-window", None),
        ("email-clearance", Some("masks.cedar")),
        ("resolve-domain", None),
        ("held-writes", None),
        ("find-by-email", None),
        ("known-functions", None),
        ("masked-dump", None),
        ("backup", None),
        ("read-limits", None),
        ("no-contractors", None),
        ("http-api", None),
    ] {
        let mut source = shipped();
        source.policies.retain(|(file, _)| Some(file.as_str()) != replaces);
        let file = format!("{name}.cedar");
        source.policies.push((file.clone(), read(&dir().join("examples").join(file))));
        let policies = PolicySet::compile(&source).unwrap();
        assert!(run(&policies, &dir().join(format!("examples/{name}.toml"))) > 1);
        // The baseline's own cases hold with every example beside it.
        run(&policies, &dir().join("cases/baseline.toml"));
    }
    assert_eq!(names(&dir().join("examples"), "cedar").len(), 12, "an example is not tested");
}

#[test]
fn invalid_policies_are_refused() {
    let files = names(&dir().join("invalid"), "cedar");
    assert!(files.len() > 15);
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let source = PolicySource { policies: vec![(name.clone(), read(&path))], ..shipped() };
        let error = PolicySet::compile(&source).err().unwrap_or_else(|| panic!("{name} compiled"));
        let message = path.with_extension("expected");
        if std::env::var_os("UPDATE_EXPECTED").is_some() {
            fs::write(&message, format!("{error}\n")).unwrap();
        }
        assert_eq!(format!("{error}\n"), read(&message), "{name}");
    }
}

#[test]
fn a_case_that_is_wrong_fails() {
    let policies = PolicySet::compile(&shipped()).unwrap();
    let text = "[[case]]\nname = \"x\"\nagent = \"a\"\ntarget = \"t\"\ndatabase = \"d\"\n\
                action = \"ddl\"\nexpect = \"allow\"\n";
    let case = &cases::parse(text).unwrap()[0];
    let difference = case.run(&policies).unwrap_err().to_string();
    assert!(difference.starts_with("effect is deny (no-ddl: "), "{difference}");
    assert!(cases::parse(&text.replace("ddl", "dll")).is_err());
    assert!(cases::parse(&text.replace("agent", "agnet")).is_err());
}

#[test]
fn overflow_in_a_forbid_denies() {
    let policies = with(
        "@id(\"overflow\") forbid (principal, action == Action::\"select\", resource) \
         when { context.statementBytes + 9223372036854775807 > 0 };",
    );
    let decision = decide(&policies, &command(Action::Select, Risk::empty()));
    assert_eq!(decision.effect, Effect::Deny);
    assert_eq!(decision.rule(), "overflow");
}

#[test]
fn overflow_in_a_mask_replaces() {
    let policies = with(
        "@id(\"overflow\") @mask(\"partial\") \
         forbid (principal, action == Action::\"disclose\", resource == DataClass::\"us_ssn\") \
         when { principal.uid + 9223372036854775807 > 0 };",
    );
    assert_eq!(mask(&session(&policies), "us_ssn"), Some(Operator::Replace));
}

#[test]
fn the_strictest_mask_holds() {
    for (extra, want) in [
        ("@id(\"x\") @mask(\"hash\") forbid", Operator::Hash),
        ("@id(\"x\") @mask(\"replace\") forbid", Operator::Replace),
        ("@id(\"x\") @mask(\"null\") forbid", Operator::Null),
        ("@id(\"x\") forbid", Operator::Replace),
        ("@id(\"x\") permit", Operator::Partial),
    ] {
        let policies = with(&format!(
            "{extra} (principal, action == Action::\"disclose\", resource == DataClass::\"us_ssn\");"
        ));
        assert_eq!(mask(&session(&policies), "us_ssn"), Some(want), "{extra}");
    }
}

#[test]
fn a_class_that_nothing_permits_is_replaced() {
    let mut source = shipped();
    source.classification.push_str("\n[[class]]\nname = \"salary\"\ncolumns = [\"*.salary\"]\n");
    let policies = PolicySet::compile(&source).unwrap();
    assert_eq!(mask(&session(&policies), "salary"), Some(Operator::Replace));
}

#[test]
fn an_allow_carries_its_masks() {
    let policies = PolicySet::compile(&shipped()).unwrap();
    let session = session(&policies);
    let decision = session.authorize(&command(Action::Select, Risk::empty()), &[], 0);
    let masks: Vec<Obligation> = session.masks().iter().cloned().map(Obligation::Mask).collect();
    assert_eq!(&*decision.obligations, masks);
    assert_eq!(masks.len(), 6);
    assert_eq!(decision.policy_digest, policies.digest());
}

#[test]
fn approvals_of_all_accesses_are_united() {
    let policies = with(
        "@id(\"w\") permit (principal, action in Action::\"write\", resource);\
         @id(\"a\") @approve(\"owners\") forbid (principal, action == Action::\"insert\", resource);\
         @id(\"b\") @approve(\"risk\") forbid (principal, action == Action::\"delete\", resource);",
    );
    let mut both = command(Action::Insert, Risk::empty());
    analysis_of(&mut both).accesses.push(Access { action: Action::Delete, table: None });
    let decision = decide(&policies, &both);
    assert_eq!(decision.effect, Effect::RequireApproval);
    let ids: Vec<&str> = decision.determining.iter().map(|id| &*id.0).collect();
    assert_eq!(ids, ["a", "b"]);
    assert_eq!(&*decision.reason, "needs the approval of owners and risk");
}

#[test]
fn the_memory_of_decisions_knows_the_hour_the_kind_and_the_statement() {
    let policies = with(
        "@id(\"window\") forbid (principal, action == Action::\"select\", resource) \
         when { context.hour >= 4 };\
         @id(\"kind\") forbid (principal, action == Action::\"select\", resource) \
         when { context.kind == \"db.function\" };\
         @id(\"open\") forbid (principal, action == Action::\"select\", resource) \
         when { context.transaction == \"open\" };",
    );
    let session = session(&policies);
    let mut select = command(Action::Select, Risk::empty());
    let hour = 3_600_000_000;
    for _ in 0..2 {
        assert!(session.authorize(&select, &[], 4 * hour - 1).is_allow());
        assert!(!session.authorize(&select, &[], 4 * hour).is_allow());
        assert!(session.authorize(&select, &[], 24 * hour).is_allow());
        assert!(!session.authorize(&select, &[], -1).is_allow(), "23:59:59 on the day before");
    }
    for (transaction, rule) in [(Transaction::Open, "open"), (Transaction::Failed, "base-read")] {
        let select = Command { transaction, ..select.clone() };
        assert_eq!(session.authorize(&select, &[], 0).rule(), rule);
    }
    select.kind = CommandKind::FunctionCall;
    assert_eq!(session.authorize(&select, &[], 0).rule(), "kind");
    // Statements that come and go at one address are not taken for each other.
    for round in 0..2_000 {
        let risks = if round % 2 == 0 { Risk::empty() } else { Risk::OPAQUE };
        let decision = session.authorize(&command(Action::Select, risks), &[], 0);
        assert_eq!(decision.is_allow(), risks.is_empty(), "round {round}");
    }
}

#[test]
fn sessions_are_shared_by_equal_identities_only() {
    let policies = PolicySet::compile(&shipped()).unwrap();
    let (one, target) = (principal("analyst"), target());
    let first = policies.session(&one, &target);
    let other_instance = Principal { instance: "2".into(), ..one.clone() };
    assert!(Arc::ptr_eq(&first, &policies.session(&other_instance, &target)));
    for (principal, target) in [
        (principal("other"), target.clone()),
        (Principal { assurance: Assurance::A2, ..one.clone() }, target.clone()),
        (one.clone(), Target { database: Some("b".into()), ..target.clone() }),
        (one.clone(), Target { account: None, ..target.clone() }),
    ] {
        assert!(!Arc::ptr_eq(&first, &policies.session(&principal, &target)));
    }
}

#[test]
fn a_nested_agent_is_in_its_outer_ones() {
    let policies = with(
        "@id(\"outer\") forbid (principal in Agent::\"outer\", action == Action::\"select\", resource);",
    );
    let select = command(Action::Select, Risk::empty());
    let inner = Principal {
        chain: ["outer", "inner", "outer", "inner"].map(|a| a.parse().unwrap()).into(),
        ..principal("inner")
    };
    assert_eq!(policies.session(&inner, &target()).authorize(&select, &[], 0).rule(), "outer");
    assert!(policies.session(&principal("inner"), &target()).authorize(&select, &[], 0).is_allow());
}

#[test]
fn a_quoted_dot_makes_no_other_tables_id() {
    let policies = with(
        "@id(\"w\") permit (principal, action == Action::\"insert\", \
         resource == Table::\"bank.public.customers\");",
    );
    for (schema, name, allowed) in [
        (Some("public"), "customers", true),
        (None, "public.customers", false),
        (None, "customers", false),
        (Some("public.customers"), "x", false),
    ] {
        let mut insert = command(Action::Insert, Risk::empty());
        let table = TableName { schema: schema.map(Arc::from), name: name.into() };
        analysis_of(&mut insert).accesses =
            vec![Access { action: Action::Insert, table: Some(table) }];
        assert_eq!(decide(&policies, &insert).is_allow(), allowed, "{schema:?} {name}");
    }
}

#[test]
fn nothing_known_is_denied() {
    let policies = with("@id(\"all\") permit (principal, action, resource);");
    let mut empty = command(Action::Select, Risk::empty());
    analysis_of(&mut empty).accesses.clear();
    assert_eq!(decide(&policies, &empty).effect, Effect::Deny);
    let mut wide = command(Action::Select, Risk::empty());
    analysis_of(&mut wide).accesses = vec![Access { action: Action::Select, table: None }; 1_025];
    assert_eq!(decide(&policies, &wide).effect, Effect::Deny);
}

#[test]
fn the_digest_names_the_source() {
    let digest = |source: &PolicySource| PolicySet::compile(source).unwrap().digest();
    let source = shipped();
    let mut turned = source.clone();
    turned.policies.reverse();
    assert_eq!(digest(&source), digest(&turned));
    let mut changed = source.clone();
    changed.policies[0].1.push('\n');
    assert_ne!(digest(&source), digest(&changed));
}

#[test]
fn a_schema_that_does_not_fit_is_refused() {
    let mut source = shipped();
    source.schema = source.schema.replace("  statementBytes: Long,\n", "");
    let error = PolicySet::compile(&source).err().unwrap();
    assert!(matches!(error, LoadError::SchemaMismatch { .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// A forbid more never widens what is allowed, and never weakens a mask to nothing.
    #[test]
    fn a_forbid_more_never_allows_more(
        scope in prop::sample::select(vec!["principal", "principal == Agent::\"analyst\"", "principal in Agent::\"x\""]),
        kind in prop::sample::select(vec!["", "@approve(\"o\")"]),
        action in prop::sample::select(vec!["select", "insert", "ddl", "unknown", "session"]),
        condition in prop::sample::select(vec!["context.hour > 11", "context.risk.multi", "context.functions.contains(\"f\")"]),
        asked in prop::sample::select(vec![Action::Select, Action::Insert, Action::Ddl, Action::Unknown, Action::Session]),
        bits in 0_u32..2048,
        hour in 0_i64..24,
    ) {
        let before = with("@id(\"w\") permit (principal, action in Action::\"write\", resource);");
        let after = with(&format!(
            "@id(\"w\") permit (principal, action in Action::\"write\", resource);\
             @id(\"f\") {kind} forbid ({scope}, action == Action::\"{action}\", resource) when {{ {condition} }};"
        ));
        let command = command(asked, Risk::from_bits_truncate(bits));
        let at = hour * 3_600_000_000;
        let (before, after) =
            (session(&before).authorize(&command, &[], at), session(&after).authorize(&command, &[], at));
        prop_assert!(rank(after.effect) <= rank(before.effect), "{before:?} {after:?}");
    }
}

fn rank(effect: Effect) -> u8 {
    match effect {
        Effect::Deny => 0,
        Effect::RequireApproval => 1,
        Effect::Allow => 2,
    }
}

fn run(policies: &PolicySet, file: &Path) -> usize {
    let cases = cases::parse(&read(file)).unwrap();
    for case in &cases {
        if let Err(difference) = case.run(policies) {
            panic!("{}: {}: {difference}", file.display(), case.name);
        }
    }
    cases.len()
}

fn with(extra: &str) -> PolicySet {
    let mut source = shipped();
    source.policies.push(("extra.cedar".to_owned(), extra.to_owned()));
    PolicySet::compile(&source).unwrap()
}

fn shipped() -> PolicySource {
    let policies = names(&dir(), "cedar")
        .into_iter()
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), read(&path)));
    PolicySource {
        schema: read(&dir().join("vestibule.cedarschema")),
        policies: policies.collect(),
        classification: read(&dir().join("classification.toml")),
    }
}

fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies")
}

fn names(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == ending)).collect();
    paths.sort();
    paths
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn mask(session: &SessionPolicy, class: &str) -> Option<Operator> {
    session.masks().iter().find(|m| &*m.class.0 == class).map(|m| m.operator)
}

fn session(policies: &PolicySet) -> Arc<SessionPolicy> {
    policies.session(&principal("analyst"), &target())
}

fn decide(policies: &PolicySet, command: &Command) -> Decision {
    session(policies).authorize(command, &[], 0)
}

fn command(action: Action, risks: Risk) -> Command {
    let accesses = vec![Access { action, table: None }];
    let analysis =
        Analysis { functions: vec!["f".into()], ..Analysis::new("UNKNOWN", "q", accesses, risks) };
    Command {
        id: CommandId(1),
        kind: CommandKind::Query,
        statement: Arc::new(Statement::new("q", analysis)),
        parameters: Arc::default(),
        batch: 1,
        transaction: Transaction::None,
    }
}

fn analysis_of(command: &mut Command) -> &mut Analysis {
    Arc::make_mut(&mut Arc::make_mut(&mut command.statement).analysis)
}

fn principal(agent: &str) -> Principal {
    let agent: AgentName = agent.parse().unwrap();
    Principal {
        chain: [agent.clone()].into(),
        agent,
        instance: "1".into(),
        identity: Arc::default(),
        process: Process {
            key: ProcessKey { tgid: 1, start_ns: 1 },
            provenance: Provenance::default(),
            uid: 1000,
            gid: 1000,
            cgroup: CgroupId(1),
            exe: None,
            exe_path: None,
            exe_sha256: None,
            comm: "t".into(),
        },
        assurance: Assurance::A0,
    }
}

fn target() -> Target {
    Target {
        name: "core".into(),
        addr: OrigDst(SocketAddr::from((Ipv4Addr::LOCALHOST, 5432))),
        host: None,
        protocol: "postgresql",
        database: Some("bank".into()),
        account: Some("analyst".into()),
        tls: None,
        credential: None,
    }
}
