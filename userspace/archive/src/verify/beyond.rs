//! What is asked beyond the bytes: completeness (L4) and governance (L5), by what the rows of each step say.
//!
//! Of what passes by are kept sessions that are open, requests for approval, digests of policies, holds and dispositions:
//! each has its bound beside it, 300 MB at most in sum, and the rows that were read ahead (`pool`).

use std::collections::BTreeMap;

use super::completeness::Completeness;
use super::facts::Facts;
use super::governance::Governance;
use super::report::Report;
use crate::layout::Manifest;
use crate::merkle::Hash;

/// What passed by.
#[derive(Debug, Default)]
pub(super) struct Beyond {
    step: Facts,
    completeness: Completeness,
    governance: Option<Governance>,
}

impl Beyond {
    /// Where level 4 is asked for; with governance from 5 on.
    pub(super) fn new(level: Option<u8>) -> Option<Self> {
        let level = level.filter(|level| *level >= 4)?;
        Some(Self { governance: (level >= 5).then(Governance::default), ..Self::default() })
    }

    /// What was verified before is not read again.
    pub(super) fn resumed(&mut self) {
        self.completeness.resumed();
        self.partial("only what is new was read", false);
    }

    /// Takes what a file of the step under way says; one that was rewritten or can't be read says nothing.
    pub(super) fn take(&mut self, facts: Option<Facts>) {
        let Some(Facts { commands, digests, approved, sessions, records }) = facts else {
            return self.partial(
                "a file is not as it was sealed, so that what it says is not judged",
                true,
            );
        };
        for (session, count) in commands {
            *self.step.commands.entry(session).or_default() += count;
        }
        for (digest, seq) in digests {
            let first = self.step.digests.entry(digest).or_insert(seq);
            *first = (*first).min(seq);
        }
        self.step.approved.extend(approved);
        self.step.sessions.extend(sessions);
        self.step.records.extend(records);
    }

    /// A file of the step is not here, and that is accounted for.
    pub(super) fn absent(&mut self, table: Option<&str>) {
        match table {
            Some("events") => {
                self.completeness.partial = Some("commands are in files that are not here");
            }
            Some("control") => self.partial("records are in files that are not here", true),
            _ => {}
        }
    }

    fn partial(&mut self, why: &'static str, of_commands: bool) {
        if of_commands {
            self.completeness.partial = Some(why);
        }
        if let Some(governance) = &mut self.governance {
            governance.partial = Some(why);
        }
    }

    /// The step has passed.
    pub(super) fn step(&mut self, id: &str, report: &mut Report) {
        let facts = std::mem::take(&mut self.step);
        self.completeness.step(&facts, id, report);
        if let Some(governance) = &mut self.governance {
            governance.step(&facts, id, report);
        }
    }

    /// All steps have passed; `roots` are those of signed checkpoints.
    pub(super) fn conclude<'m>(
        self,
        id: &str,
        roots: &BTreeMap<u64, Hash>,
        steps: impl Iterator<Item = &'m Manifest>,
        report: &mut Report,
    ) {
        self.completeness.conclude(id, report);
        if let Some(governance) = self.governance {
            let entries = steps.flat_map(|step| &step.files).filter(|entry| entry.table.is_some());
            governance.conclude(id, roots, entries, report);
        }
    }
}
