//! What the report says in numbers. Each has a name, by which `check.py` has it counted again.

use std::collections::{BTreeMap, BTreeSet};

use journal::row::EventRow;

use crate::json;

/// Something that is counted.
pub(super) struct Claim {
    pub(super) name: &'static str,
    pub(super) label: &'static str,
    pub(super) value: String,
}

/// Counted over all commands of a case.
#[derive(Default)]
pub(super) struct Counts {
    commands: u64,
    writes: u64,
    privileged: u64,
    failed: u64,
    unended: u64,
    rows: i64,
    bytes_out: i64,
    masked_values: i64,
    approvals: BTreeSet<String>,
    objects: BTreeSet<String>,
    first: Option<i64>,
    last: Option<i64>,
    /// Commands by decision.
    pub(super) decisions: BTreeMap<String, u64>,
    /// Masked values by class.
    pub(super) masked: BTreeMap<String, u64>,
}

impl Counts {
    pub(super) fn take(&mut self, event: &EventRow) {
        self.commands += 1;
        self.writes += u64::from(event.statement.is_write);
        self.privileged += u64::from(event.statement.is_privileged);
        self.failed += u64::from(event.status == "error");
        self.unended += u64::from(event.status == "interrupted");
        self.rows += event.rows.unwrap_or(0);
        self.bytes_out += event.bytes_out;
        self.masked_values += event.masked_count;
        self.approvals.extend(event.approval_id.clone());
        self.objects.extend(event.statement.objects.iter().cloned());
        self.first = Some(self.first.map_or(event.ts.0, |first| first.min(event.ts.0)));
        self.last = Some(self.last.map_or(event.ts.0, |last| last.max(event.ts.0)));
        *self.decisions.entry(event.decision.to_string()).or_default() += 1;
        for masked in &event.masked {
            let count = u64::try_from(masked.count).unwrap_or(0);
            *self.masked.entry(masked.entity.clone()).or_default() += count;
        }
    }

    pub(super) fn claims(&self, sessions: usize) -> Vec<Claim> {
        let Self { commands, writes, privileged, failed, unended, rows, bytes_out, .. } = self;
        let Self { masked_values, approvals, objects, first, last, decisions, masked: _, .. } =
            self;
        let refused = decisions.get("deny").copied().unwrap_or(0);
        let time = |us: &Option<i64>| us.map_or_else(|| "none".to_owned(), json::time);
        let claim = |name, label, value| Claim { name, label, value };
        vec![
            claim("sessions", "Sessions", sessions.to_string()),
            claim("commands", "Commands", commands.to_string()),
            claim("refused", "Refused", refused.to_string()),
            claim("writes", "May have changed data", writes.to_string()),
            claim("privileged", "Privileged", privileged.to_string()),
            claim("failed", "Failed at the target", failed.to_string()),
            claim("unended", "End not known", unended.to_string()),
            claim("approvals", "Requests for approval", approvals.len().to_string()),
            claim("objects", "Objects touched", objects.len().to_string()),
            claim("rows", "Rows returned or changed", rows.to_string()),
            claim("bytes_out", "Bytes answered", bytes_out.to_string()),
            claim("masked_values", "Values masked", masked_values.to_string()),
            claim("first", "First command", time(first)),
            claim("last", "Last command", time(last)),
        ]
    }
}
