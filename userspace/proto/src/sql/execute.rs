//! What an EXECUTE does, once it is known what it runs.

use std::cell::LazyCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use types::command::{
    Access, Action, Analysis, ColumnName, Compared, Comparisons, Output, PreparedUse, Risk,
    Statement, ValueAt,
};

use super::plain_constants;

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
        compared: compared(execute, run),
        ..Analysis::clone(execute)
    };
    Some(Arc::new(Statement { text: Arc::clone(&execute.text), analysis: Arc::new(analysis) }))
}

/// What the columns of what is run meet: its own constants, and in the place of its parameters the arguments.
fn compared(execute: &Statement, run: &Statement) -> Comparisons {
    let mut all = execute.compared.clone();
    let plain = LazyCell::new(|| plain_constants(&run.text));
    let constants = &mut all.constants;
    let mut own = |value: Option<String>| {
        constants.push(value?.into());
        u32::try_from(constants.len() - 1).ok().map(ValueAt::Constant)
    };
    let place = |at: u32| usize::try_from(at).ok();
    let mut columns = Vec::with_capacity(run.compared.columns.len());
    for Compared { column, values } in &run.compared.columns {
        let mut met = Vec::with_capacity(values.len());
        for value in values {
            match *value {
                ValueAt::Parameter(number) => {
                    let at = place(number).and_then(|number| number.checked_sub(1));
                    let argument = at.and_then(|at| execute.compared.arguments.get(at));
                    met.extend(argument.into_iter().flatten());
                }
                ValueAt::Plain { at, is_negative } => {
                    let value = place(at).and_then(|at| plain.get(at));
                    let sign = if is_negative { "-" } else { "" };
                    met.extend(own(value.map(|value| format!("{sign}{value}"))));
                }
                ValueAt::Constant(at) => {
                    let value = place(at).and_then(|at| run.compared.constants.get(at));
                    met.extend(own(value.map(ToString::to_string)));
                }
            }
        }
        columns.push(Compared { column: column.clone(), values: met });
    }
    let is_cut = all.is_cut || run.compared.is_cut;
    all.columns.extend(columns);
    Comparisons { is_cut, ..all }
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
