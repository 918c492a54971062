//! L5: was it done as it had to be? Approvals resolve and are nobody's own, policies that decided are in the log word for
//! word, holds and dispositions are by their rules.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use sha2::{Digest, Sha256};
use types::hex::hex;

use super::facts::{Approved, Facts, Record};
use super::report::{Level, Report};
use crate::holds::{self, Hold, Release};
use crate::layout::{self, FileEntry};
use crate::merkle::Hash;
use crate::retention::{self, Disposition};

/// Requests for approval, made by people: 1 Mi × 200 B, 200 MB. Beyond it is not judged.
const REQUESTS_MAX: usize = 1024 * 1024;

/// Findings of one kind that are told one by one.
const TOLD_MAX: u64 = 20;

/// What passed by so far.
#[derive(Debug, Default)]
pub(super) struct Governance {
    requests: HashMap<String, Request>,
    is_beyond: bool,
    policies: BTreeMap<String, Policies>,
    /// Since when policies are recorded: what was decided before is not judged.
    policies_since: Option<u64>,
    /// Digests that commands name, and the first that does.
    digests: BTreeMap<String, u64>,
    holds: BTreeMap<String, Hold>,
    /// Dispositions, and the holds that were in force then.
    disposed: Vec<(u64, Disposition, Vec<Hold>)>,
    periods: Option<(u64, u64)>,
    told: u64,
    approved: u64,
    pub(super) partial: Option<&'static str>,
}

/// A request for approval.
#[derive(Debug, Default)]
struct Request {
    /// Whom the agent acts for, and who answers for it.
    people: Vec<String>,
    is_requested: bool,
    /// Who approved; none before.
    granted: Option<BTreeSet<String>>,
    is_emergency: bool,
}

/// What the log has of policies with one digest.
#[derive(Debug, Default)]
struct Policies {
    is_loaded: bool,
    /// SHA-256 of each file, hex.
    files: BTreeMap<String, String>,
    /// Of the texts: the digest so far, and that of the whole.
    texts: BTreeMap<String, (Sha256, Option<String>)>,
}

impl Governance {
    /// Takes what the files of a step say, all of them.
    pub(super) fn step(&mut self, facts: &Facts, id: &str, report: &mut Report) {
        let mut records: Vec<&Record> = facts.records.iter().collect();
        records.sort_by_key(|record| record.seq);
        for record in records {
            self.record(record, id, report);
        }
        for approved in &facts.approved {
            self.approved(approved, id, report);
        }
        for (digest, seq) in &facts.digests {
            let first = self.digests.entry(digest.clone()).or_insert(*seq);
            *first = (*first).min(*seq);
        }
    }

    fn record(&mut self, record: &Record, id: &str, report: &mut Report) {
        let Record { seq, kind, detail, ts_us: _ } = record;
        let said: Value = serde_json::from_str(detail).unwrap_or_default();
        let text = |name: &str| said.get(name).and_then(Value::as_str).map(str::to_owned);
        match kind.as_str() {
            "approval.requested" => self.requested(&said),
            "approval.granted" => self.granted(&said),
            "policy.loaded" => {
                self.policies_since.get_or_insert(*seq);
                let policies =
                    self.policies.entry(text("new_digest").unwrap_or_default()).or_default();
                policies.is_loaded = true;
                for file in said.get("files").and_then(Value::as_array).into_iter().flatten() {
                    let of = |name: &str| file.get(name).and_then(Value::as_str).map(str::to_owned);
                    policies.files.extend(of("name").zip(of("sha256")));
                }
            }
            "policy.text" => self.text(&said),
            "archive.retention" => {
                let days = |name: &str| said.get(name).and_then(Value::as_u64);
                self.periods = days("std7y_days").zip(days("payload13m_days")).or(self.periods);
            }
            holds::SET | holds::RELEASE_ASKED | holds::RELEASED => {
                self.hold(record, id, report);
            }
            retention::DISPOSED => match serde_json::from_str::<Disposition>(detail) {
                Ok(said) => {
                    self.rule(&said, *seq, id, report);
                    self.disposed.push((*seq, said, self.holds.values().cloned().collect()));
                }
                Err(_) => self.find(format!("record of a disposition is none: {id}/{seq}"), report),
            },
            _ => {}
        }
    }

    fn request(&mut self, said: &Value) -> Option<&mut Request> {
        let id = said.get("id").and_then(Value::as_str)?;
        if self.requests.len() >= REQUESTS_MAX && !self.requests.contains_key(id) {
            self.is_beyond = true;
            return None;
        }
        Some(self.requests.entry(id.to_owned()).or_default())
    }

    fn requested(&mut self, said: &Value) {
        let of = |name: &str| {
            said.get("requester")
                .and_then(|it| it.get(name))
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let person = of("sub").zip(of("idp")).map(|(sub, idp)| format!("{sub}@{idp}"));
        let people = person.into_iter().chain(of("owner")).collect();
        if let Some(request) = self.request(said) {
            (request.is_requested, request.people) = (true, people);
        }
    }

    fn granted(&mut self, said: &Value) {
        let approvers = said.get("approvers").and_then(Value::as_array).into_iter().flatten();
        let approvers = approvers.filter_map(|one| one.as_str().map(str::to_owned)).collect();
        let is_emergency = said.get("broken_glass").and_then(Value::as_bool).unwrap_or(false);
        if let Some(request) = self.request(said) {
            (request.granted, request.is_emergency) = (Some(approvers), is_emergency);
        }
    }

    /// A part of a policy's text; the first begins it anew.
    fn text(&mut self, said: &Value) {
        let text = |name: &str| said.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = |name: &str| said.get(name).and_then(Value::as_u64).unwrap_or(0);
        let policies = self.policies.entry(text("new_digest").to_owned()).or_default();
        let own = policies.texts.entry(text("name").to_owned()).or_default();
        if number("part") == 0 {
            *own = (Sha256::new(), None);
        }
        own.0.update(text("text"));
        if number("part") + 1 == number("parts") {
            own.1 = Some(hex(&own.0.clone().finalize()));
        }
    }

    fn hold(&mut self, record: &Record, id: &str, report: &mut Report) {
        let Record { seq, kind, detail, ts_us: _ } = record;
        if kind == holds::SET {
            match serde_json::from_str::<Hold>(detail) {
                Ok(hold) => drop(self.holds.insert(hold.name.clone(), hold)),
                Err(_) => self.find(format!("record of a hold is none: {id}/{seq}"), report),
            }
            return;
        }
        let Ok(said) = serde_json::from_str::<Release>(detail) else {
            return self.find(format!("record of a hold's release is none: {id}/{seq}"), report);
        };
        if kind == holds::RELEASE_ASKED {
            if let Some(hold) = self.holds.get_mut(&said.name) {
                hold.release_asked.push(said.by);
            }
            return;
        }
        let hold = self.holds.remove(&said.name);
        let others = hold.is_some_and(|hold| hold.release_asked.iter().any(|one| *one != said.by));
        if !others {
            let text = format!("hold {} was released without two people: {id}/{seq}", said.name);
            self.find(text, report);
        }
    }

    /// Whether what went was over by the rule in force.
    fn rule(&mut self, said: &Disposition, seq: u64, id: &str, report: &mut Report) {
        for file in &said.files {
            let day = layout::day_of(&file.path);
            if day.is_none_or(|day| day >= said.before.as_str()) {
                let text = format!("{} was disposed of before its time: {id}/{seq}", file.path);
                self.find(text, report);
            }
            if file.path.contains("/table=control/") {
                self.find(format!("control records were disposed of: {id}/{seq}"), report);
            }
        }
        if said.approver.is_empty() {
            self.find(format!("nobody approved a disposition: {id}/{seq}"), report);
        }
        if let Some((std7y, payload13m)) = self.periods {
            let is_rule = |class: &str, days: u64| said.rule == retention::rule(class, days);
            if !is_rule("std7y", std7y) && !is_rule("payload13m", payload13m) {
                let text = format!("`{}` was no rule in force: {id}/{seq}", said.rule);
                self.find(text, report);
            }
        }
    }

    /// A command that people approved: the request and the grant are in the log, and are nobody's own.
    fn approved(&mut self, approved: &Approved, id: &str, report: &mut Report) {
        self.approved += 1;
        let Approved { seq, request, approvers, person, is_emergency } = approved;
        let row: BTreeSet<String> =
            approvers.split(", ").filter(|one| !one.is_empty()).map(str::to_owned).collect();
        let known = request.as_ref().and_then(|request| self.requests.get(request));
        let mut faults: Vec<String> = Vec::new();
        match known {
            None if self.partial.is_some() || self.is_beyond => {}
            None => faults.push("no request for its approval is in the log".to_owned()),
            Some(known) => {
                if !known.is_requested && self.partial.is_none() {
                    faults.push("no request for its approval is in the log".to_owned());
                }
                match &known.granted {
                    None => faults.push("its approval was not granted, by the log".to_owned()),
                    Some(granted) if *granted != row => {
                        faults.push(format!(
                            "it says that {approvers} approved, the log {}",
                            granted.iter().cloned().collect::<Vec<_>>().join(", ")
                        ));
                    }
                    Some(_) => {}
                }
                if known.is_emergency != *is_emergency {
                    faults.push("the log does not agree that it was an emergency".to_owned());
                }
                if !is_emergency
                    && let Some(own) = known.people.iter().find(|one| row.contains(*one))
                {
                    faults.push(format!("{own} approved what was asked for in that name"));
                }
            }
        }
        if !is_emergency && let Some(own) = person.as_ref().filter(|one| row.contains(*one)) {
            faults.push(format!("{own} approved what was done in that name"));
        }
        if row.is_empty() {
            faults.push("it does not say who approved it".to_owned());
        }
        faults.dedup();
        for fault in faults {
            self.find(format!("command that people approved: {fault}: {id}/{seq}"), report);
        }
    }

    fn find(&mut self, text: String, report: &mut Report) {
        self.told += 1;
        if self.told <= TOLD_MAX {
            report.find(Level::Governance, None, text);
        }
    }

    /// Says what was found, once all steps have passed; `roots` are those of signed checkpoints.
    pub(super) fn conclude<'e>(
        mut self,
        id: &str,
        roots: &BTreeMap<u64, Hash>,
        entries: impl Iterator<Item = &'e FileEntry>,
        report: &mut Report,
    ) {
        self.policies(id, report);
        self.dispositions(id, roots, entries, report);
        if self.told > TOLD_MAX {
            report.find(
                Level::Governance,
                None,
                format!(
                    "{} faults of approvals, policies, holds and dispositions, all told",
                    self.told
                ),
            );
        }
        let why = match (self.is_beyond, self.partial, self.policies_since) {
            (true, _, _) => {
                Some(format!("there are more than {REQUESTS_MAX} requests for approval"))
            }
            (_, Some(why), _) => Some(why.to_owned()),
            (_, None, None) => Some("no record says which policies were in force".to_owned()),
            _ => None,
        };
        match why {
            Some(why) => report.uncheckable(Level::Governance, &format!("{id}: {why}")),
            None => report.checked(Level::Governance),
        }
    }

    fn policies(&mut self, id: &str, report: &mut Report) {
        let Some(since) = self.policies_since.filter(|_| self.partial.is_none()) else { return };
        let digests = std::mem::take(&mut self.digests);
        for (digest, seq) in digests.iter().filter(|(_, seq)| **seq > since) {
            if !self.policies.get(digest).is_some_and(|policies| policies.is_loaded) {
                let text = format!("policies {digest} decided and are not in the log: {id}/{seq}");
                self.find(text, report);
            }
        }
        for (digest, policies) in std::mem::take(&mut self.policies) {
            for (name, sha256) in &policies.files {
                let found = policies.texts.get(name).and_then(|(_, whole)| whole.as_ref());
                if found != Some(sha256) {
                    let text = format!(
                        "{name} of policies {digest} is not in the log word for word: {id}"
                    );
                    self.find(text, report);
                }
            }
        }
    }

    /// Whether what dispositions list is what was sealed, under a root that was signed, and nothing that was held.
    fn dispositions<'e>(
        &mut self,
        id: &str,
        roots: &BTreeMap<u64, Hash>,
        entries: impl Iterator<Item = &'e FileEntry>,
        report: &mut Report,
    ) {
        if self.disposed.is_empty() {
            return;
        }
        let sealed: BTreeMap<&str, &FileEntry> =
            entries.map(|entry| (entry.path.as_str(), entry)).collect();
        for (seq, said, in_force) in std::mem::take(&mut self.disposed) {
            if roots.get(&said.size).is_none_or(|root| BASE64.encode(root) != said.root) {
                let text = format!("a disposition names a root that was not signed: {id}/{seq}");
                self.find(text, report);
            }
            for gone in &said.files {
                let is_it = sealed
                    .get(gone.path.as_str())
                    .is_some_and(|entry| retention::Gone::from(*entry) == *gone);
                if !is_it {
                    let text =
                        format!("{} was disposed of and is no sealed file: {id}/{seq}", gone.path);
                    self.find(text, report);
                }
                let day = layout::day_of(&gone.path);
                let held = in_force.iter().find(|hold| {
                    hold.scope.is_days() && day.is_none_or(|day| hold.scope.has_day(day))
                });
                if let Some(hold) = held {
                    let text = format!(
                        "{} was disposed of under hold {}: {id}/{seq}",
                        gone.path, hold.name
                    );
                    self.find(text, report);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: &str, detail: &Value) -> Record {
        Record { seq: 3, ts_us: 0, kind: kind.to_owned(), detail: detail.to_string() }
    }

    fn approved(approvers: &str, is_emergency: bool) -> Approved {
        Approved {
            seq: 9,
            request: Some("r1".to_owned()),
            approvers: approvers.to_owned(),
            person: Some("ann@idp".to_owned()),
            is_emergency,
        }
    }

    #[test]
    fn approvals_resolve_and_are_nobodys_own() {
        let requested = serde_json::json!({
            "event": "requested", "id": "r1", "requester": { "sub": "ann", "idp": "idp", "owner": "carl@idp" },
        });
        let granted = |approvers: &[&str], is_emergency: bool| {
            serde_json::json!({
                "event": "granted", "id": "r1", "approvers": approvers, "broken_glass": is_emergency,
            })
        };
        let both = |approvers: &[&str], is_emergency: bool| {
            vec![
                record("approval.requested", &requested),
                record("approval.granted", &granted(approvers, is_emergency)),
            ]
        };
        for (records, row, due) in [
            (both(&["bob@idp"], false), approved("bob@idp", false), None),
            (both(&["bob@idp", "eve@idp"], false), approved("eve@idp, bob@idp", false), None),
            (both(&["ann@idp"], true), approved("ann@idp", true), None),
            (vec![], approved("bob@idp", false), Some("no request for its approval is in the log")),
            (
                vec![record("approval.requested", &requested)],
                approved("bob@idp", false),
                Some("its approval was not granted"),
            ),
            (
                both(&["bob@idp"], false),
                approved("eve@idp", false),
                Some("it says that eve@idp approved, the log bob@idp"),
            ),
            (
                both(&["ann@idp"], false),
                approved("ann@idp", false),
                Some("ann@idp approved what was"),
            ),
            (
                both(&["carl@idp"], false),
                approved("carl@idp", false),
                Some("carl@idp approved what was"),
            ),
            (
                both(&["bob@idp"], false),
                approved("bob@idp", true),
                Some("that it was an emergency"),
            ),
            (both(&[], false), approved("", false), Some("does not say who approved it")),
        ] {
            let mut all = Governance { policies_since: Some(0), ..Governance::default() };
            let mut report = Report { ok: true, ..Report::default() };
            let facts = Facts { records, approved: vec![row], ..Facts::default() };
            all.step(&facts, "n1/0", &mut report);
            all.conclude("n1/0", &BTreeMap::new(), std::iter::empty(), &mut report);
            let found: String =
                report.findings.iter().map(|finding| finding.text.as_str()).collect();
            match due {
                None => assert_eq!(found, "", "{facts:?}"),
                Some(due) => {
                    assert!(found.contains(due) && found.contains("n1/0/9"), "{due}: {found}");
                }
            }
        }
    }
}
