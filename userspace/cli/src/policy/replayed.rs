//! An archived command as policy saw it: whose, where, what it does.
//!
//! The archive has statements without their literals; what they do is found by analyzing that anew. Risks and lengths
//! are as they were recorded.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use journal::row::{EventRow, SessionRow};
use mask::classification::Classification;
use policy::exchange::Exchange;
use proto::sql::{Analyzer, Reading};
use types::addr::OrigDst;
use types::command::{
    Access, Action, Analysis, ColumnName, Command, CommandKind, Output, Risk, Statement,
    Transaction,
};
use types::id::{AgentName, CommandId};
use types::identity::{Actor, Identity, Subject, Token};
use types::principal::{Assurance, Principal, Process};
use types::redact::DataClass;
use types::target::{Target, UsedCredential};

/// How people proved themselves, by session; only its own row says.
pub(super) type Proofs = HashMap<String, Arc<Token>>;

/// What is decided of.
#[derive(Debug)]
pub(super) enum Asked {
    /// A command at a database.
    Command(Command),
    /// An HTTP request; values in its path are placeholders.
    Exchange(Box<Exchange>),
}

/// How the person of a session proved to be that.
pub(super) fn proof(row: &SessionRow) -> Arc<Token> {
    Arc::new(Token {
        client: row.actor_client.as_deref().map(Into::into),
        methods: row.authn_amr.iter().map(|method| method.as_str().into()).collect(),
        class: row.authn_acr.as_deref().map(Into::into),
        ..Token::default()
    })
}

/// Who asked; `None` where a name is none.
pub(super) fn principal(row: &EventRow, proofs: &Proofs) -> Option<Principal> {
    let assurance = [Assurance::A0, Assurance::A1, Assurance::A2]
        .into_iter()
        .find(|assurance| assurance.as_str() == row.session.assurance)?;
    // Those of the token come first, `sub@issuer`; agents' names have no `@`.
    let (actors, agents): (Vec<&String>, Vec<&String>) =
        row.session.agent_chain.iter().partition(|link| link.contains('@'));
    let chain: Option<Vec<AgentName>> = agents.iter().map(|name| name.parse().ok()).collect();
    let actor = |link: &&String| {
        let (sub, idp) = link.split_once('@')?;
        Some(Actor { idp: idp.into(), sub: sub.into(), client: None })
    };
    let subject = row.session.actor_user.as_deref().map(|user| Subject {
        user: user.into(),
        idp: row.session.actor_idp.as_deref().unwrap_or_default().into(),
        sub: row.session.actor_sub.as_deref().unwrap_or_default().into(),
        groups: row
            .session
            .actor_groups
            .iter()
            .flat_map(|groups| groups.iter())
            .map(|group| group.as_str().into())
            .collect(),
        token: proofs.get(&*row.session.session_id).cloned().unwrap_or_default(),
    });
    Some(Principal {
        agent: row.session.agent_id.parse().ok()?,
        instance: row.session.agent_instance.as_str().into(),
        chain: chain?.into(),
        identity: Arc::new(Identity {
            subject,
            actors: actors.iter().map(actor).collect::<Option<Vec<_>>>()?.into(),
            owner: row.session.agent_owner.as_deref().map(Into::into),
        }),
        process: Process::unseen(row.session.uid_os.and_then(|uid| u32::try_from(uid).ok())?),
        assurance,
    })
}

/// What was asked.
pub(super) fn target(row: &EventRow) -> Option<Target> {
    let protocol =
        ["postgresql", "http"].into_iter().find(|known| *known == row.session.protocol)?;
    let ip = row.session.dst_ip.as_deref().and_then(|ip| ip.parse::<IpAddr>().ok())?;
    let port = row.session.dst_port.and_then(|port| u16::try_from(port).ok())?;
    let credential = row.session.credential_ref.as_deref().map(|name| UsedCredential {
        name: name.into(),
        role: row.session.target_role.as_deref().unwrap_or_default().into(),
    });
    Some(Target {
        name: row.session.target_name.as_str().into(),
        addr: OrigDst(SocketAddr::new(ip, port)),
        host: row.session.dst_host.as_deref().map(Into::into),
        protocol,
        database: row.session.target_db.as_deref().map(Into::into),
        account: row.session.target_account.as_deref().map(Into::into),
        tls: None,
        credential,
    })
}

/// The command; `None` of what can't be decided anew from what is recorded.
pub(super) fn asked(row: &EventRow, analyzer: &Analyzer) -> Option<Asked> {
    if row.session.protocol == "http" {
        return exchange(row).map(|exchange| Asked::Exchange(Box::new(exchange)));
    }
    let kinds = [CommandKind::Connect, CommandKind::Query, CommandKind::FunctionCall];
    let kind = kinds.into_iter().find(|kind| kind.as_str() == row.statement.kind)?;
    let risks = risks(&row.statement.risks)?;
    let analysis = match kind {
        CommandKind::Query => query(row, analyzer, risks)?,
        CommandKind::FunctionCall => {
            // Which function is in no statement.
            let accesses = vec![Access { action: Action::Call, table: None }];
            Analysis::new("FUNCTION", "", accesses, risks)
        }
        _ => Analysis::new("CONNECT", "", connecting(risks), risks),
    };
    // Policy sees how long the statement was, and nothing else of its text.
    let length = usize::try_from(row.statement_len).ok()?;
    Some(Asked::Command(Command {
        id: CommandId(u32::try_from(row.session_seq).ok()?),
        kind,
        statement: Arc::new(Statement::new(" ".repeat(length), analysis)),
        parameters: Arc::default(),
        batch: u32::try_from(row.batch).ok()?,
        transaction: Transaction::None,
    }))
}

fn query(row: &EventRow, analyzer: &Analyzer, risks: Risk) -> Option<Analysis> {
    let reading = Reading { standard_conforming_strings: true };
    let statements = analyzer.analyze(row.statement.statement_norm.as_bytes(), reading);
    let [statement] = &*statements else { return None };
    Some(Analysis { risks, ..(*statement.analysis).clone() })
}

fn connecting(risks: Risk) -> Vec<Access> {
    let more = risks.contains(Risk::PRIVILEGE).then_some(Action::Privilege);
    let actions = [Action::Connect].into_iter().chain(more);
    actions.map(|action| Access { action, table: None }).collect()
}

fn exchange(row: &EventRow) -> Option<Exchange> {
    let reads = matches!(row.statement.verb.as_str(), "GET" | "HEAD" | "OPTIONS");
    let path = row.statement.objects.first()?.as_str();
    let (_, query) = row.statement.statement_norm.split_once('?').unwrap_or_default();
    let name = |part: &str| part.split('=').next().unwrap_or_default().into();
    Some(Exchange {
        action: if reads { Action::Fetch } else { Action::Submit },
        method: row.statement.verb.as_str().into(),
        path: path.into(),
        template: path.into(),
        host: row.session.target_host.as_deref().unwrap_or_default().into(),
        has_query: !query.is_empty(),
        names: query.split('&').filter(|part| !part.is_empty()).map(name).collect(),
        content_type: "".into(),
        is_tls: row.session.tls_version.is_some(),
    })
}

/// The risks of their archived words; `None` where one is not known.
fn risks(words: &[String]) -> Option<Risk> {
    words.iter().try_fold(Risk::empty(), |all, word| {
        Some(all | Risk::from_name(&word.to_ascii_uppercase())?)
    })
}

/// The classes that a statement's answer may show, by the names in it alone.
pub(super) fn shown(classification: &Classification, statement: &Analysis) -> Vec<DataClass> {
    let outputs = statement.outputs.iter().flatten();
    let found = outputs.flat_map(|output| match output {
        Output::Column(column) => classes(classification, std::slice::from_ref(column)),
        Output::Columns(columns) | Output::Several(Some(columns)) => {
            classes(classification, columns)
        }
        Output::Row(table) => {
            classification.classes_of(table, "*").map(|class| class.name.clone()).collect()
        }
        Output::Opaque | Output::Several(None) => Vec::new(),
    });
    sorted(found.collect())
}

/// The classes of these columns, by their names alone.
pub(super) fn classes(classification: &Classification, columns: &[ColumnName]) -> Vec<DataClass> {
    let of = |column: &ColumnName| {
        let name = match column.place() {
            Some(_) => "*",
            None => column.column.strip_prefix('?').unwrap_or(&column.column),
        };
        classification.classes_of(&column.table, name).map(|class| class.name.clone()).collect()
    };
    sorted(columns.iter().flat_map::<Vec<DataClass>, _>(of).collect())
}

fn sorted(mut classes: Vec<DataClass>) -> Vec<DataClass> {
    classes.sort_unstable();
    classes.dedup();
    classes
}
