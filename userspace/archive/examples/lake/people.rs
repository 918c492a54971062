//! Who asks, and whom.

use std::net::SocketAddr;
use std::sync::Arc;

use types::addr::OrigDst;
use types::id::CgroupId;
use types::identity::{Identity, Subject, Token, Way};
use types::principal::{Assurance, Principal, Process, ProcessKey, Provenance};
use types::target::Target;

use crate::chance::Chance;
use crate::statements::{Speaks, pick};

/// Where identities are from.
pub(crate) const ISSUER: &str = "https://login.bank.example";

const AGENTS: [&str; 5] = ["recon", "kyc-bot", "ops-copilot", "deploy", "fraud-triage"];

/// An agent of one of 200 people, some busier than others, from its start to its end.
pub(crate) fn principal(user: u32, day: i64, chance: &mut Chance) -> Principal {
    let agent = user % 40;
    let name = |number: u32| format!("{}-{number:02}", pick(&AGENTS, u64::from(number % 5)));
    let mut chain = vec![name(agent)];
    if agent.is_multiple_of(3) {
        chain.insert(0, name(agent + 1));
    }
    let start_ns = chance.below(1_000_000_000_000);
    let parent = ProcessKey { tgid: 1_000 + agent, start_ns: 7_000_000_000 + u64::from(agent) };
    let tgid = u32::try_from(chance.between(10_000, 4_000_000)).expect("a process");
    Principal {
        agent: name(agent).parse().expect("an agent's name"),
        instance: format!("{}-{day}", name(agent)).into(),
        chain: chain.iter().map(|name| name.parse().expect("an agent's name")).collect(),
        identity: Arc::new(identity(user, day)),
        process: Process {
            key: ProcessKey { tgid, start_ns },
            provenance: Provenance { ancestors: [parent].into(), ..Provenance::default() },
            uid: 2_000 + agent,
            gid: 2_000,
            cgroup: CgroupId(5_000 + u64::from(agent)),
            exe: None,
            exe_path: Some(
                format!("/opt/agents/{}/bin/python3", pick(&AGENTS, u64::from(agent % 5))).into(),
            ),
            exe_sha256: Some([u8::try_from(agent % 5).expect("one of five"); 32]),
            comm: "python3".into(),
        },
        assurance: Assurance::A1,
    }
}

fn identity(user: u32, day: i64) -> Identity {
    let name = format!("user{user:03}@bank.example");
    let since = day * 86_400 + 28_800;
    let token = Token {
        way: Way::File,
        client: Some("agent-console".into()),
        id: Some(format!("t-{user:03}-{day}").into()),
        session: Some(format!("s-{user:03}-{day}").into()),
        issued_s: since,
        expires_s: since + 86_400,
        authenticated_s: Some(since),
        // One in fifty has no second factor: somebody must be found.
        methods: if user % 50 == 49 {
            ["pwd".into()].into()
        } else {
            ["pwd".into(), "mfa".into()].into()
        },
        class: Some("2".into()),
    };
    let group = format!("team-{}", user % 12);
    let subject = Subject {
        user: name.as_str().into(),
        idp: ISSUER.into(),
        sub: format!("00u{user:05}").into(),
        groups: ["staff".into(), group.into()].into(),
        token: token.into(),
    };
    Identity { subject: Some(subject), actors: [].into(), owner: Some(name.into()) }
}

/// One of 50 targets.
pub(crate) fn target(number: u64) -> (Target, SocketAddr) {
    let speaks = Speaks::of(number);
    let host = format!(
        "{}-{number:02}.prod.bank.example",
        pick(&["pg", "db", "k8s", "api", "dba"], number % 5)
    );
    let port = if speaks.is_http() { 443 } else { 5432 };
    let addr = SocketAddr::from(([10, 1, 0, u8::try_from(number).expect("one of 50")], port));
    let is_sql = !speaks.is_http();
    let target = Target {
        name: format!("{}-{number:02}", pick(&["pg", "db", "k8s", "api", "dba"], number % 5))
            .into(),
        addr: OrigDst(addr),
        host: Some(host.into()),
        protocol: if is_sql { "postgresql" } else { "http" },
        database: is_sql.then(|| format!("db{}", number % 4).into()),
        account: is_sql.then(|| "agent_ro".into()),
        tls: None,
        credential: None,
    };
    (target, SocketAddr::from(([10, 0, 0, 9], 40_000)))
}
