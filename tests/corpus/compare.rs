//! The analysis of SQL against PostgreSQL's own parser and executor, on PostgreSQL's regression corpus.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use integration::corpus::{self, Demand, Seen};
use proto::sql::{Analyzer, Reading};
use serde_json::json;
use types::command::{Access, Class, ColumnName, Output, Risk, Statement, TableName};

/// Tags of statements that change nothing but the session (PostgreSQL protocol, CommandComplete). COPY and LOCK may
/// write; whether they did is said otherwise.
const HARMLESS: &[&str] = &[
    "SELECT",
    "FETCH",
    "MOVE",
    "SHOW",
    "SET",
    "RESET",
    "BEGIN",
    "START",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT",
    "RELEASE",
    "DECLARE",
    "CLOSE",
    "EXPLAIN",
    "PREPARE",
    "DEALLOCATE",
    "LISTEN",
    "UNLISTEN",
    "DISCARD",
    "COPY",
    "LOCK",
];

/// Differences shown of each kind.
const SHOWN: usize = 40;

/// What was counted, and the differences by kind.
#[derive(Default)]
pub(super) struct Figures {
    statements: u64,
    parsed_by_both: u64,
    refused_by_both: u64,
    writes: u64,
    relations: u64,
    columns: u64,
    opaque: u64,
    kinds: BTreeMap<&'static str, Vec<String>>,
}

/// Kinds that must not be: what is called harmless and is not.
const NEVER: [&str; 4] = [
    "called a read, the server says it writes",
    "called a read, its tag says it is none",
    "a relation is not named",
    "a write of a relation is not named",
];

impl Figures {
    fn differs(&mut self, kind: &'static str, seen: &Seen, what: &str) {
        let text = String::from_utf8_lossy(&seen.text);
        let text: String =
            text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect();
        self.kinds.entry(kind).or_default().push(format!("{}: {what}: {text}", seen.file));
    }

    /// What is said of one text by both.
    fn take(&mut self, analyzer: &Analyzer, seen: &Seen) {
        let reading = Reading { standard_conforming_strings: seen.standard_conforming_strings };
        let statements = analyzer.analyze(&seen.text, reading);
        let refused = statements.iter().any(|one| one.risks.contains(Risk::UNPARSED));
        self.statements += 1;
        match (seen.parsed, refused) {
            (Some(true), false) => self.parsed_by_both += 1,
            (Some(true), true) => self.differs("refused, the server takes it", seen, ""),
            (Some(false) | None, true) => self.refused_by_both += 1,
            (Some(false), false) => self.differs("taken, the server refuses it", seen, ""),
            (None, false) => {
                self.differs("taken, the server's parser or its analysis refuses it", seen, "");
            }
        }
        let effects = statements.iter().any(|one| one.needs_wal());
        let writes = seen.refused_as_write;
        self.writes += u64::from(writes);
        if writes && !effects {
            self.differs(
                "called a read, the server says it writes",
                seen,
                verbs(&statements).as_str(),
            );
        }
        let other = seen.tags.iter().find(|tag| {
            let word = tag.split(' ').next().unwrap_or_default();
            !HARMLESS.contains(&word)
        });
        if let (Some(tag), false) = (other, effects) {
            self.differs("called a read, its tag says it is none", seen, tag);
        }
        if statements.iter().any(|one| one.risks.intersects(Risk::OPAQUE | Risk::UNPARSED)) {
            self.opaque += 1;
        } else {
            seen.relations.iter().for_each(|demand| self.demanded(&statements, demand, seen));
        }
    }

    fn demanded(&mut self, statements: &[std::sync::Arc<Statement>], demand: &Demand, seen: &Seen) {
        self.relations += 1;
        let accesses: Vec<&Access> = statements.iter().flat_map(|one| &one.accesses).collect();
        let named: Vec<&&Access> = accesses
            .iter()
            .filter(|a| a.table.as_ref().is_some_and(|table| is(table, demand)))
            .collect();
        let what = format!("{}.{}", demand.schema, demand.name);
        if named.is_empty() {
            return self.differs("a relation is not named", seen, &what);
        }
        let writes = demand.permissions & 0b1101 != 0;
        if writes
            && named.iter().all(|access| access.action.class() < Class::Write)
            && !is_plan(statements)
        {
            self.differs("a write of a relation is not named", seen, &what);
        }
        let said = Said::of(statements);
        for column in &demand.selected {
            self.columns += 1;
            if !said.has(column, demand) {
                let what = format!("{what}.{column}");
                self.differs("a column that is read is not named", seen, &what);
            }
        }
    }
}

/// An EXPLAIN without ANALYZE plans, and so reads.
fn is_plan(statements: &[std::sync::Arc<Statement>]) -> bool {
    statements.iter().any(|one| one.verb == "EXPLAIN")
}

fn verbs(statements: &[std::sync::Arc<Statement>]) -> String {
    statements.iter().map(|one| one.verb).collect::<Vec<_>>().join(", ")
}

/// Whether a name of the text may mean what the server demands.
fn is(table: &TableName, demand: &Demand) -> bool {
    let schema = table.schema.as_deref();
    *table.name == *demand.name
        && schema.is_none_or(|schema| {
            schema == demand.schema || schema == "pg_temp" && demand.schema.starts_with(schema)
        })
}

/// The columns that statements say they show or probe.
#[derive(Default)]
struct Said<'s> {
    columns: BTreeSet<&'s ColumnName>,
    /// Whole rows, or nothing that is known: any column may be meant.
    rows: Vec<&'s TableName>,
    anything: bool,
}

impl<'s> Said<'s> {
    fn of(statements: &'s [std::sync::Arc<Statement>]) -> Self {
        let mut said = Self::default();
        for statement in statements {
            said.columns.extend(&statement.probes);
            match &statement.outputs {
                Some(outputs) => outputs.iter().for_each(|output| said.output(output)),
                None if statement.copy.is_some() => said.anything = true,
                None => {}
            }
        }
        said
    }

    fn output(&mut self, output: &'s Output) {
        match output {
            Output::Column(column) => drop(self.columns.insert(column)),
            Output::Columns(columns) | Output::Several(Some(columns)) => {
                self.columns.extend(columns);
            }
            Output::Row(table) => self.rows.push(table),
            Output::Opaque | Output::Several(None) => self.anything = true,
        }
    }

    fn has(&self, column: &str, demand: &Demand) -> bool {
        self.anything
            || self.rows.iter().any(|table| is(table, demand))
            || self.columns.iter().any(|said| {
                let name = said.column.strip_prefix('?').unwrap_or(&said.column);
                is(&said.table, demand)
                    && (name == column || name == "*" || name.starts_with('#') || column == "*")
            })
    }
}

/// What is counted over the files whose names `which` holds for, and the corpus' version.
pub(super) fn observed(which: impl Fn(&str) -> bool + Send + 'static) -> (Figures, String) {
    // Deep statements parse on deep stacks alone, as in the daemon.
    let analysis = std::thread::Builder::new().stack_size(64 << 20);
    let analysis = analysis.spawn(move || {
        let corpus = corpus::fetch().unwrap();
        let (analyzer, mut figures) = (Analyzer::new(), Figures::default());
        corpus::observe(&corpus, which, |seen| figures.take(&analyzer, &seen)).unwrap();
        (figures, corpus.version().to_owned())
    });
    analysis.unwrap().join().unwrap()
}

/// The figures in words, with the first differences of each kind.
pub(super) fn report(figures: &Figures, version: &str) -> String {
    let Figures {
        statements,
        parsed_by_both,
        refused_by_both,
        writes,
        relations,
        columns,
        opaque,
        kinds,
    } = figures;
    let mut text = format!(
        "PostgreSQL {version}: {statements} statements, {parsed_by_both} parsed by both, {refused_by_both} \
         refused by both; {writes} write, {relations} relations and {columns} columns demanded, {opaque} opaque\n"
    );
    for (kind, found) in kinds {
        writeln!(text, "{}: {kind}", found.len()).unwrap();
        found.iter().take(SHOWN).for_each(|one| writeln!(text, "    {one}").unwrap());
    }
    text
}

pub(super) fn to_json(figures: &Figures, version: &str) -> serde_json::Value {
    let Figures {
        statements,
        parsed_by_both,
        refused_by_both,
        writes,
        relations,
        columns,
        opaque,
        kinds,
    } = figures;
    let kinds: BTreeMap<&str, usize> =
        kinds.iter().map(|(kind, found)| (*kind, found.len())).collect();
    let harmless: usize = NEVER.iter().filter_map(|kind| kinds.get(kind)).sum();
    json!({
        "version": version, "statements": statements, "parsed_by_both": parsed_by_both,
        "refused_by_both": refused_by_both, "writes": writes, "relations": relations, "columns": columns,
        "opaque": opaque, "wrongly_harmless": harmless, "differences": kinds,
    })
}

/// Fails where anything is wrongly called harmless, or fewer than `least` statements were seen.
pub(super) fn check(figures: &Figures, version: &str, least: u64) {
    let told = format!("{}\n{:#}", report(figures, version), to_json(figures, version));
    let wrong: Vec<&&str> =
        NEVER.iter().filter(|kind| figures.kinds.contains_key(**kind)).collect();
    assert!(wrong.is_empty(), "{wrong:?}\n{told}");
    assert!(figures.statements >= least, "the corpus was cut short\n{told}");
}
