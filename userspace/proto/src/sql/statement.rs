//! A string cut into its statements, each with its text, its normalized text and its analysis.

use std::sync::Arc;

use pg_query::{FingerprintOptions, Node, NodeEnum, ParserOptions};
use types::command::{Access, Action, Analysis, PreparedUse, Risk, Statement};

use super::Reading;
use super::facts::Facts;
use super::met::Met;
use super::shape::Shape;
use super::{normalize, utility};

/// The stack that parsing, visiting and dropping a tree run on. Decoding a tree of 10,000 levels was
/// measured to fit 32 MiB; this is twice that.
///
/// The parser itself stops at 2 MiB of its thread's own stack ("stack depth limit exceeded"), but
/// at 100 KiB on any other stack: fewer than 100 chained operators. So a thread that should take
/// deeper statements needs 64 MiB itself; elsewhere those are `UNPARSED`.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// With this much stack left the thread's own is used.
const STACK_ENOUGH: usize = 48 * 1024 * 1024;

/// A statement of this many tokens nests at most 128 levels (two per token: `NOT NOT …`), which take
/// less than 1 MiB even unoptimized.
const SHORT_TOKENS: usize = 64;
const SHORT_STACK_ENOUGH: usize = 1536 * 1024;

/// The most tokens a text may have: at most half of them become nodes of about 1 KiB each, so the
/// tree stays under 128 MiB. A VALUES list of 20,000 rows of five columns still fits.
const TOKENS_MAX: usize = 256 * 1024;

/// What stands for the text where it may not be shown and cannot be normalized.
const UNKNOWN: &str = "UNKNOWN";

/// What was read.
#[derive(Debug)]
pub(super) struct Read {
    /// The statements of the text; never empty.
    pub(super) statements: Arc<[Arc<Statement>]>,
    /// Where the constants begin whose values make no difference, where all that is said holds for
    /// other values as well.
    constants: Option<Vec<i32>>,
}

impl Read {
    /// Whether the same holds for every text of this one's `shape`, but for the text itself.
    pub(super) fn is_of_shape(&self, text: &[u8], shape: &Shape) -> bool {
        self.constants.as_deref().is_some_and(|places| shape.holds_only(text, places))
    }
}

impl From<Arc<Statement>> for Read {
    /// One statement of which other texts say nothing.
    fn from(statement: Arc<Statement>) -> Self {
        Self { statements: Arc::new([statement]), constants: None }
    }
}

/// The statement of a text that has the shape of the one `known` was read from.
pub(super) fn alike(known: &Statement, text: &[u8]) -> Option<Arc<Statement>> {
    let text = std::str::from_utf8(text).ok()?.into();
    Some(Arc::new(Statement { text, analysis: Arc::clone(&known.analysis) }))
}

/// The statements of `text`.
pub(super) fn read(text: &[u8], reading: Reading, keeps_values: bool) -> Read {
    let Ok(text) = std::str::from_utf8(text) else {
        return unparsed(&String::from_utf8_lossy(text)).into();
    };
    if text.contains('\0') {
        return unparsed(text).into();
    }
    // The scanner reads backslashes in plain strings one way only; where there are none, or the
    // server reads them that way too, its tokens are the server's.
    let scannable = reading.standard_conforming_strings || !text.contains('\\');
    let tokens = if scannable {
        normalize::tokens(text).map(|tokens| tokens.len())
    } else {
        // No token is shorter than a byte.
        Some(text.len())
    };
    let enough = match tokens {
        Some(..=SHORT_TOKENS) => SHORT_STACK_ENOUGH,
        Some(..=TOKENS_MAX) => STACK_ENOUGH,
        _ => return unparsed(text).into(),
    };
    stacker::maybe_grow(enough, STACK_BYTES, || parse(text, reading, (scannable, keeps_values)))
        .unwrap_or_else(|| unparsed(text).into())
}

/// The statements of `text`, or `None` if it does not parse.
fn parse(text: &str, reading: Reading, how: (bool, bool)) -> Option<Read> {
    let options = if reading.standard_conforming_strings {
        ParserOptions::DEFAULT
    } else {
        ParserOptions::DISABLE_STANDARD_CONFORMING_STRINGS
    };
    let tree = pg_query::parse(text, options).ok()?.protobuf;
    let [first, rest @ ..] = tree.stmts.as_slice() else {
        return Some(empty(text).into());
    };
    if rest.is_empty() {
        let node = first.stmt.as_deref();
        let (statement, constants) = analyzed(text, node, options, how, Risk::empty());
        return Some(Read { statements: Arc::new([statement]), constants });
    }
    let statements = tree
        .stmts
        .iter()
        .map(|raw| {
            let part = part(text, raw.stmt_location, raw.stmt_len)?;
            Some(analyzed(part, raw.stmt.as_deref(), options, how, Risk::MULTI).0)
        })
        .collect::<Option<_>>()?;
    Some(Read { statements, constants: None })
}

/// The `len` bytes of `text` from `start` on; all of the rest where `len` is 0, as the parser has it.
fn part(text: &str, start: i32, len: i32) -> Option<&str> {
    let start = usize::try_from(start).ok()?;
    let rest = text.get(start..)?;
    let part = if len == 0 { rest } else { rest.get(..usize::try_from(len).ok()?)? };
    Some(part.trim_ascii())
}

fn analyzed(
    text: &str,
    node: Option<&Node>,
    options: ParserOptions,
    (scannable, keeps_values): (bool, bool),
    risks: Risk,
) -> (Arc<Statement>, Option<Vec<i32>>) {
    let new_facts = || Facts { met: Met::keeping(keeps_values), ..Facts::default() };
    // Where the text is a part of another, places count from the beginning of that.
    let is_whole = keeps_values && !risks.contains(Risk::MULTI);
    let shape = is_whole.then(|| Shape::of(text.as_bytes())).flatten();
    let (shape, mut facts) = (shape.as_ref(), new_facts());
    let verb = utility::top(&mut facts, node);
    let normalized = scannable.then(|| normalize::normalize(text)).flatten();
    let normalized: Arc<str> = normalized.map_or_else(|| verb.into(), Into::into);
    let fingerprint = pg_query::fingerprint(
        text,
        options,
        FingerprintOptions::RANGEVAR_PG17_COMPAT | FingerprintOptions::FULL_RELNAME,
    )
    .map_or(0, |fingerprint| fingerprint.value.cast_signed());
    facts.risks |= risks;
    let told = |verb, facts| told((text, shape), &normalized, fingerprint, verb, facts);
    if let Some(NodeEnum::PrepareStmt(prepare)) = node.and_then(|node| node.node.as_ref()) {
        let mut run = new_facts();
        let verb = utility::top(&mut run, prepare.query.as_deref());
        let (name, statement) = (prepare.name.as_str().into(), told(verb, run));
        facts.prepared = Some(PreparedUse::Prepares { name, statement });
    }
    let is_plain = matches!(verb, "SELECT" | "INSERT" | "UPDATE" | "DELETE") && !facts.by_value;
    let constants = is_plain.then(|| std::mem::take(&mut facts.constants));
    (told(verb, facts), constants)
}

fn told(
    (text, shape): (&str, Option<&Shape>),
    normalized: &Arc<str>,
    fingerprint: i64,
    verb: &'static str,
    mut facts: Facts,
) -> Arc<Statement> {
    let probes = facts.take_probes();
    let Facts {
        accesses,
        functions,
        unknown_functions,
        risks,
        outputs,
        copy,
        probes: _,
        probes_lost: _,
        writes,
        cursor,
        prepared,
        constants: _,
        by_value: _,
        met,
    } = facts;
    let compared = met.told(shape.map(|shape| (shape, text.as_bytes())), &accesses);
    let analysis = Analysis {
        normalized: Arc::clone(normalized),
        fingerprint,
        verb,
        accesses: if accesses.is_empty() {
            vec![Access { action: Action::Unknown, table: None }]
        } else {
            accesses.into_iter().collect()
        },
        functions: functions.into_iter().collect(),
        unknown_functions: unknown_functions.into_iter().collect(),
        risks,
        outputs,
        copy,
        probes,
        writes: writes.into_iter().collect(),
        cursor,
        prepared,
        compared,
    };
    Arc::new(Statement::new(text, analysis))
}

fn empty(text: &str) -> Arc<Statement> {
    let accesses = vec![Access { action: Action::Session, table: None }];
    Arc::new(Statement::new(text, Analysis::new("EMPTY", "", accesses, Risk::empty())))
}

fn unparsed(text: &str) -> Arc<Statement> {
    let accesses = vec![Access { action: Action::Unknown, table: None }];
    Arc::new(Statement::new(text, Analysis::new(UNKNOWN, UNKNOWN, accesses, Risk::UNPARSED)))
}
