//! ARCHITECTURE.md names the test that holds each invariant: the test must exist.

use super::sources::File;

const PAGE: &str = "ARCHITECTURE.md";

/// Answers what is wrong with the table of invariants.
pub(super) fn check(files: &[File]) -> Vec<String> {
    let Some(page) = files.iter().find(|file| file.path == PAGE) else {
        return vec![format!("there is no {PAGE}")];
    };
    let rows: Vec<(&str, Vec<&str>)> = page.text.lines().filter_map(row).collect();
    if rows.is_empty() {
        return vec![format!("{PAGE} has no invariants")];
    }
    let is_there = |name: &str| {
        let function = format!("fn {}(", name.rsplit("::").next().unwrap_or(name));
        files.iter().any(|file| file.is_rust() && file.text.contains(&function))
    };
    let mut wrong = Vec::new();
    for (number, tests) in rows {
        if tests.is_empty() {
            wrong.push(format!("{PAGE}: invariant {number} names no test"));
        }
        let missing = tests.iter().filter(|name| !name.starts_with("cargo ") && !is_there(name));
        wrong.extend(
            missing.map(|name| format!("{PAGE}: invariant {number}: there is no test `{name}`")),
        );
    }
    wrong
}

/// A row of the table, `| 3 | what holds | `test`, `test` |`: its number and its tests.
fn row(line: &str) -> Option<(&str, Vec<&str>)> {
    let mut cells = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim);
    let number = cells.next().filter(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()))?;
    let tests = cells.next_back()?.split('`').skip(1).step_by(2).collect();
    Some((number, tests))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_is_not_there_is_missed() {
        let files = |tests: &str| {
            let page =
                format!("| no. | invariant | tests |\n|---|---|---|\n| 1 | holds | {tests} |\n");
            vec![
                File { path: PAGE.into(), text: page },
                File { path: "a.rs".into(), text: "#[test]\nfn it_holds() {}".into() },
            ]
        };
        assert!(check(&files("`a::it_holds`")).is_empty());
        assert_eq!(check(&files("`a::it_holds`, `b::other`")).len(), 1);
        assert_eq!(check(&files("")).len(), 1);
        assert!(check(&files("`cargo xtask tidy`")).is_empty());
        assert_eq!(check(&[]).len(), 1);
    }
}
