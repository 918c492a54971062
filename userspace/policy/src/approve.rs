//! `@approve("groups=dba|risk, people=2, request=15m, grant=10m, covers=command")`: how its terms are read.
//!
//! `@approve("dba")` names groups alone. What is not understood refuses the whole policy set.

use std::sync::Arc;

use types::approval::{Coverage, Terms};
use types::id::PolicyId;

use crate::limit::seconds;

/// How long a request lives where policy does not say: people are asked in chats and look up from their work.
const REQUEST_S: u32 = 15 * 60;

/// How long a grant lives where policy does not say.
const GRANT_S: u32 = 5 * 60;

/// How long a command may wait inside a transaction where policy does not say: others wait for its locks.
const TRANSACTION_S: u32 = 60;

/// The longest that requests and grants live: a day, after which those who approved are at home.
const LONGEST_S: u32 = 24 * 60 * 60;

/// People that one policy may ask for.
const PEOPLE_MAX: u8 = 8;

/// Groups that one policy may name.
const GROUPS_MAX: usize = 32;

/// How often a grant may be used that covers commands alike.
const TIMES_MAX: u32 = 10_000;

/// The terms that `policy` sets; the error says what is wrong with its annotation.
pub(crate) fn read(policy: &Arc<str>, text: &str) -> Result<Terms, String> {
    let mut terms = Terms {
        policy: PolicyId(Arc::clone(policy)),
        groups: Arc::new([]),
        people: 1,
        request_s: REQUEST_S,
        grant_s: GRANT_S,
        covers: Coverage::Command,
        transaction_s: TRANSACTION_S,
        before_write: false,
        estimates: false,
        break_glass: Arc::new([]),
    };
    if !text.contains('=') {
        terms.groups = groups(text)?;
        return Ok(terms);
    }
    let mut said: Vec<&str> = Vec::new();
    for term in text.split(',') {
        let (key, value) = term.trim().split_once('=').ok_or_else(|| not_understood(term))?;
        if said.contains(&key) {
            return Err(format!("@approve has {key} twice"));
        }
        said.push(key);
        let span = || seconds(value).filter(|s| (1..=LONGEST_S).contains(s));
        let found = match key {
            "groups" => {
                terms.groups = groups(value)?;
                Some(())
            }
            "break_glass" => {
                terms.break_glass = groups(value)?;
                Some(())
            }
            "people" => people(value).map(|people| terms.people = people),
            "request" => span().map(|s| terms.request_s = s),
            "grant" => span().map(|s| terms.grant_s = s),
            "transaction" if value == "before-write" => {
                terms.before_write = true;
                Some(())
            }
            "transaction" => span().map(|s| terms.transaction_s = s),
            "estimate" if value == "explain" => {
                terms.estimates = true;
                Some(())
            }
            "covers" => coverage(value).map(|covers| terms.covers = covers),
            _ => None,
        };
        found.ok_or_else(|| not_understood(term))?;
    }
    if terms.groups.is_empty() {
        return Err("@approve names nobody: groups=NAME|NAME".to_owned());
    }
    Ok(terms)
}

fn not_understood(term: &str) -> String {
    format!(
        "@approve: {:?} is not like groups=dba|risk, people=2, request=15m, grant=5m, covers=command (alike*20, \
         session), transaction=60s (before-write), estimate=explain, break_glass=incident",
        term.trim()
    )
}

fn groups(text: &str) -> Result<Arc<[Arc<str>]>, String> {
    let groups: Vec<Arc<str>> = text.split('|').map(|group| group.trim().into()).collect();
    if groups.iter().any(|group| group.is_empty()) {
        return Err("@approve names nobody".to_owned());
    }
    if groups.len() > GROUPS_MAX {
        return Err(format!("@approve names more than {GROUPS_MAX} groups"));
    }
    Ok(groups.into())
}

fn people(text: &str) -> Option<u8> {
    text.parse().ok().filter(|people| (1..=PEOPLE_MAX).contains(people))
}

fn coverage(text: &str) -> Option<Coverage> {
    match text.split_once('*') {
        None if text == "command" => Some(Coverage::Command),
        None if text == "session" => Some(Coverage::Session),
        Some(("alike", times)) => {
            let times = times.parse().ok().filter(|times| (1..=TIMES_MAX).contains(times))?;
            Some(Coverage::Alike(times))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_read_or_refused() {
        let policy: Arc<str> = "p".into();
        let plain = read(&policy, "data-owners").unwrap();
        assert_eq!((&*plain.groups, plain.people), (&["data-owners".into()][..], 1));
        assert_eq!((plain.covers, plain.request_s, plain.grant_s), (Coverage::Command, 900, 300));
        let full = "groups=dba|risk, people=2, request=1h, grant=30s, covers=alike*20, transaction=5s, break_glass=i";
        let full = read(&policy, full).unwrap();
        assert_eq!((full.people, full.request_s, full.grant_s), (2, 3_600, 30));
        assert_eq!((full.covers, full.transaction_s), (Coverage::Alike(20), 5));
        assert_eq!((full.groups.len(), full.break_glass.len(), full.before_write), (2, 1, false));
        assert!(!full.estimates);
        let first = read(&policy, "groups=a, transaction=before-write, covers=session").unwrap();
        assert_eq!((first.before_write, first.covers), (true, Coverage::Session));
        assert!(read(&policy, "groups=a, estimate=explain").unwrap().estimates);
        for wrong in [
            "",
            "a|",
            "people=2",
            "groups=",
            "groups=a, people=0",
            "groups=a, people=9",
            "groups=a, people=2, people=2",
            "groups=a, request=0s",
            "groups=a, request=25h",
            "groups=a, grant=500ms",
            "groups=a, covers=everything",
            "groups=a, covers=alike*0",
            "groups=a, covers=alike",
            "groups=a, transaction=never",
            "groups=a, group=b",
            "groups=a, estimate=analyze",
            "groups=a,",
        ] {
            assert!(read(&policy, wrong).is_err(), "{wrong}");
        }
    }
}
