//! What agents ask: SQL on a bank's tables, requests to two HTTP services, and what is asked of a server itself.

use std::sync::Arc;

use types::command::{
    Access, Action, Analysis, ColumnName, CommandKind, Risk, Statement, TableName,
};

use crate::chance::Chance;

const TABLES: [&str; 20] = [
    "core.accounts",
    "core.customers",
    "core.transactions",
    "core.ledger_entries",
    "cards.pan_vault",
    "cards.authorizations",
    "loans.applications",
    "loans.repayments",
    "kyc.documents",
    "kyc.screenings",
    "ops.jobs",
    "ops.reconciliations",
    "risk.scores",
    "risk.limits",
    "fx.rates",
    "pay.wires",
    "pay.ach_batches",
    "pay.sepa",
    "hr.employees",
    "audit.reviews",
];

const SESSION: [(&str, &str); 4] = [
    ("BEGIN", "BEGIN"),
    ("COMMIT", "COMMIT"),
    ("SET", "SET application_name = 'agent'"),
    ("SELECT", "SELECT 1"),
];

const ADMIN: [(&str, &str); 6] = [
    (
        "SELECT",
        "SELECT state, count(*) FROM pg_stat_activity WHERE datname = 'core' GROUP BY state",
    ),
    ("SHOW", "SHOW max_connections"),
    ("SELECT", "SELECT pg_database_size('core')"),
    (
        "SELECT",
        "SELECT relname, n_dead_tup FROM pg_stat_user_tables ORDER BY n_dead_tup DESC LIMIT 20",
    ),
    ("SHOW", "SHOW server_version"),
    ("VACUUM", "VACUUM ops.jobs"),
];

/// What a target speaks, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Sql,
    Pods,
    Customers,
    Admin,
}

impl Speaks {
    pub(crate) fn of(target: u64) -> Self {
        match target % 5 {
            0 | 1 => Self::Sql,
            2 => Self::Pods,
            3 => Self::Customers,
            _ => Self::Admin,
        }
    }

    pub(crate) fn is_http(self) -> bool {
        matches!(self, Self::Pods | Self::Customers)
    }
}

/// One that is asked.
pub(crate) struct Asked {
    pub(crate) kind: CommandKind,
    pub(crate) statement: Statement,
    /// Whether rows come.
    pub(crate) reads: bool,
    /// Whether they are of a table of people.
    pub(crate) is_select: bool,
}

/// All shapes, analysed once, as the proxy keeps them.
pub(crate) struct Shapes {
    tables: Vec<[Arc<Analysis>; 4]>,
    session: Vec<Arc<Analysis>>,
    admin: Vec<Arc<Analysis>>,
    pods: Vec<Arc<Analysis>>,
    customers: Vec<Arc<Analysis>>,
}

impl Shapes {
    pub(crate) fn new() -> Self {
        let fixed = |action| {
            move |(verb, text): &(&'static str, &'static str)| {
                analysis(verb, text, vec![Access { action, table: None }], &[])
            }
        };
        let http = |verbs: &[&'static str], path: &'static str| {
            verbs.iter().map(|verb| request(verb, path)).collect()
        };
        Self {
            tables: (0..TABLES.len()).map(of_table).collect(),
            session: SESSION.iter().map(fixed(Action::Session)).collect(),
            admin: ADMIN
                .iter()
                .map(|one| {
                    fixed(if one.0 == "VACUUM" { Action::Admin } else { Action::Select })(one)
                })
                .collect(),
            pods: http(&["GET", "PATCH", "POST"], "/api/v1/namespaces/{}/pods/{}"),
            customers: http(&["GET", "POST", "PUT"], "/v2/customers/{}/accounts"),
        }
    }

    /// The next that is asked of a target that speaks so.
    pub(crate) fn ask(&self, speaks: Speaks, agent: u32, chance: &mut Chance) -> Asked {
        match speaks {
            Speaks::Sql => self.sql(agent, chance),
            Speaks::Admin => {
                let at = chance.below(6);
                query(pick(&self.admin, at), pick(&ADMIN, at).1.to_owned(), at != 5)
            }
            Speaks::Pods => {
                let (pod, verb) = (chance.below(400), chance.below(5).saturating_sub(2));
                let space = pick(&["payments", "core", "kyc"], pod % 3);
                let name = pick(&["api", "worker", "ledger"], pod % 3);
                let shape = pick(&self.pods, verb);
                let of = pod * 2_654_435;
                let text = format!("{} /api/v1/namespaces/{space}/pods/{name}-{of:x}", shape.verb);
                asked(CommandKind::Request, shape, text, verb == 0)
            }
            Speaks::Customers => {
                let (customer, verb) = (chance.below(100_000), chance.below(3));
                let (shape, page) = (pick(&self.customers, verb), customer % 7);
                let text = format!(
                    "{} /v2/customers/{customer}/accounts?expand=balances&page={page}",
                    shape.verb
                );
                asked(CommandKind::Request, shape, text, verb == 0)
            }
        }
    }

    fn sql(&self, agent: u32, chance: &mut Chance) -> Asked {
        let at = u64::from(chance.skewed(20, 2));
        let id = chance.between(1, 5_000_000);
        let [one, many, update, insert] = pick(&self.tables, at);
        let (table, other) = (pick(&TABLES, at), pick(&TABLES, (at + 3) % 20));
        match chance.below(10) {
            0..=4 => {
                let text = format!(
                    "SELECT id, name, email, balance, status, updated_at FROM {table} WHERE id = {id} AND tenant_id = 'fi-{:02}'",
                    id % 17
                );
                query(one, text, true)
            }
            5 | 6 => {
                let text = format!(
                    "SELECT a.*, b.amount, b.booked_at FROM {table} a JOIN {other} b ON b.account_id = a.id WHERE b.booked_at >= \
                     '2025-{:02}-{:02}' AND b.amount > {}.{:02} ORDER BY b.booked_at DESC LIMIT 100",
                    1 + id % 12,
                    1 + id % 28,
                    id % 100_000,
                    id % 100
                );
                query(many, text, true)
            }
            7 => {
                let text = format!(
                    "UPDATE {table} SET status = 'reviewed', reviewer = 'agent-{agent}', updated_at = now() WHERE id = {id}"
                );
                query(update, text, false)
            }
            8 => {
                let text = format!(
                    "INSERT INTO {table} (id, ref, amount, currency, memo) VALUES ({id}, 'TX{:010}', {}.{:02}, 'EUR', 'auto \
                     reconciliation batch {}')",
                    id * 7919,
                    id % 100_000,
                    id % 100,
                    id % 900
                );
                query(insert, text, false)
            }
            _ => {
                let at = chance.below(4);
                query(pick(&self.session, at), pick(&SESSION, at).1.to_owned(), at == 3)
            }
        }
    }
}

fn query(shape: &Arc<Analysis>, text: String, reads: bool) -> Asked {
    asked(CommandKind::Query, shape, text, reads)
}

fn asked(kind: CommandKind, shape: &Arc<Analysis>, text: String, reads: bool) -> Asked {
    let statement = Statement { text: text.into(), analysis: Arc::clone(shape) };
    let is_select = reads && !shape.probes.is_empty();
    Asked { kind, statement, reads, is_select }
}

/// The four shapes of a table: one row, many with another table's, a change, a new row.
fn of_table(at: usize) -> [Arc<Analysis>; 4] {
    let table = |at: usize| name(TABLES.get(at).expect("one of them"));
    let (this, other) = (table(at), table((at + 3) % TABLES.len()));
    let access = |action, table: &TableName| Access { action, table: Some(table.clone()) };
    let both = vec![access(Action::Select, &this), access(Action::Select, &other)];
    let columns = |table: &TableName, names: &[&str]| -> Vec<ColumnName> {
        let one = |column: &&str| ColumnName { table: table.clone(), column: (*column).into() };
        names.iter().map(one).collect()
    };
    let read =
        columns(&this, &["id", "name", "email", "balance", "status", "updated_at", "tenant_id"]);
    let joined = columns(&other, &["account_id", "amount", "booked_at"]);
    [
        analysis(
            "SELECT",
            &format!(
                "SELECT id, name, email, balance, status, updated_at FROM {this} WHERE id = $1 AND tenant_id = $2"
            ),
            vec![access(Action::Select, &this)],
            &read,
        ),
        analysis(
            "SELECT",
            &format!(
                "SELECT a.*, b.amount, b.booked_at FROM {this} a JOIN {other} b ON b.account_id = a.id WHERE b.booked_at >= $1 AND \
                 b.amount > $2 ORDER BY b.booked_at DESC LIMIT $3"
            ),
            both,
            &joined,
        ),
        analysis(
            "UPDATE",
            &format!(
                "UPDATE {this} SET status = $1, reviewer = $2, updated_at = now() WHERE id = $3"
            ),
            vec![access(Action::Update, &this)],
            &columns(&this, &["id", "status", "reviewer", "updated_at"]),
        ),
        analysis(
            "INSERT",
            &format!(
                "INSERT INTO {this} (id, ref, amount, currency, memo) VALUES ($1, $2, $3, $4, $5)"
            ),
            vec![access(Action::Insert, &this)],
            &columns(&this, &["id", "ref", "amount", "currency", "memo"]),
        ),
    ]
}

fn request(verb: &'static str, path: &str) -> Arc<Analysis> {
    let action = if verb == "GET" { Action::Fetch } else { Action::Submit };
    let table = Some(TableName { schema: None, name: path.into() });
    analysis(verb, &format!("{verb} {path}"), vec![Access { action, table }], &[])
}

fn analysis(
    verb: &'static str,
    normalized: &str,
    accesses: Vec<Access>,
    columns: &[ColumnName],
) -> Arc<Analysis> {
    let mut print =
        Chance(normalized.bytes().fold(7, |sum, byte| sum * 31 % 1_000_003 + u64::from(byte)));
    let fingerprint = i64::from_ne_bytes(print.bytes());
    let probes = columns.to_vec();
    let analysis = Analysis::new(verb, normalized.to_owned(), accesses, Risk::empty());
    Arc::new(Analysis { fingerprint, probes, ..analysis })
}

fn name(table: &str) -> TableName {
    let (schema, name) = table.split_once('.').expect("a table of a schema");
    TableName { schema: Some(schema.into()), name: name.into() }
}

pub(crate) fn pick<T>(of: &[T], at: u64) -> &T {
    usize::try_from(at).ok().and_then(|at| of.get(at)).expect("one of them")
}
