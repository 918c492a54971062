//! Questions that auditors ask, ready to be asked by name.
//!
//! Each is one SELECT over the views, which hold what engines say differently (`heartbeats`, `masked_values`, `blind_values`). DuckDB and
//! Spark have theirs (`views`); other engines need views of their own.
//! Its first lines say what it answers, what it must be told, and whether anything may come of it:
//!
//! ```sql
//! -- What was refused, to whom and by which rule
//! -- from (0001-01-01): the first day, UTC
//! -- expects: no rows
//! ```

use std::collections::BTreeMap;

use serde::Serialize;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Question {
    /// Its name: `who-touched`.
    pub name: &'static str,
    /// What it answers, in a line.
    pub title: String,
    /// What it must be told, in order.
    pub arguments: Vec<Argument>,
    /// Whether nothing may come of it: a row is something to look into.
    pub expects_none: bool,
    #[serde(skip)]
    text: &'static str,
}

/// Something that a question must be told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Argument {
    /// Its name: `object`.
    pub name: String,
    /// What it says.
    pub about: String,
    /// What it is where it is not said; it must be where this is `None`.
    pub default: Option<String>,
}

/// Why a question could not be put.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPut {
    /// There is no such question.
    #[error("there is no question `{name}`; there are: {}", names())]
    Unknown {
        /// As it was asked.
        name: String,
    },
    /// It must be told something.
    #[error("`{question}` must be told {argument}=…: {about}")]
    Missing {
        /// The question.
        question: &'static str,
        /// What it must be told.
        argument: String,
        /// What that says.
        about: String,
    },
    /// It has no such argument.
    #[error("`{question}` knows no `{argument}`")]
    Surplus {
        /// The question.
        question: &'static str,
        /// What it was told.
        argument: String,
    },
    /// What it was told can't stand in SQL of every dialect.
    #[error("{argument}: a backslash or a control character can't be asked for")]
    Unquotable {
        /// What it was told.
        argument: String,
    },
}

macro_rules! questions {
    ($($name:literal),* $(,)?) => {
        const TEXTS: &[(&str, &str)] = &[$(($name, include_str!(concat!("questions/", $name, ".sql")))),*];
    };
}

questions![
    "who-touched",
    "person",
    "session",
    "agents",
    "privileged",
    "refusals",
    "approvals",
    "self-approvals",
    "emergencies",
    "masked",
    "blind-token",
    "blind-cut",
    "accounts",
    "largest-answers",
    "unended",
    "without-mfa",
    "incomplete-records",
    "incomplete-sessions",
    "gaps",
    "interruptions",
    "changes",
    "copies",
    "retention",
    "holds",
    "disposals",
    "policies",
    "policy-text",
    "unknown-policies",
];

/// What stands before the line that says that nothing may come.
const EXPECTS_NONE: &str = "expects: no rows";

/// Answers all questions, those on what was done first, then those on the record itself.
pub fn all() -> impl Iterator<Item = Question> {
    TEXTS.iter().map(|(name, text)| Question::read(name, text))
}

/// Answers the question of this name.
///
/// # Errors
/// If there is none.
pub fn named(name: &str) -> Result<Question, NotPut> {
    all()
        .find(|question| question.name == name)
        .ok_or_else(|| NotPut::Unknown { name: name.into() })
}

fn names() -> String {
    TEXTS.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
}

impl Question {
    fn read(name: &'static str, text: &'static str) -> Self {
        let head: Vec<&str> =
            text.lines().map_while(|line| line.strip_prefix("--")).map(str::trim).collect();
        let (mut title, mut arguments, mut expects_none) = (String::new(), Vec::new(), false);
        for line in head {
            match line.split_once(": ").filter(|(word, _)| is_argument(word)) {
                _ if line == EXPECTS_NONE => expects_none = true,
                Some((word, about)) => arguments.push(Argument::read(word, about)),
                None if title.is_empty() => line.clone_into(&mut title),
                None => title = format!("{title} {line}"),
            }
        }
        Self { name, title, arguments, expects_none, text }
    }

    /// The SQL as it ships, with `:argument` where what it is told belongs.
    pub fn template(&self) -> &'static str {
        self.text
    }

    /// The SQL to be run, told this.
    ///
    /// # Errors
    /// If something is missing, unknown or can't be quoted.
    pub fn sql(&self, told: &BTreeMap<String, String>) -> Result<String, NotPut> {
        let question = self.name;
        let surplus = told.keys().find(|name| self.arguments.iter().all(|a| a.name != **name));
        if let Some(argument) = surplus.cloned() {
            return Err(NotPut::Surplus { question, argument });
        }
        let mut values = BTreeMap::new();
        for Argument { name, about, default } in &self.arguments {
            let missing = || {
                let (argument, about) = (name.clone(), about.clone());
                NotPut::Missing { question, argument, about }
            };
            let value = told.get(name).or(default.as_ref()).ok_or_else(missing)?;
            values.insert(name.as_str(), quoted(name, value)?);
        }
        let body = self.text.lines().skip_while(|line| line.starts_with("--"));
        Ok(filled(&body.collect::<Vec<_>>().join("\n"), &values))
    }
}

impl Argument {
    fn read(word: &str, about: &str) -> Self {
        let (name, default) = match word.strip_suffix(')').and_then(|word| word.split_once(" (")) {
            Some((name, default)) => (name, Some(default.to_owned())),
            None => (word, None),
        };
        Self { name: name.to_owned(), about: about.to_owned(), default }
    }
}

/// Whether it is like `object` or `from (0001-01-01)`.
fn is_argument(word: &str) -> bool {
    let name = word.split(" (").next().unwrap_or_default();
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase())
}

/// `sql` with each `:name` replaced, in one pass: what one argument is told is not taken for another. No template has a
/// colon that is none.
fn filled(sql: &str, values: &BTreeMap<&str, String>) -> String {
    let mut parts = sql.split(':');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.find(|c: char| !c.is_ascii_lowercase()).unwrap_or(part.len());
        let (name, rest) = part.split_at(end);
        out.push_str(values.get(name).map_or(name, String::as_str));
        out.push_str(rest);
    }
    out
}

/// As a literal. Some engines take a backslash for an escape, others do not.
pub(crate) fn quoted(argument: &str, value: &str) -> Result<String, NotPut> {
    if value.chars().any(|c| c == '\\' || c.is_control()) {
        return Err(NotPut::Unquotable { argument: argument.to_owned() });
    }
    Ok(format!("'{}'", value.replace('\'', "''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn each_question_says_what_it_answers_and_what_it_must_be_told() {
        let mut names: Vec<&str> = all().map(|question| question.name).collect();
        assert!(names.len() >= 12);
        for question in all() {
            assert!(
                !question.title.is_empty() && !question.title.contains("expects"),
                "{question:?}"
            );
            let all: Vec<(&str, &str)> =
                question.arguments.iter().map(|a| (a.name.as_str(), "2026-01-01")).collect();
            let sql = question.sql(&told(&all)).unwrap();
            let is_one = sql.starts_with("SELECT") || sql.starts_with("WITH");
            assert!(is_one && !sql.contains(" :"), "{}: {sql}", question.name);
            for argument in &question.arguments {
                let used = format!(":{}", argument.name);
                assert!(question.template().contains(&used), "{}: {used}", question.name);
            }
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TEXTS.len());
    }

    #[test]
    fn what_it_is_told_stays_a_literal() {
        let question = named("who-touched").unwrap();
        let sql = question.sql(&told(&[("object", "a.b' OR 1=1 -- :from")])).unwrap();
        assert!(sql.contains("array_position(objects, 'a.b'' OR 1=1 -- :from') > 0"), "{sql}");
        assert!(sql.contains("CAST('0001-01-01' AS DATE)"), "{sql}");
        let error = |pairs: &[(&str, &str)]| question.sql(&told(pairs)).unwrap_err().to_string();
        assert!(error(&[]).contains("must be told object=…: a table"), "{}", error(&[]));
        assert!(error(&[("object", "a"), ("objects", "b")]).contains("knows no `objects`"));
        assert!(error(&[("object", "a\\")]).contains("can't be asked for"));
        assert!(error(&[("object", "a\n")]).contains("can't be asked for"));
        assert!(named("nothing").unwrap_err().to_string().contains("who-touched, "));
    }
}
