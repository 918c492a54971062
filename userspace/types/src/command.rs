//! What is asked of a target: one command, with what its analysis found.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use bitflags::bitflags;

use crate::id::CommandId;

/// One thing an agent asks a target to do; each is decided and recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// Its place in the session.
    pub id: CommandId,
    /// What kind of request it is.
    pub kind: CommandKind,
    /// The statement and what its analysis found; shared by every execution of it.
    pub statement: Arc<Statement>,
    /// Bound parameters, in order; empty where there are none.
    pub parameters: Arc<[Parameter]>,
    /// Commands of one wire message share a batch: if one is denied, none runs.
    pub batch: u32,
    /// Where it goes up.
    pub transaction: Transaction,
}

/// What the server last said of its transaction block (PostgreSQL `ReadyForQuery`): of commands that are sent
/// without waiting, what it was before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Transaction {
    /// In none.
    #[default]
    None,
    /// In one.
    Open,
    /// In one that failed.
    Failed,
}

impl Transaction {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::None, Self::Open, Self::Failed];

    /// The word in policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Open => "open",
            Self::Failed => "failed",
        }
    }
}

/// A command's kind; its name is the archive's `kind` column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CommandKind {
    /// A session opens on a database.
    Connect,
    /// A SQL statement.
    Query,
    /// A function called by OID (PostgreSQL `FunctionCall`).
    FunctionCall,
    /// Another session's command is to be cancelled.
    Cancel,
    /// A name is to be resolved.
    Resolve,
    /// An HTTP request.
    Request,
}

impl CommandKind {
    /// The archive's name for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "db.connect",
            Self::Query => "db.query",
            Self::FunctionCall => "db.function",
            Self::Cancel => "db.cancel",
            Self::Resolve => "dns.query",
            Self::Request => "http.request",
        }
    }
}

/// A statement: its text, and what its analysis found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// The exact text; bytes that are not UTF-8 are replaced, and [`Risk::UNPARSED`] is set.
    pub text: Arc<str>,
    /// What it does; texts that differ in plain constants alone share it.
    pub analysis: Arc<Analysis>,
}

impl Statement {
    /// A statement of this text that does this.
    pub fn new(text: impl Into<Arc<str>>, analysis: Analysis) -> Self {
        Self { text: text.into(), analysis: Arc::new(analysis) }
    }
}

impl std::ops::Deref for Statement {
    type Target = Analysis;

    fn deref(&self) -> &Analysis {
        &self.analysis
    }
}

/// What the analysis of a statement found. Nothing in it is of the text alone, so what is derived from it
/// holds for every statement that has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Analysis {
    /// The text with literals stripped (`$1`, …); free of values by construction. Where the text
    /// did not parse this is a fixed word, never the text.
    pub normalized: Arc<str>,
    /// Statistical fingerprint; groups alike statements, never identifies one.
    pub fingerprint: i64,
    /// The leading verb, upper case: `SELECT`, `CREATE TABLE`, `COPY`, …; `UNKNOWN` if unparsed.
    pub verb: &'static str,
    /// What it does to what; never empty.
    pub accesses: Vec<Access>,
    /// Functions called, as written, lower case, each once.
    pub functions: Vec<Arc<str>>,
    /// Of those, the ones that are not known to be the server's own ([`Risk::UNKNOWN_FUNCTION`]).
    pub unknown_functions: Vec<Arc<str>>,
    /// What makes it dangerous.
    pub risks: Risk,
    /// Which base columns flow into each output column; `None` where the number of output columns
    /// is not known from the text (`*`), or there is no result.
    pub outputs: Option<Vec<Output>>,
    /// For `COPY … TO STDOUT`/`FROM STDIN`: what is copied.
    pub copy: Option<Copy>,
    /// Base columns whose values do something else than come out, sorted, each once: they are
    /// compared, ordered, grouped or joined by, cast, written elsewhere, or handed to what may fail
    /// or say by its number of rows what they are. Constants of the text are no columns.
    pub probes: Vec<ColumnName>,
    /// Base columns that are written by name, sorted, each once.
    pub writes: Vec<ColumnName>,
    /// The cursor that a `DECLARE` makes (`outputs` are its rows') or a `FETCH` reads.
    pub cursor: Option<Arc<str>>,
    /// What it has to do with a prepared statement.
    pub prepared: Option<PreparedUse>,
    /// Which values its columns meet; nothing where values are not kept.
    pub compared: Comparisons,
}

/// Which values columns are compared with, and which are written into them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparisons {
    /// By column, sorted.
    pub columns: Vec<Compared>,
    /// The constants that [`ValueAt::Constant`] means.
    pub constants: Vec<Box<str>>,
    /// Of an `EXECUTE`: the values of each of its arguments.
    pub arguments: Vec<Vec<ValueAt>>,
    /// Whether there are more than are kept.
    pub is_cut: bool,
}

/// The values that one base column meets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// The column.
    pub column: ColumnName,
    /// The values, each once.
    pub values: Vec<ValueAt>,
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ValueAt {
    /// It is the bound parameter of this number, from 1.
    Parameter(u32),
    /// It is the plain constant at this place of the text, from 0: other texts of the same shape have another.
    Plain {
        /// The place.
        at: u32,
        /// Whether a minus sign belongs to it.
        is_negative: bool,
    },
    /// It is this one of [`Comparisons::constants`], in every text.
    Constant(u32),
}

/// A value that a statement names, so hashed under a key that equal ones can be found and none can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlindToken(pub [u8; 8]);

/// The tokens of one command.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlindTokens {
    /// Each once, sorted; at most [`crate::limits::BLIND_TOKENS_MAX`].
    pub tokens: Vec<BlindToken>,
    /// Whether values that should have one have none here: too many, too long, or not understood.
    pub is_cut: bool,
}

/// What a statement has to do with a prepared one, by its text. Names are folded as the server folds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreparedUse {
    /// `PREPARE name AS statement`.
    Prepares {
        /// The name.
        name: Arc<str>,
        /// What an execution of it does; its text is the whole `PREPARE`.
        statement: Arc<Statement>,
    },
    /// `EXECUTE name`, alone, explained or as what a table is made from. Until it is known what the name
    /// stands for, its statement has [`Risk::OPAQUE`].
    Executes {
        /// The name.
        name: Arc<str>,
        /// Whether it runs; else it is planned only.
        runs: bool,
        /// Whether it is opaque by its own parameters, whatever it runs.
        is_opaque: bool,
    },
    /// `DEALLOCATE name`; of no name: all of them, as `DISCARD ALL` does.
    Deallocates(Option<Arc<str>>),
}

impl Analysis {
    /// A statement that does this to those, calls nothing and has no columns.
    pub fn new(
        verb: &'static str,
        normalized: impl Into<Arc<str>>,
        accesses: Vec<Access>,
        risks: Risk,
    ) -> Self {
        Self {
            normalized: normalized.into(),
            fingerprint: 0,
            verb,
            accesses,
            functions: Vec::new(),
            unknown_functions: Vec::new(),
            risks,
            outputs: None,
            copy: None,
            probes: Vec::new(),
            writes: Vec::new(),
            cursor: None,
            prepared: None,
            compared: Comparisons::default(),
        }
    }

    /// What is known where functions of these names, which it calls, are not the server's own: what is
    /// computed may be anything, and every column that is read may go there.
    #[must_use]
    pub fn calling(&self, unknown: &[Arc<str>]) -> Self {
        let lost = |output: &Output| match output {
            Output::Column(_) | Output::Row(_) => output.clone(),
            Output::Columns(_) | Output::Opaque => Output::Opaque,
            Output::Several(_) => Output::Several(None),
        };
        let probes: BTreeSet<&ColumnName> = self.read().collect();
        let unknown: BTreeSet<&Arc<str>> = self.unknown_functions.iter().chain(unknown).collect();
        Self {
            risks: self.risks | Risk::UNKNOWN_FUNCTION,
            unknown_functions: unknown.into_iter().cloned().collect(),
            outputs: self.outputs.as_ref().map(|outputs| outputs.iter().map(lost).collect()),
            probes: probes.into_iter().cloned().collect(),
            ..self.clone()
        }
    }

    /// The strongest class among its accesses.
    pub fn class(&self) -> Class {
        self.accesses.iter().map(|a| a.action.class()).max().unwrap_or(Class::Unknown)
    }

    /// Whether it has the server send what no mask can be applied to: files, its log of changes.
    pub fn replicates(&self) -> bool {
        self.accesses.iter().any(|access| access.action == Action::Replicate)
    }

    /// The base columns that the text names: those that come out, those that decide and those that are
    /// written; some more than once. What it brings by `*` alone is not among them.
    pub fn columns(&self) -> impl Iterator<Item = &ColumnName> {
        self.read().chain(&self.writes)
    }

    /// Of those, the ones that are read.
    fn read(&self) -> impl Iterator<Item = &ColumnName> {
        self.outputs.iter().flatten().flat_map(Output::columns).chain(&self.probes)
    }

    /// Whether relations and their columns may be others once it ran: it defines them, runs code that is
    /// not known, or commits what was prepared.
    pub fn may_define(&self) -> bool {
        let unseen = Risk::OPAQUE | Risk::UNPARSED | Risk::UNKNOWN_FUNCTION | Risk::UNSAFE_FUNCTION;
        if self.risks.intersects(unseen) || matches!(self.verb, "COMMIT PREPARED" | "CALL") {
            return true;
        }
        self.risks.contains(Risk::DDL) && !DEFINES_NO_RELATION.contains(&self.verb)
    }

    /// Whether its record must be durable before it goes upstream wherever its answer waits for that (ack mode
    /// `group`): what defines, what is not known and what acts beyond data.
    pub fn needs_wal_always(&self) -> bool {
        self.class() >= Class::Admin || self.risks.intersects(Risk::EFFECTS)
    }

    /// Whether its record must be durable before it goes upstream (ack mode `wal`).
    pub fn needs_wal(&self) -> bool {
        self.class() >= Class::Write || self.risks.intersects(Risk::EFFECTS)
    }
}

/// Definitions after which every relation has the columns and the rows' origins that it had.
const DEFINES_NO_RELATION: [&str; 7] = [
    "ALTER SEQUENCE",
    "COMMENT",
    "CREATE INDEX",
    "CREATE SEQUENCE",
    "CREATE STATISTICS",
    "DROP INDEX",
    "REFRESH MATERIALIZED VIEW",
];

/// One action on one object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Access {
    /// What is done.
    pub action: Action,
    /// To which table, view, sequence or other relation, to which domain name or HTTP path; `None` for the
    /// database as a whole.
    pub table: Option<TableName>,
}

/// A relation's name as the statement gives it, folded as the server folds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableName {
    /// The schema, where the statement (or the analysis) knows it.
    pub schema: Option<Arc<str>>,
    /// The relation.
    pub name: Arc<str>,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.schema {
            Some(schema) => write!(f, "{schema}.{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// What is done to an object; Cedar's action ids are these names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Open a session.
    Connect,
    /// Session and transaction control without an effect on data: BEGIN, SET, SHOW, …
    Session,
    /// Read rows.
    Select,
    /// Add rows.
    Insert,
    /// Change rows.
    Update,
    /// Remove rows, TRUNCATE included.
    Delete,
    /// Run code: CALL, DO, FunctionCall.
    Call,
    /// Define, alter or drop objects.
    Ddl,
    /// Grant, revoke, roles, SET ROLE.
    Privilege,
    /// Run the server itself: VACUUM, ALTER SYSTEM, COPY with programs or files.
    Admin,
    /// Have the server's files and its log of changes: replication connections and their commands.
    Replicate,
    /// Cancel another session's command.
    Cancel,
    /// Look up where a name is: addresses, aliases, services, and what belongs to a reply.
    Resolve,
    /// Look up records that carry free data (TXT, NULL, …), or all there are.
    ResolveData,
    /// Have what an HTTP path stands for: GET, HEAD, OPTIONS.
    Fetch,
    /// Have an HTTP path take or do something: every other method.
    Submit,
    /// Not known: did not parse, or a form the analysis does not know.
    Unknown,
}

impl Action {
    /// Cedar's action id and the archive's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Session => "session",
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Call => "call",
            Self::Ddl => "ddl",
            Self::Privilege => "privilege",
            Self::Admin => "admin",
            Self::Replicate => "replicate",
            Self::Cancel => "cancel",
            Self::Resolve => "resolve",
            Self::ResolveData => "resolveData",
            Self::Fetch => "fetch",
            Self::Submit => "submit",
            Self::Unknown => "unknown",
        }
    }

    /// Its class.
    pub fn class(self) -> Class {
        match self {
            Self::Connect | Self::Session | Self::Cancel => Class::Session,
            Self::Select | Self::Resolve | Self::ResolveData | Self::Fetch => Class::Read,
            Self::Insert | Self::Update | Self::Delete | Self::Call | Self::Submit => Class::Write,
            Self::Ddl | Self::Privilege | Self::Admin | Self::Replicate => Class::Admin,
            Self::Unknown => Class::Unknown,
        }
    }
}

/// Classes of action, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// No effect on data.
    Session,
    /// Reads.
    Read,
    /// Changes data.
    Write,
    /// Changes definitions, privileges or the server.
    Admin,
    /// Not known; treated as the worst.
    Unknown,
}

bitflags! {
    /// What makes a statement dangerous.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Risk: u32 {
        /// UPDATE or DELETE without WHERE.
        const NO_WHERE = 1;
        /// Defines, alters or drops objects.
        const DDL = 1 << 1;
        /// COPY TO/FROM PROGRAM or a server file.
        const COPY_PROGRAM = 1 << 2;
        /// GRANT, REVOKE, roles, SET ROLE, SET SESSION AUTHORIZATION.
        const PRIVILEGE = 1 << 3;
        /// Calls a function that reads files, runs programs or reaches other hosts.
        const UNSAFE_FUNCTION = 1 << 4;
        /// Code that cannot be analysed: DO, dynamic SQL, unknown procedural language.
        const OPAQUE = 1 << 5;
        /// Did not parse.
        const UNPARSED = 1 << 6;
        /// One of several statements in one string.
        const MULTI = 1 << 7;
        /// Reads the planner's statistics or other catalogs that hold column values.
        const STATISTICS = 1 << 8;
        /// A function with side effects in a SELECT (nextval, set_config, pg_terminate_backend, …).
        const SIDE_EFFECT = 1 << 9;
        /// Changes the session so that later text means something else
        /// (`client_encoding`, `standard_conforming_strings`, `search_path`, …).
        const REINTERPRETS = 1 << 10;
        /// Calls a function that is not known to be one of the server's own: it may write.
        const UNKNOWN_FUNCTION = 1 << 11;
        /// Brings all rows of a relation: nothing of the statement says which, or how many.
        const FULL_EXPORT = 1 << 12;

        /// Risks that make a read as effective as a write.
        const EFFECTS = Self::DDL.bits() | Self::COPY_PROGRAM.bits() | Self::PRIVILEGE.bits()
            | Self::UNSAFE_FUNCTION.bits() | Self::OPAQUE.bits() | Self::UNPARSED.bits()
            | Self::SIDE_EFFECT.bits() | Self::UNKNOWN_FUNCTION.bits();
    }
}

/// Where an output column's values come from, as far as the text tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// This base column, as it is.
    Column(ColumnName),
    /// Computed from these base columns and nothing else; empty for constants and counts.
    Columns(Vec<ColumnName>),
    /// Not known.
    Opaque,
    /// As many as this relation has columns, in its order, each as it is.
    Row(TableName),
    /// Any number of outputs, each from these base columns; `None`: not known.
    Several(Option<Vec<ColumnName>>),
}

impl Output {
    /// The base columns that are known by name.
    fn columns(&self) -> &[ColumnName] {
        match self {
            Self::Column(column) => std::slice::from_ref(column),
            Self::Columns(columns) | Self::Several(Some(columns)) => columns,
            Self::Opaque | Self::Row(_) | Self::Several(None) => &[],
        }
    }
}

/// A base column.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ColumnName {
    /// Its relation.
    pub table: TableName,
    /// Its name; `*` for the whole row, `#N` for the N-th column, `?NAME` for one that may as well
    /// be another relation's.
    pub column: Arc<str>,
}

impl ColumnName {
    /// Its place in the relation, counted from 1, where that is what is known of it.
    pub fn place(&self) -> Option<usize> {
        self.column.strip_prefix('#')?.parse().ok()
    }
}

/// What a COPY moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The relation, or `None` for `COPY (query)`.
    pub table: Option<TableName>,
    /// The column list, where one is given.
    pub columns: Option<Vec<Arc<str>>>,
    /// How rows are written.
    pub format: CopyFormat,
    /// A first line of column names (text and CSV).
    pub header: bool,
    /// The delimiter (text: tab; CSV: comma, where not given).
    pub delimiter: u8,
    /// What CSV's values stand in.
    pub quote: u8,
    /// What stands before a quote within them.
    pub escape: u8,
    /// The null marker, where given.
    pub null: Option<Arc<str>>,
}

/// COPY's formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyFormat {
    /// PostgreSQL's text format.
    Text,
    /// CSV.
    Csv,
    /// PostgreSQL's binary format.
    Binary,
}

/// A bound parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// The type's OID, 0 where the agent left it to the server.
    pub type_oid: u32,
    /// Its value.
    pub value: ParameterValue,
}

/// A parameter's value as far as it is understood.
#[derive(Clone, Debug, PartialEq)]
pub enum ParameterValue {
    /// SQL NULL.
    Null,
    /// Text, or a binary value of a common type decoded to the server's text form. Cut at
    /// [`crate::limits::PARAMETER_BYTES_MAX`]; `bytes` is the whole length on the wire.
    Text {
        /// The (cut) text.
        text: String,
        /// Whole length on the wire.
        bytes: u32,
    },
    /// A binary value of a type not decoded, cut likewise.
    Binary {
        /// The (cut) bytes.
        head: Vec<u8>,
        /// Whole length on the wire.
        bytes: u32,
    },
}
