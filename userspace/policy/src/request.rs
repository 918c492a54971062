//! Cedar's view of a request: entities and context, built natively from the vocabulary.
//!
//! Ids: `Agent::"NAME"`, `Host::"TARGET"`, `Database::"DATABASE"`, `Table::"DATABASE.SCHEMA.NAME"`
//! or, where the schema is not known, `Table::"DATABASE.NAME"`; a part that holds a dot or a quote
//! is quoted as in SQL, so no two tables share an id; `Path::"TARGET/PATH"`.

use std::collections::{HashMap, HashSet};

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, Request, RestrictedExpression,
    Schema,
};
use types::command::{Access, Action, CommandKind, Risk, Statement, TableName, Transaction};
use types::id::AgentName;
use types::identity::{Identity, Subject, Token};
use types::principal::Principal;
use types::redact::DataClass;
use types::target::Target;

use crate::exchange::{self, Exchange};
use crate::lookup::{Lookup, Shape, above};
use crate::obligation::{DISCLOSE, FETCH_UNMASKED, PROBE, REPLICATE_UNMASKED};

mod probe;

/// Any failure to build a request; means deny.
#[derive(Debug, thiserror::Error)]
#[error("the request could not be built: {0}")]
pub(crate) struct RequestError(String);

impl RequestError {
    /// The same error once more.
    pub(crate) fn again(&self) -> Self {
        Self(self.0.clone())
    }
}

/// How and when a statement comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Moment {
    /// By which message.
    pub(crate) kind: CommandKind,
    /// The hour of the day, UTC.
    pub(crate) hour: u8,
    /// In which state the session's transaction is.
    pub(crate) transaction: Transaction,
}

/// The parts of a session's requests that stay the same.
pub(crate) struct Requester {
    agent: EntityUid,
    database: EntityUid,
    fixed: Vec<Entity>,
    target: String,
    database_name: String,
    account: String,
    role: String,
}

impl Requester {
    /// The parts for `principal` at `target`, with the schema's action groups.
    pub(crate) fn new(
        principal: &Principal,
        target: &Target,
        actions: &[Entity],
    ) -> Result<Self, RequestError> {
        let database_name = target.database.as_deref().unwrap_or_default().to_owned();
        let agent = agent_uid(&principal.agent);
        let host = uid("Host", &target.name);
        let database = uid("Database", &database_name);
        let mut fixed = actions.to_vec();
        fixed.push(agent_entity(principal)?);
        fixed.push(entity(host.clone(), [("name", string(&target.name))], None)?);
        let name = [("name", string(&database_name))];
        fixed.push(entity(database.clone(), name, Some(host))?);
        Ok(Self {
            agent,
            database,
            fixed,
            target: target.name.as_ref().to_owned(),
            database_name,
            account: target.account.as_deref().unwrap_or_default().to_owned(),
            role: target.role().map_or_else(String::new, ToString::to_string),
        })
    }

    /// The entities of a statement's requests; it probes these classes.
    pub(crate) fn entities(
        &self,
        statement: &Statement,
        probed: &[DataClass],
    ) -> Result<Entities, RequestError> {
        let tables: HashSet<&TableName> =
            statement.accesses.iter().filter_map(|a| a.table.as_ref()).collect();
        let mut all = self.fixed.clone();
        for table in tables {
            all.push(self.table_entity(table)?);
        }
        for class in probed {
            all.push(class_entity(class)?);
        }
        Entities::from_entities(all, None).map_err(error)
    }

    /// The entities of requests to disclose `class`.
    pub(crate) fn disclose_entities(&self, class: &DataClass) -> Result<Entities, RequestError> {
        let mut all = self.fixed.clone();
        all.push(class_entity(class)?);
        Entities::from_entities(all, None).map_err(error)
    }

    /// The context of all requests of one statement.
    pub(crate) fn context(
        &self,
        statement: &Statement,
        moment: Moment,
    ) -> Result<Context, RequestError> {
        let Moment { kind, hour, transaction } = moment;
        let functions =
            RestrictedExpression::new_set(statement.functions.iter().map(|name| string(name)));
        let unknown = statement.unknown_functions.iter().map(|name| string(name));
        let unknown = RestrictedExpression::new_set(unknown);
        let bytes = i64::try_from(statement.text.len()).unwrap_or(i64::MAX);
        let fields = self.place().into_iter().chain([
            ("risk".to_owned(), risks(statement.risks)?),
            ("verb".to_owned(), string(statement.verb)),
            ("functions".to_owned(), functions),
            ("unknownFunctions".to_owned(), unknown),
            ("hour".to_owned(), RestrictedExpression::new_long(i64::from(hour))),
            ("kind".to_owned(), string(kind.as_str())),
            ("statementBytes".to_owned(), RestrictedExpression::new_long(bytes)),
            ("transaction".to_owned(), string(transaction.as_str())),
        ]);
        Context::from_pairs(fields).map_err(error)
    }

    /// The request for one access.
    pub(crate) fn request(
        &self,
        access: &Access,
        context: Context,
        schema: Option<&Schema>,
    ) -> Result<Request, RequestError> {
        let resource = match &access.table {
            Some(table) => self.table_uid(table),
            None => self.database.clone(),
        };
        let action = uid("Action", access.action.as_str());
        Request::new(self.agent.clone(), action, resource, context, schema).map_err(error)
    }

    /// The request to probe `class`.
    pub(crate) fn probe(
        &self,
        class: &DataClass,
        context: Context,
        schema: Option<&Schema>,
    ) -> Result<Request, RequestError> {
        let (action, resource) = (uid("Action", PROBE), uid("DataClass", &class.0));
        Request::new(self.agent.clone(), action, resource, context, schema).map_err(error)
    }

    /// The request to replicate `class`, which is masked otherwise.
    pub(crate) fn replicate_unmasked(
        &self,
        class: &DataClass,
        context: Context,
        schema: Option<&Schema>,
    ) -> Result<Request, RequestError> {
        let (action, resource) = (uid("Action", REPLICATE_UNMASKED), uid("DataClass", &class.0));
        Request::new(self.agent.clone(), action, resource, context, schema).map_err(error)
    }

    /// The request to disclose `class`.
    pub(crate) fn disclose(
        &self,
        class: &DataClass,
        schema: Option<&Schema>,
    ) -> Result<Request, RequestError> {
        let context = Context::from_pairs(self.place()).map_err(error)?;
        let (action, resource) = (uid("Action", DISCLOSE), uid("DataClass", &class.0));
        Request::new(self.agent.clone(), action, resource, context, schema).map_err(error)
    }

    /// The entities of a lookup's request.
    pub(crate) fn lookup_entities(&self, lookup: &Lookup) -> Result<Entities, RequestError> {
        let mut all = self.fixed.clone();
        all.push(name_entity(lookup)?);
        Entities::from_entities(all, None).map_err(error)
    }

    /// The request to look a name up; `hour` is of the day, UTC.
    pub(crate) fn lookup(
        &self,
        lookup: &Lookup,
        hour: u8,
        schema: Option<&Schema>,
    ) -> Result<Request, RequestError> {
        let context = Context::from_pairs([
            ("recordType".to_owned(), string(&lookup.record_type)),
            ("server".to_owned(), string(&lookup.server)),
            ("transport".to_owned(), string(lookup.transport)),
            ("hour".to_owned(), RestrictedExpression::new_long(i64::from(hour))),
        ]);
        let action = uid("Action", lookup.action.as_str());
        let (context, name) = (context.map_err(error)?, uid("Name", &lookup.name));
        Request::new(self.agent.clone(), action, name, context, schema).map_err(error)
    }

    /// The entities of an HTTP request's requests, where these classes are masked.
    pub(crate) fn exchange_entities(
        &self,
        exchange: &Exchange,
        masked: &[DataClass],
    ) -> Result<Entities, RequestError> {
        let Exchange { path, .. } = exchange;
        let mut ids = exchange::ids(&self.target, path).into_iter();
        let own = uid("Path", &ids.next().unwrap_or_default());
        // Flat, as an agent's: no entity is needed for what stands above.
        let above = ids.map(|id| uid("Path", &id)).chain([uid("Host", &self.target)]).collect();
        let attributes = [("path", string(path)), ("target", string(&self.target))];
        let attributes = attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        let mut all = self.fixed.clone();
        all.push(Entity::new(own, attributes, above).map_err(error)?);
        for class in masked {
            all.push(class_entity(class)?);
        }
        Entities::from_entities(all, None).map_err(error)
    }

    /// The context of all requests of one HTTP request; `hour` is of the day, UTC.
    pub(crate) fn exchange_context(
        &self,
        exchange: &Exchange,
        hour: u8,
    ) -> Result<Context, RequestError> {
        let Exchange {
            action: _,
            method,
            path,
            template: _,
            host,
            has_query,
            names,
            content_type,
            is_tls,
        } = exchange;
        let names = RestrictedExpression::new_set(names.iter().map(|name| string(name)));
        let fields = [
            ("method", string(method)),
            ("path", string(path)),
            ("host", string(host)),
            ("query", RestrictedExpression::new_bool(*has_query)),
            ("queryNames", names),
            ("contentType", string(content_type)),
            ("tls", RestrictedExpression::new_bool(*is_tls)),
            ("target", string(&self.target)),
            ("hour", RestrictedExpression::new_long(i64::from(hour))),
        ];
        Context::from_pairs(fields.map(|(name, value)| (name.to_owned(), value))).map_err(error)
    }

    /// The request to fetch or submit.
    pub(crate) fn exchange(
        &self,
        exchange: &Exchange,
        context: Context,
        schema: Option<&Schema>,
    ) -> Result<Request, RequestError> {
        let action = uid("Action", exchange.action.as_str());
        let path = uid("Path", &format!("{}{}", self.target, exchange.path));
        Request::new(self.agent.clone(), action, path, context, schema).map_err(error)
    }

    /// The request to have what may hold `class` as it is.
    pub(crate) fn fetch_unmasked(
        &self,
        class: &DataClass,
        context: Context,
        schema: Option<&Schema>,
    ) -> Result<Request, RequestError> {
        let (action, resource) = (uid("Action", FETCH_UNMASKED), uid("DataClass", &class.0));
        Request::new(self.agent.clone(), action, resource, context, schema).map_err(error)
    }

    fn place(&self) -> [(String, RestrictedExpression); 4] {
        [
            ("target".to_owned(), string(&self.target)),
            ("database".to_owned(), string(&self.database_name)),
            ("account".to_owned(), string(&self.account)),
            ("role".to_owned(), string(&self.role)),
        ]
    }

    fn table_uid(&self, table: &TableName) -> EntityUid {
        let mut id = part(&self.database_name);
        for name in table.schema.iter().chain([&table.name]) {
            id.push('.');
            id.push_str(&part(name));
        }
        uid("Table", &id)
    }

    fn table_entity(&self, table: &TableName) -> Result<Entity, RequestError> {
        let mut attributes =
            vec![("name", string(&table.name)), ("database", string(&self.database_name))];
        if let Some(schema) = &table.schema {
            attributes.push(("schema", string(schema)));
        }
        entity(self.table_uid(table), attributes, Some(self.database.clone()))
    }
}

/// The id of an agent.
pub(crate) fn agent_uid(agent: &AgentName) -> EntityUid {
    uid("Agent", agent.as_str())
}

/// Checks that a schema describes every request that can be made; the error says which it does not.
pub(crate) fn check_schema(schema: &Schema) -> Result<(), String> {
    probe::check(schema).map_err(|RequestError(message)| message)
}

fn agent_entity(principal: &Principal) -> Result<Entity, RequestError> {
    let Principal { agent, instance: _, chain, identity, process, assurance } = principal;
    let mut attributes = HashMap::from([
        ("name".to_owned(), string(agent.as_str())),
        ("uid".to_owned(), RestrictedExpression::new_long(i64::from(process.uid))),
        ("assurance".to_owned(), string(assurance.as_str())),
    ]);
    let Identity { subject, actors: _, owner } = &**identity;
    if let Some(Subject { user, idp, sub, groups: _, token }) = subject {
        let Token { client, methods, class, .. } = &**token;
        let methods = methods.iter().map(|method| string(method));
        attributes.insert("user".to_owned(), string(user));
        attributes.insert("idp".to_owned(), string(idp));
        attributes.insert("sub".to_owned(), string(sub));
        attributes.insert("methods".to_owned(), RestrictedExpression::new_set(methods));
        let known = [("client", client), ("authClass", class)];
        let known = known.into_iter().filter_map(|(name, text)| Some((name, text.as_ref()?)));
        attributes.extend(known.map(|(name, text)| (name.to_owned(), string(text))));
    }
    if let Some(owner) = owner {
        attributes.insert("owner".to_owned(), string(owner));
    }
    // Flat, not nested: an agent that appears twice in a chain must not become its own ancestor.
    let outer = chain.iter().filter(|other| *other != agent).map(agent_uid);
    let parents = outer.chain(behind(identity)).collect();
    Entity::new(agent_uid(agent), attributes, parents).map_err(error)
}

/// The groups of the person that an agent acts for, and who acts between them.
pub(crate) fn behind(identity: &Identity) -> impl Iterator<Item = EntityUid> {
    let groups = identity.subject.iter().flat_map(|subject| subject.groups.iter());
    let groups = groups.map(|group| uid("Group", group));
    groups.chain(identity.actors.iter().map(|actor| uid("Actor", &actor.to_string())))
}

/// A name with its facts, directly below every name above it.
fn name_entity(lookup: &Lookup) -> Result<Entity, RequestError> {
    let Lookup { name, is_target, is_listed, .. } = lookup;
    let Shape { is_hostname, labels, longest_label, bytes, entropy } = Shape::of(name);
    let flag = RestrictedExpression::new_bool;
    let number = RestrictedExpression::new_long;
    let attributes = [
        ("name", string(name)),
        ("isTarget", flag(*is_target)),
        ("isListed", flag(*is_listed)),
        ("isHostname", flag(is_hostname)),
        ("labels", number(labels)),
        ("longestLabel", number(longest_label)),
        ("bytes", number(bytes)),
        ("entropy", number(entropy)),
    ];
    let attributes = attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    let parents = above(name).map(|name| uid("Name", name)).collect();
    Entity::new(uid("Name", name), attributes, parents).map_err(error)
}

fn class_entity(class: &DataClass) -> Result<Entity, RequestError> {
    entity(uid("DataClass", &class.0), [("name", string(&class.0))], None)
}

fn entity<'a>(
    uid: EntityUid,
    attributes: impl IntoIterator<Item = (&'a str, RestrictedExpression)>,
    parent: Option<EntityUid>,
) -> Result<Entity, RequestError> {
    let attributes = attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    Entity::new(uid, attributes, parent.into_iter().collect()).map_err(error)
}

fn risks(risks: Risk) -> Result<RestrictedExpression, RequestError> {
    let fields = RISKS.iter().map(|(name, risk)| {
        ((*name).to_owned(), RestrictedExpression::new_bool(risks.contains(*risk)))
    });
    RestrictedExpression::new_record(fields).map_err(error)
}

/// The risks as the schema and the cases name them.
pub(crate) const RISKS: [(&str, Risk); 13] = [
    ("noWhere", Risk::NO_WHERE),
    ("ddl", Risk::DDL),
    ("copyProgram", Risk::COPY_PROGRAM),
    ("privilege", Risk::PRIVILEGE),
    ("unsafeFunction", Risk::UNSAFE_FUNCTION),
    ("opaque", Risk::OPAQUE),
    ("unparsed", Risk::UNPARSED),
    ("multi", Risk::MULTI),
    ("statistics", Risk::STATISTICS),
    ("sideEffect", Risk::SIDE_EFFECT),
    ("reinterprets", Risk::REINTERPRETS),
    ("unknownFunction", Risk::UNKNOWN_FUNCTION),
    ("fullExport", Risk::FULL_EXPORT),
];

/// Every action on a database, for the probe of the schema and the cases.
pub(crate) const ACTIONS: [Action; 13] = [
    Action::Connect,
    Action::Session,
    Action::Select,
    Action::Insert,
    Action::Update,
    Action::Delete,
    Action::Call,
    Action::Ddl,
    Action::Privilege,
    Action::Admin,
    Action::Replicate,
    Action::Cancel,
    Action::Unknown,
];

/// Every action on a name, likewise.
pub(crate) const LOOKUPS: [Action; 2] = [Action::Resolve, Action::ResolveData];

/// Every action on a path, likewise.
pub(crate) const EXCHANGES: [Action; 2] = [Action::Fetch, Action::Submit];

fn uid(kind: &str, id: &str) -> EntityUid {
    let kind: EntityTypeName = kind.parse().expect("a type's name is an identifier");
    EntityUid::from_type_name_and_id(kind, EntityId::new(id))
}

fn part(name: &str) -> String {
    if name.contains(['.', '"']) {
        format!("\"{}\"", name.replace('"', "\"\""))
    } else {
        name.to_owned()
    }
}

fn string(text: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(text.to_owned())
}

fn error(e: impl std::fmt::Display) -> RequestError {
    RequestError(e.to_string())
}
