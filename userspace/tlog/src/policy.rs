//! Whose signatures make a checkpoint good: a C2SP tlog-policy file.

use std::collections::BTreeMap;

use crate::note::{Algorithm, PublicKey};

/// Lines of a file at most: two for each of 128 parties, twice.
const LINES_MAX: usize = 512;

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The keys of logs; any where empty.
    pub logs: Vec<PublicKey>,
    /// The witnesses.
    pub witnesses: Vec<Witness>,
    rule: Rule,
}

/// A witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// Its name in the policy.
    pub name: String,
    /// Its key.
    pub key: PublicKey,
    /// Where it takes checkpoints: the submission prefix.
    pub url: Option<String>,
}

/// What must have cosigned.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Nobody,
    Witness(usize),
    Of(usize, Vec<Rule>),
}

/// What is wrong with a policy file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {text}")]
pub struct PolicyError {
    /// The line, from 1.
    pub line: usize,
    /// In words.
    pub text: &'static str,
}

impl Policy {
    /// The policy in a file's text.
    ///
    /// # Errors
    /// If it is none, with the line.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let mut policy = Self { logs: Vec::new(), witnesses: Vec::new(), rule: Rule::Nobody };
        let mut names: BTreeMap<String, Rule> = BTreeMap::new();
        let mut quorum = None;
        for (line, content) in (1..).zip(text.split('\n')) {
            let wrong = |text| PolicyError { line, text };
            let words: Vec<&str> =
                content.split([' ', '\t']).filter(|word| !word.is_empty()).collect();
            if line > LINES_MAX {
                return Err(wrong("too many lines"));
            }
            match words.as_slice() {
                [] => {}
                [first, ..] if first.starts_with('#') => {}
                ["log", key] | ["log", key, _] => {
                    let signs = [Algorithm::Ed25519, Algorithm::Ecdsa];
                    let key = public(key, &signs).ok_or(wrong("no key of a log"))?;
                    if policy.logs.iter().any(|log| log.key == key.key) {
                        return Err(wrong("the log's key stands twice"));
                    }
                    policy.logs.push(key);
                }
                ["witness", name, key, url @ ..] if url.len() < 2 => {
                    let cosigns = [Algorithm::Cosignature];
                    let key = public(key, &cosigns).ok_or(wrong("no key of a witness"))?;
                    if policy.witnesses.iter().any(|witness| witness.key.key == key.key) {
                        return Err(wrong("the witness's key stands twice"));
                    }
                    let rule = Rule::Witness(policy.witnesses.len());
                    define(&mut names, name, rule).map_err(wrong)?;
                    let (name, url) = ((*name).to_owned(), url.first().map(|u| (*u).to_owned()));
                    policy.witnesses.push(Witness { name, key, url });
                }
                ["group", name, count, members @ ..] => {
                    let rule = group(&names, count, members).map_err(wrong)?;
                    define(&mut names, name, rule).map_err(wrong)?;
                }
                ["quorum", _] if quorum.is_some() => return Err(wrong("a second quorum")),
                ["quorum", "none"] => quorum = Some(Rule::Nobody),
                ["quorum", name] => {
                    quorum = Some(names.get(*name).cloned().ok_or(wrong("name is not defined"))?);
                }
                _ => return Err(wrong("no line of a policy")),
            }
        }
        policy.rule = quorum.ok_or(PolicyError { line: 0, text: "no quorum" })?;
        Ok(policy)
    }

    /// Whether it is enough that the witnesses cosigned whose places `has` names.
    pub fn is_met(&self, has: &dyn Fn(usize) -> bool) -> bool {
        self.rule.is_met(has)
    }
}

impl Rule {
    /// Groups name what stands before them, so this ends.
    fn is_met(&self, has: &dyn Fn(usize) -> bool) -> bool {
        match self {
            Self::Nobody => true,
            Self::Witness(at) => has(*at),
            Self::Of(count, rules) => {
                rules.iter().filter(|rule| rule.is_met(has)).count() >= *count
            }
        }
    }
}

fn public(text: &str, algorithms: &[Algorithm]) -> Option<PublicKey> {
    PublicKey::parse(&format!("{text}\n")).filter(|key| algorithms.contains(&key.algorithm))
}

fn define(names: &mut BTreeMap<String, Rule>, name: &str, rule: Rule) -> Result<(), &'static str> {
    if name == "none" || names.insert(name.to_owned(), rule).is_some() {
        return Err("name is taken");
    }
    Ok(())
}

fn group(
    names: &BTreeMap<String, Rule>,
    count: &str,
    members: &[&str],
) -> Result<Rule, &'static str> {
    let rules: Option<Vec<Rule>> = members.iter().map(|name| names.get(*name).cloned()).collect();
    let rules = rules.ok_or("member is not defined")?;
    let count = match count {
        "all" => rules.len(),
        "any" => 1,
        count => count.parse().map_err(|_| "no number of members")?,
    };
    if count == 0 || count > rules.len() {
        return Err("no such number of members");
    }
    Ok(Rule::Of(count, rules))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;

    fn key(seed: u8, algorithm: Algorithm) -> String {
        let key = SigningKey::from_bytes(&[seed; 32]).verifying_key().into();
        PublicKey { name: format!("k/{seed}"), key, algorithm }.line().trim_end().to_owned()
    }

    #[test]
    fn quorums_of_groups() {
        let witness = |n| key(n, Algorithm::Cosignature);
        let text = format!(
            "# policy\nlog {}\n\twitness a {} https://w.example\nwitness b {}\nwitness c {}\ngroup two 2 a b\n\
             group all all two c\nquorum all\n",
            key(9, Algorithm::Ed25519),
            witness(1),
            witness(2),
            witness(3)
        );
        let policy = Policy::parse(&text).unwrap();
        assert_eq!((policy.logs.len(), policy.witnesses.len()), (1, 3));
        assert_eq!(policy.witnesses[0].url.as_deref(), Some("https://w.example"));
        assert!(policy.is_met(&|_| true));
        for lacking in 0..3 {
            assert!(!policy.is_met(&|at| at != lacking), "{lacking}");
        }
        assert!(Policy::parse("quorum none").unwrap().is_met(&|_| false));
    }

    #[test]
    fn what_is_no_policy() {
        let a = key(1, Algorithm::Cosignature);
        for (text, line) in [
            (String::new(), 0),
            ("quorum a".to_owned(), 1),
            (format!("witness a {a}\nwitness b {a}\nquorum a"), 2),
            (format!("witness a {a}\nquorum a\nquorum a"), 3),
            (format!("witness a {a}\ngroup g 2 a\nquorum g"), 2),
            (format!("witness none {a}\nquorum none"), 1),
            (format!("log {a}\nquorum none"), 1),
            ("frob\nquorum none".to_owned(), 1),
        ] {
            assert_eq!(Policy::parse(&text).unwrap_err().line, line, "{text}");
        }
    }
}
