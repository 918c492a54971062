//! What an import came to, in numbers.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use capture::connection::Why;
use capture::conversation::Unread;
use capture::reading::Counts;
use serde::Serialize;
use types::clock::utc;
use types::id::AgentName;

use crate::import::whose::Whose;

/// What an import came to.
#[derive(Debug, Default, Serialize)]
pub(in crate::import) struct Tally {
    frames: u64,
    bytes: u64,
    /// The file ends within a block.
    is_cut: bool,
    first: Option<String>,
    last: Option<String>,
    /// Frames that are no TCP, by what they are.
    not_tcp: BTreeMap<&'static str, u64>,
    connections: u64,
    /// Connections that ended because more were open than are followed.
    evicted: u64,
    sessions: u64,
    /// Commands, the openings of sessions among them.
    pub(super) statements: u64,
    /// Sessions by agent.
    agents: BTreeMap<String, u64>,
    /// Sessions of addresses that are in no map.
    unmapped: BTreeMap<String, u64>,
    unmapped_more: u64,
    /// Connections of which nothing, or not all, was read, by why.
    unread: BTreeMap<&'static str, u64>,
    unread_bytes: u64,
    /// Gaps, by why.
    gaps: BTreeMap<&'static str, u64>,
    missing_bytes: u64,
    /// Segments that were sent again with other bytes.
    pub(super) conflicts: u64,
    pub(super) violations: u64,
}

impl Tally {
    /// Whether everything in the capture was read, and nothing in it was missing or differed.
    pub(in crate::import) fn is_whole(&self) -> bool {
        let quiet = Unread::Nothing.as_str();
        self.unread.keys().all(|why| *why == quiet)
            && self.gaps.is_empty()
            && self.conflicts == 0
            && self.violations == 0
            && self.evicted == 0
            && !self.is_cut
    }

    pub(super) fn opened(&mut self, agent: &AgentName) {
        self.sessions += 1;
        *self.agents.entry(agent.to_string()).or_default() += 1;
    }

    pub(super) fn unread(&mut self, why: Unread, bytes: u64) {
        *self.unread.entry(why.as_str()).or_default() += 1;
        self.unread_bytes += bytes;
    }

    pub(super) fn gap(&mut self, why: Why, bytes: u64) {
        *self.gaps.entry(why.as_str()).or_default() += 1;
        self.missing_bytes += bytes;
    }

    /// Puts in what the whole reading came to.
    pub(super) fn count(&mut self, counts: &Counts, whose: &Whose) {
        let Counts { frames, bytes, others, connections, evicted, first_us, last_us, is_cut } =
            counts;
        (self.frames, self.bytes, self.is_cut) = (*frames, *bytes, *is_cut);
        (self.connections, self.evicted) = (*connections, *evicted);
        (self.first, self.last) = (first_us.map(utc), last_us.map(utc));
        for (other, count) in others {
            *self.not_tcp.entry(other.as_str()).or_default() += count;
        }
        self.unmapped = whose.unmapped.iter().map(|(ip, count)| (ip.to_string(), *count)).collect();
        self.unmapped_more = whose.unmapped_more;
    }

    /// For people.
    pub(in crate::import) fn words(&self) -> Result<String> {
        let mut out = String::new();
        let Self { frames, bytes, connections, sessions, statements, .. } = self;
        writeln!(out, "{frames} frames, {bytes} B; {connections} connections")?;
        if let (Some(first), Some(last)) = (&self.first, &self.last) {
            writeln!(out, "from {first} to {last}")?;
        }
        writeln!(out, "{sessions} sessions, {statements} commands")?;
        for (agent, count) in &self.agents {
            writeln!(out, "  {count} of {agent}")?;
        }
        for (address, count) in &self.unmapped {
            writeln!(out, "  {count} from {address}, which is in no map")?;
        }
        if self.unmapped_more > 0 {
            writeln!(out, "  {} from further addresses in no map", self.unmapped_more)?;
        }
        for (why, count) in &self.unread {
            writeln!(out, "NOT READ: {count} connections: {why}")?;
        }
        if self.unread_bytes > 0 {
            writeln!(out, "  {} B of them", self.unread_bytes)?;
        }
        for (why, count) in &self.gaps {
            writeln!(out, "GAPS: {count}: {why}")?;
        }
        if self.missing_bytes > 0 {
            writeln!(out, "  {} B are missing", self.missing_bytes)?;
        }
        for (count, what) in [
            (
                self.conflicts,
                "segments were sent again with other bytes: what came first is imported",
            ),
            (self.violations, "connections broke the protocol"),
            (self.evicted, "connections were given up: more were open than are followed"),
        ] {
            if count > 0 {
                writeln!(out, "{count} {what}")?;
            }
        }
        for (what, count) in &self.not_tcp {
            writeln!(out, "{count} frames are no TCP that can be read: {what}")?;
        }
        if self.is_cut {
            writeln!(out, "the file ends within a block: it is not whole")?;
        }
        Ok(out)
    }
}
