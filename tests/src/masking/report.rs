//! What is shown of the suite: a table for people, JSON for programs, and whether all is well.

use serde_json::{Value, json};

use super::{Expected, Outcome};

/// What became of one attack.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub attack: String,
    /// What should become of it.
    pub expected: Expected,
    /// Whether it brings what it is after where nothing stands between.
    pub proven: bool,
    /// What got through.
    pub leak: Option<String>,
    /// What is wrong about the reason why nothing did.
    pub wrong: Option<String>,
}

/// Answers `{"attacks","leaks","ordinary","false_masks"}`.
pub fn to_json(outcome: &Outcome) -> Value {
    json!({
        "attacks": outcome.attacks.len(),
        "leaks": leaks(outcome),
        "ordinary": outcome.ordinary,
        "false_masks": outcome.false_masks.len(),
    })
}

/// Answers how many attacks got something through.
pub fn leaks(outcome: &Outcome) -> usize {
    outcome.attacks.iter().filter(|row| row.leak.is_some()).count()
}

/// Answers the table's head.
pub fn head() -> String {
    format!("{:<34} {:<28} {:<9} {}", "attack", "expected", "directly", "behind vestibule")
}

/// Answers one line of the table.
pub fn line(row: &Row) -> String {
    let Row { attack, expected, proven, leak, wrong } = row;
    let expected = match expected {
        Expected::Deny(rule, _) => format!("refused by {rule}"),
        Expected::Mask(class) => format!("masked as {class}"),
        Expected::Withhold => "text withheld".to_owned(),
        Expected::Nothing => "nothing to see".to_owned(),
    };
    let seen = match (leak, wrong) {
        (Some(leak), _) => format!("LEAK: {leak}"),
        (None, Some(wrong)) => format!("WRONG: {wrong}"),
        (None, None) => "as expected".to_owned(),
    };
    let directly = if *proven { "leaks" } else { "UNPROVEN" };
    format!("{attack:<34} {expected:<28} {directly:<9} {seen}")
}

/// Answers what is wrong: leaks, wrong reasons, attacks that prove nothing, false masks.
pub fn wrong(outcome: &Outcome) -> Vec<String> {
    let bad = |row: &&Row| row.leak.is_some() || row.wrong.is_some() || !row.proven;
    let attacks = outcome.attacks.iter().filter(bad).map(line);
    attacks.chain(outcome.false_masks.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_a_wrong_reason_and_an_attack_that_proves_nothing_are_wrong() {
        let row = |proven, leak: Option<&str>, wrong: Option<&str>| Row {
            attack: "a".to_owned(),
            expected: Expected::Nothing,
            proven,
            leak: leak.map(str::to_owned),
            wrong: wrong.map(str::to_owned),
        };
        let attacks = vec![
            row(true, None, None),
            row(true, Some("x"), None),
            row(true, None, Some("y")),
            row(false, None, None),
        ];
        let outcome = Outcome { attacks, ordinary: 1, false_masks: vec!["z".to_owned()] };
        assert_eq!(wrong(&outcome).len(), 4);
        assert_eq!(
            to_json(&outcome),
            json!({ "attacks": 4, "leaks": 1, "ordinary": 1, "false_masks": 1 })
        );
    }
}
