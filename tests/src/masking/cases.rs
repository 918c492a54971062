//! What is tried and what is expected, read from `tests/masking`: blocks that begin with `--- NAME`, then
//! `-- KEY: VALUE` lines, then SQL, in several messages where lines of `;;` stand between them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::client::Request;
use crate::{bank, paths, postgres};

/// One attempt to see a masked value.
#[derive(Clone, Debug)]
pub struct Attack {
    /// Its name; unique.
    pub name: String,
    /// The agent that makes it.
    pub agent: String,
    /// How its messages go up (`client.py`).
    pub by: String,
    /// What shall become of it.
    pub expected: Expected,
    /// How what it says is turned back.
    pub undo: String,
    /// SQL for what it is after.
    pub secret: String,
    /// A statement of somebody else's that is open meanwhile; `{ssn}` is the number it is about.
    pub victim: Option<String>,
    user: String,
    linger: bool,
    messages: Vec<String>,
}

/// What shall become of an attack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It is refused by this rule, and told these words.
    Deny(String, String),
    /// It is answered, with values of this class masked.
    Mask(String),
    /// It is answered by an error or notice whose text is withheld.
    Withhold,
    /// It is answered, with nothing of what it is after.
    Nothing,
}

/// A query of an analyst's.
#[derive(Clone, Debug)]
pub struct Ordinary {
    /// Its name; unique.
    pub name: String,
    /// Columns of its result that are masked.
    pub masked: Vec<String>,
    text_only: bool,
    messages: Vec<String>,
}

impl Attack {
    pub(super) fn request(&self) -> Request {
        let messages = self.messages.iter().map(|m| tagged(&self.name, m)).collect();
        Request {
            name: self.name.clone(),
            agent: self.agent.clone(),
            user: self.user.clone(),
            by: self.by.clone(),
            linger: self.linger,
            messages,
        }
    }
}

impl Ordinary {
    /// The request by which it goes up, if it can that way.
    pub(super) fn request(&self, by: &str) -> Option<Request> {
        if by != "simple" && self.text_only {
            return None;
        }
        let messages = self.messages.iter().map(|m| tagged(&self.name, m)).collect();
        let (agent, user) = ("analyst".to_owned(), bank::ROLE.to_owned());
        let name = self.name.clone();
        Some(Request { name, agent, user, by: by.to_owned(), linger: false, messages })
    }
}

/// Answers all attacks, in the order of their files.
///
/// # Errors
/// If a file can't be read, or says something else than a case.
pub(super) fn attacks() -> Result<Vec<Attack>> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder().join("attacks"))
        .context("tests/masking/attacks")?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.sort();
    let mut attacks = Vec::new();
    for file in files {
        for block in blocks(&file)? {
            attacks.push(attack(&block).with_context(|| block.name.clone())?);
        }
    }
    unique(attacks.iter().map(|a| a.name.as_str()))?;
    Ok(attacks)
}

/// Answers all ordinary queries.
///
/// # Errors
/// As [`attacks`].
pub(super) fn ordinary() -> Result<Vec<Ordinary>> {
    let blocks = blocks(&folder().join("ordinary.sql"))?;
    let ordinary: Vec<Ordinary> = blocks
        .iter()
        .map(|block| {
            let masked = block.get("masked").unwrap_or_default();
            Ordinary {
                name: block.name.clone(),
                masked: masked
                    .split(',')
                    .map(|c| c.trim().to_owned())
                    .filter(|c| !c.is_empty())
                    .collect(),
                text_only: block.get("by") == Some("simple"),
                messages: block.messages.clone(),
            }
        })
        .collect();
    unique(ordinary.iter().map(|o| o.name.as_str()))?;
    Ok(ordinary)
}

fn unique<'a>(names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for name in names {
        let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        ensure!(plain && !name.is_empty(), "{name:?} is no name");
        ensure!(seen.insert(name), "{name} stands twice");
    }
    Ok(())
}

fn attack(block: &Block) -> Result<Attack> {
    let expected = block.get("expect").context("nothing is expected")?;
    let role = block.get("role").unwrap_or(bank::ROLE);
    ensure!([bank::ROLE, postgres::SUPERUSER].contains(&role), "{role} is no role");
    Ok(Attack {
        name: block.name.clone(),
        agent: block.get("as").unwrap_or("analyst").to_owned(),
        by: block.get("by").unwrap_or("simple").to_owned(),
        expected: expected_of(expected)?,
        undo: block.get("undo").unwrap_or("plain").to_owned(),
        secret: block.get("secret").unwrap_or("SELECT ssn FROM customers WHERE id = 77").to_owned(),
        victim: block.get("victim").map(str::to_owned),
        user: role.to_owned(),
        linger: block.get("linger").is_some(),
        messages: block.messages.clone(),
    })
}

fn expected_of(text: &str) -> Result<Expected> {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    Ok(match word {
        "deny" => {
            let (rule, words) = rest.split_once(' ').unwrap_or((rest, ""));
            Expected::Deny(rule.to_owned(), words.to_owned())
        }
        "mask" => Expected::Mask(rest.to_owned()),
        "withhold" => Expected::Withhold,
        "nothing" => Expected::Nothing,
        _ => bail!("{text:?} is nothing to expect"),
    })
}

/// A message with its case's name where the record shows it.
fn tagged(name: &str, message: &str) -> String {
    // Behind the first word: comments before it belong to no statement.
    let (first, rest) = message.split_once([' ', '\n']).unwrap_or((message, ""));
    format!("{first} /* mask-test:{name} */ {rest}")
}

struct Block {
    name: String,
    keys: Vec<(String, String)>,
    messages: Vec<String>,
}

impl Block {
    fn get(&self, key: &str) -> Option<&str> {
        self.keys.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }
}

fn folder() -> PathBuf {
    paths::root().join("tests/masking")
}

fn blocks(path: &Path) -> Result<Vec<Block>> {
    const KEYS: [&str; 10] =
        ["as", "by", "expect", "undo", "secret", "victim", "role", "linger", "masked", "note"];
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut blocks = Vec::new();
    for part in text.split("\n--- ").skip(1) {
        let (name, rest) = part.split_once('\n').context("a name alone")?;
        let (mut keys, mut messages, mut message) = (Vec::new(), Vec::new(), String::new());
        for line in rest.lines() {
            let key = line.strip_prefix("-- ").and_then(|line| line.split_once(": "));
            match key.filter(|(key, _)| KEYS.contains(key)) {
                Some((key, value)) => keys.push((key.to_owned(), value.to_owned())),
                None if line == ";;" => messages.push(std::mem::take(&mut message)),
                None => {
                    message.push_str(line);
                    message.push('\n');
                }
            }
        }
        messages.push(message);
        let messages: Vec<String> = messages.iter().map(|m| m.trim().to_owned()).collect();
        ensure!(messages.iter().all(|m| !m.is_empty()), "{name} says nothing");
        blocks.push(Block { name: name.trim().to_owned(), keys, messages });
    }
    Ok(blocks)
}
