//! What an EXECUTE does, once it is known what it runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use types::command::{Access, Action, Analysis, ColumnName, Output, PreparedUse, Risk, Statement};

/// Statements that EXECUTE runs; any other was prepared by the protocol alone.
const RUN: [&str; 6] = ["SELECT", "VALUES", "INSERT", "UPDATE", "DELETE", "MERGE"];

/// What `execute` does where the name it executes stands for `run`; `None` where that is not to be said.
pub(crate) fn executing(execute: &Statement, run: &Statement) -> Option<Arc<Statement>> {
    let Some(PreparedUse::Executes { name: _, runs, is_opaque }) = &execute.prepared else {
        return None;
    };
    if !RUN.contains(&run.verb) {
        return None;
    }
    let mut risks = execute.risks | run.risks;
    risks.set(Risk::OPAQUE, *is_opaque || run.risks.contains(Risk::OPAQUE));
    if !runs {
        risks -= Risk::NO_WHERE | Risk::DDL;
    }
    if execute.verb == "EXPLAIN" {
        risks -= Risk::FULL_EXPORT;
    }
    // The EXECUTE itself was a call of something, or the plan of one.
    let own = execute.accesses.iter().filter(|access| access.action == Action::Ddl);
    let done = run.accesses.iter().map(|Access { action, table }| {
        let action = match action {
            Action::Unknown | Action::Session => *action,
            _ if !runs => Action::Select,
            action => *action,
        };
        Access { action, table: table.clone() }
    });
    let accesses: BTreeSet<Access> = own.cloned().chain(done).collect();
    let mut probes: BTreeSet<ColumnName> =
        execute.probes.iter().chain(&run.probes).cloned().collect();
    let outputs = match execute.verb {
        "EXECUTE" => run.outputs.clone(),
        "EXPLAIN" => {
            let unknown = risks.intersects(Risk::OPAQUE | Risk::UNKNOWN_FUNCTION);
            Some(vec![if unknown { Output::Opaque } else { Output::Columns(Vec::new()) }])
        }
        // A table is made of them, and read again elsewhere.
        _ => {
            probes.extend(shown(run));
            None
        }
    };
    let functions: BTreeSet<Arc<str>> =
        execute.functions.iter().chain(&run.functions).cloned().collect();
    let unknown: BTreeSet<Arc<str>> =
        execute.unknown_functions.iter().chain(&run.unknown_functions).cloned().collect();
    let analysis = Analysis {
        accesses: accesses.into_iter().collect(),
        functions: functions.into_iter().collect(),
        unknown_functions: unknown.into_iter().collect(),
        risks,
        outputs,
        probes: probes.into_iter().collect(),
        writes: run.writes.clone(),
        ..Analysis::clone(execute)
    };
    Some(Arc::new(Statement { text: Arc::clone(&execute.text), analysis: Arc::new(analysis) }))
}

/// The columns that come out of a statement; where they are not known, all of what it names.
fn shown(run: &Statement) -> Vec<ColumnName> {
    let whole =
        |table: &types::command::TableName| ColumnName { table: table.clone(), column: "*".into() };
    let all = || run.accesses.iter().filter_map(|access| access.table.as_ref()).map(whole);
    let Some(outputs) = &run.outputs else { return Vec::new() };
    outputs
        .iter()
        .flat_map(|output| match output {
            Output::Column(column) => vec![column.clone()],
            Output::Columns(columns) | Output::Several(Some(columns)) => columns.clone(),
            Output::Row(table) => vec![whole(table)],
            Output::Opaque | Output::Several(None) => all().collect(),
        })
        .collect()
}
