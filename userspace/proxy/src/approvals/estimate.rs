//! How many rows a server expects a statement to touch, by its plan.

use serde_json::Value;
use types::command::{Risk, Statement};

/// Statements that EXPLAIN takes (PostgreSQL documentation, "EXPLAIN") and that are plans of their own.
const PLANNED: [&str; 5] = ["DELETE", "INSERT", "MERGE", "SELECT", "UPDATE"];

/// The node that changes rows; what comes to it from below are the rows.
const CHANGES: &str = "ModifyTable";

/// Whether planning the statement runs nothing but the server's own functions. The planner calls what is declared
/// immutable or stable to know its value, and anybody may declare that.
pub(crate) fn is_planned_only(statement: &Statement) -> bool {
    let runs = Risk::EFFECTS | Risk::REINTERPRETS | Risk::MULTI;
    PLANNED.contains(&statement.verb) && !statement.risks.intersects(runs)
}

/// Rows that a plan changes or, where it changes none, answers. `None` where it is not a plan in JSON.
pub(crate) fn rows(plan: &str) -> Option<u64> {
    let plan: Value = serde_json::from_str(plan).ok()?;
    let root = plan.get(0)?.get("Plan")?;
    changed(root).or_else(|| expected(root))
}

/// Rows that come to the nodes that change some; `None` where there is no such node.
fn changed(node: &Value) -> Option<u64> {
    let below = node.get("Plans").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let own = (node.get("Node Type")? == CHANGES).then(|| {
        let is_input = |below: &&Value| {
            below.get("Parent Relationship").is_some_and(|role| role == "Outer" || role == "Member")
        };
        below.iter().filter(is_input).filter_map(expected).sum()
    });
    below.iter().map(changed).fold(own, |sum, more: Option<u64>| match (sum, more) {
        (Some(sum), Some(more)) => Some(sum.saturating_add(more)),
        (sum, more) => sum.or(more),
    })
}

fn expected(node: &Value) -> Option<u64> {
    node.get("Plan Rows")?.as_u64()
}

#[cfg(test)]
mod tests {
    use types::command::Analysis;

    use super::*;

    #[test]
    fn rows_are_those_that_change_or_else_those_that_are_answered() {
        let select = r#"[{"Plan": {"Node Type": "Limit", "Plan Rows": 5, "Plans": [
            {"Node Type": "Seq Scan", "Parent Relationship": "Outer", "Plan Rows": 900}]}}]"#;
        assert_eq!(rows(select), Some(5));
        let delete = r#"[{"Plan": {"Node Type": "ModifyTable", "Operation": "Delete", "Plan Rows": 0, "Plans": [
            {"Node Type": "Aggregate", "Parent Relationship": "InitPlan", "Plan Rows": 1},
            {"Node Type": "Seq Scan", "Parent Relationship": "Outer", "Plan Rows": 12}]}}]"#;
        assert_eq!(rows(delete), Some(12));
        // Before PostgreSQL 14 each partition has a node; and WITH may change others.
        let partitions = r#"[{"Plan": {"Node Type": "ModifyTable", "Plan Rows": 0, "Plans": [
            {"Node Type": "ModifyTable", "Parent Relationship": "InitPlan", "Plan Rows": 0, "Plans": [
                {"Node Type": "Result", "Parent Relationship": "Outer", "Plan Rows": 1}]},
            {"Node Type": "Seq Scan", "Parent Relationship": "Member", "Plan Rows": 3},
            {"Node Type": "Seq Scan", "Parent Relationship": "Member", "Plan Rows": 4}]}}]"#;
        assert_eq!(rows(partitions), Some(8));
        for wrong in ["", "[]", "{}", r#"[{"Plan": {}}]"#, r#"[{"Plan": {"Node Type": "X"}}]"#] {
            assert_eq!(rows(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_planning_may_run_is_not_planned() {
        let statement =
            |verb, risks| Statement::new("", Analysis::new(verb, "", Vec::new(), risks));
        assert!(is_planned_only(&statement("DELETE", Risk::NO_WHERE)));
        for (verb, risks) in [
            ("DELETE", Risk::UNKNOWN_FUNCTION),
            ("SELECT", Risk::SIDE_EFFECT),
            ("UPDATE", Risk::MULTI),
            ("DROP", Risk::empty()),
            ("COPY", Risk::empty()),
        ] {
            assert!(!is_planned_only(&statement(verb, risks)), "{verb} {risks:?}");
        }
    }
}
