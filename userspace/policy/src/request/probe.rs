//! Checks a schema once, so that no request needs to be checked when it is made.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use cedar_policy::{Entities, Schema};
use types::addr::OrigDst;
use types::command::{
    Access, Action, Analysis, CommandKind, Risk, Statement, TableName, Transaction,
};
use types::id::AgentName;
use types::identity::{Actor, Identity, Subject, Token};
use types::principal::{Assurance, Principal, Process};
use types::redact::DataClass;
use types::target::Target;

use super::{ACTIONS, EXCHANGES, LOOKUPS, Moment, RequestError, Requester, error};
use crate::exchange::Exchange;
use crate::lookup::Lookup;

const MOMENT: Moment = Moment { kind: CommandKind::Query, hour: 0, transaction: Transaction::None };

/// Makes one request of every form, with every attribute that can be there, against the schema.
pub(super) fn check(schema: &Schema) -> Result<(), RequestError> {
    let actions: Vec<_> = schema.action_entities().map_err(error)?.iter().cloned().collect();
    for subject in [None, Some(subject())] {
        let requester = Requester::new(&principal(subject), &target(), &actions)?;
        let table =
            |schema: Option<&str>| TableName { schema: schema.map(Arc::from), name: "t".into() };
        for table in [None, Some(table(None)), Some(table(Some("s")))] {
            for action in ACTIONS {
                let access = Access { action, table: table.clone() };
                let statement = statement(access.clone());
                conform(&requester.entities(&statement, &[])?, schema)?;
                let context = requester.context(&statement, MOMENT)?;
                requester.request(&access, context, Some(schema))?;
            }
        }
        let class = DataClass("probe".into());
        conform(&requester.disclose_entities(&class)?, schema)?;
        requester.disclose(&class, Some(schema))?;
        let statement = statement(Access { action: Action::Select, table: None });
        let context = requester.context(&statement, MOMENT)?;
        requester.probe(&class, context.clone(), Some(schema))?;
        requester.replicate_unmasked(&class, context, Some(schema))?;
        for action in LOOKUPS {
            let lookup = lookup(action);
            conform(&requester.lookup_entities(&lookup)?, schema)?;
            requester.lookup(&lookup, 0, Some(schema))?;
        }
        for action in EXCHANGES {
            let exchange = exchange(action);
            conform(
                &requester.exchange_entities(&exchange, std::slice::from_ref(&class))?,
                schema,
            )?;
            let context = requester.exchange_context(&exchange, 0)?;
            requester.exchange(&exchange, context.clone(), Some(schema))?;
            requester.fetch_unmasked(&class, context, Some(schema))?;
        }
    }
    Ok(())
}

fn conform(entities: &Entities, schema: &Schema) -> Result<(), RequestError> {
    Entities::from_entities(entities.iter().cloned(), Some(schema)).map(drop).map_err(error)
}

fn statement(access: Access) -> Statement {
    let analysis = Analysis::new("SELECT", "", vec![access], Risk::empty());
    Statement::new("", Analysis { functions: vec!["f".into()], ..analysis })
}

fn lookup(action: Action) -> Lookup {
    Lookup {
        name: "probe.example".into(),
        record_type: "A".into(),
        action,
        is_target: false,
        is_listed: false,
        server: "".into(),
        transport: "udp",
    }
}

fn exchange(action: Action) -> Exchange {
    Exchange {
        action,
        method: "GET".into(),
        path: "/a/b".into(),
        template: "/a/b".into(),
        host: "probe.example".into(),
        has_query: true,
        names: vec!["n".into()],
        content_type: "".into(),
        is_tls: false,
    }
}

fn subject() -> Subject {
    let name: Arc<str> = "n".into();
    let some = || Some(Arc::clone(&name));
    let token =
        Token { client: some(), methods: [name.clone()].into(), class: some(), ..Token::default() };
    let (user, groups) = (name.clone(), [name.clone()].into());
    Subject { user, idp: name.clone(), sub: name.clone(), groups, token: token.into() }
}

fn target() -> Target {
    Target {
        name: "probe".into(),
        addr: OrigDst(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
        host: None,
        protocol: "postgresql",
        database: Some("probe".into()),
        account: Some("probe".into()),
        tls: None,
        credential: None,
    }
}

fn principal(subject: Option<Subject>) -> Principal {
    let agent: AgentName = "probe".parse().expect("a valid name");
    let outer: AgentName = "outer".parse().expect("a valid name");
    let name: Arc<str> = "n".into();
    let actor = Actor { idp: name.clone(), sub: name.clone(), client: None };
    let owner = subject.is_some().then_some(name);
    let identity = Identity { subject, actors: [actor].into(), owner };
    Principal {
        chain: [outer, agent.clone()].into(),
        agent,
        instance: "".into(),
        identity: Arc::new(identity),
        process: Process::unseen(0),
        assurance: Assurance::A0,
    }
}
