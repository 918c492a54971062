//! L4: is everything there that was to be recorded, as far as the records themselves say? Sessions against their commands,
//! heartbeats against time, the kernel's counts against themselves and against sessions, the clock.

use std::collections::HashMap;

use super::facts::{Closed, Facts, Record};
use super::report::{Level, Report};
use crate::layout;

/// Sessions that are open at once, while rows pass by in their order: 1 Mi × 100 B, 100 MB. Beyond it is not judged.
const OPEN_MAX: usize = 1024 * 1024;

/// Findings of one kind that are told one by one.
const TOLD_MAX: u64 = 20;

/// Longest silence between two heartbeats of one run: they come each minute.
const SILENCE_US: i64 = 90_000_000;

/// What the numbers of a heartbeat that are read are called.
const COUNTS: [&str; 5] =
    ["flows_observed", "flows_proxied", "flows_denied", "flows_bypassed", "flows_failed"];

/// What passed by so far.
#[derive(Debug, Default)]
pub(super) struct Completeness {
    /// Commands of sessions that have not closed yet.
    open: HashMap<String, u64>,
    is_beyond: bool,
    sessions: u64,
    /// Sessions whose commands are not all here, and need not be.
    excused: u64,
    wrong: u64,
    /// Rows of commands are missing whose absence is accounted for, or were not read; why.
    pub(super) partial: Option<&'static str>,
    is_resumed: bool,
    /// Where only what is new was read: from when on that is.
    since_us: Option<i64>,
    run: Option<Run>,
    heartbeats: u64,
    unsynced: u64,
    stops: u64,
    told: u64,
}

/// From a start of the node to the next.
#[derive(Debug, Default)]
struct Run {
    last: Option<Beat>,
    is_stopped: bool,
    /// The first heartbeat's, and the last three's, of connections that became neither a session nor a refusal.
    first: Option<i64>,
    last_three: [Option<i64>; 3],
    beats: u64,
    /// Sessions that closed.
    closed: i64,
}

/// What a heartbeat said.
#[derive(Clone, Debug, Default)]
struct Beat {
    seq: u64,
    ts_us: i64,
    counts: Option<[i64; 5]>,
    drops: Option<i64>,
}

impl Completeness {
    /// Only what is new is judged: sessions that were opened before are not.
    pub(super) fn resumed(&mut self) {
        self.is_resumed = true;
        self.partial.get_or_insert("only what is new was read");
    }

    /// Takes what the files of a step say, all of them.
    pub(super) fn step(&mut self, facts: &Facts, id: &str, report: &mut Report) {
        let first = facts.records.iter().map(|record| record.ts_us).min();
        if self.is_resumed {
            self.since_us = self.since_us.or(first);
        }
        for (session, count) in &facts.commands {
            *self.open.entry(session.clone()).or_default() += count;
        }
        for closed in &facts.sessions {
            self.session(closed, id, report);
        }
        if self.open.len() > OPEN_MAX {
            self.open.clear();
            self.is_beyond = true;
        }
        let mut closed: Vec<u64> = facts.sessions.iter().map(|closed| closed.seq).collect();
        closed.sort_unstable();
        let mut at = 0;
        let mut records: Vec<&Record> = facts.records.iter().collect();
        records.sort_by_key(|record| record.seq);
        for record in records {
            let before = closed.partition_point(|seq| *seq < record.seq);
            if let Some(run) = &mut self.run {
                run.closed += i64::try_from(before - at).unwrap_or(0);
            }
            at = before;
            match record.kind.as_str() {
                "heartbeat" => self.beat(record, id, report),
                "log.start" => self.start(record, id, report),
                "daemon.stop" => {
                    if let Some(run) = &mut self.run {
                        run.is_stopped = true;
                    }
                }
                _ => {}
            }
        }
        if let Some(run) = &mut self.run {
            run.closed += i64::try_from(closed.len() - at).unwrap_or(0);
        }
    }

    /// A session that closed: as many commands as it says are there.
    fn session(&mut self, closed: &Closed, id: &str, report: &mut Report) {
        self.sessions += 1;
        let Closed { seq, session, opened_us, declared } = closed;
        let present = self.open.remove(session).unwrap_or(0);
        if self.is_beyond || u64::try_from(*declared) == Ok(present) {
            return;
        }
        let is_fewer = u64::try_from(*declared).is_ok_and(|declared| present < declared);
        let is_before = self.since_us.is_none_or(|since| *opened_us < since);
        if is_fewer && self.partial.is_some() && is_before {
            self.excused += 1;
            return;
        }
        self.wrong += 1;
        if self.wrong <= TOLD_MAX {
            let text = format!(
                "session {session} says that it had {declared} commands, {present} are there: {id}/{seq}"
            );
            report.find(Level::Completeness, None, text);
        }
    }

    fn start(&mut self, record: &Record, id: &str, report: &mut Report) {
        self.end(id, report);
        let before = self.run.take();
        if let Some(Run { last: Some(last), is_stopped, .. }) = before {
            self.stops += 1;
            if self.stops <= TOLD_MAX {
                let how = if is_stopped { "was stopped" } else { "ended without saying so" };
                report.notes.push(format!(
                    "{id} {how}, and recorded nothing from {} to {}",
                    layout::time(last.ts_us),
                    layout::time(record.ts_us)
                ));
            }
        }
        self.run = Some(Run::default());
    }

    fn beat(&mut self, record: &Record, id: &str, report: &mut Report) {
        self.heartbeats += 1;
        let said: serde_json::Value = serde_json::from_str(&record.detail).unwrap_or_default();
        let number = |name: &str| said.get(name).and_then(serde_json::Value::as_i64);
        let all: Option<Vec<i64>> = COUNTS.into_iter().map(number).collect();
        let counts: Option<[i64; 5]> = all.and_then(|all| all.try_into().ok());
        let clock = said.get("clock_state").and_then(serde_json::Value::as_str);
        self.unsynced += u64::from(clock != Some("synced"));
        let beat =
            Beat { seq: record.seq, ts_us: record.ts_us, counts, drops: number("ring_drops") };
        // What is given to services of the host itself becomes no session.
        let elsewhere =
            [number("sessions_open"), number("connections_refused"), number("connections_local")];
        let run = self.run.get_or_insert_with(Run::default);
        let unaccounted = match (counts, elsewhere) {
            (Some([_, proxied, ..]), [Some(open), Some(refused), Some(local)]) => {
                Some(proxied - open - refused - local - run.closed)
            }
            _ => None,
        };
        run.first = run.first.or(unaccounted);
        run.last_three.rotate_left(1);
        if let Some(last) = run.last_three.last_mut() {
            *last = unaccounted;
        }
        run.beats += 1;
        let last = run.last.replace(beat.clone());
        let mut faults = Vec::new();
        if let Some(last) = &last {
            faults.extend(since(last, &beat));
        } else if let Some([_, _, _, bypassed, _]) = beat.counts
            && bypassed > 0
        {
            faults.push(format!("{bypassed} connections went past the proxy"));
        }
        if let Some([observed, proxied, denied, bypassed, failed]) = beat.counts
            && proxied + denied + bypassed + failed > observed
        {
            faults.push(format!(
                "more became of connections ({proxied} proxied, {denied} refused, {bypassed} past, {failed} failed) than there were ({observed})"
            ));
        }
        for fault in faults {
            self.told += 1;
            if self.told <= TOLD_MAX {
                report.find(Level::Completeness, None, format!("{fault}: {id}/{}", beat.seq));
            }
        }
    }

    /// The end of a run: what its last heartbeats agree on that is missing.
    fn end(&self, id: &str, report: &mut Report) {
        let Some(Run { first: Some(first), last_three, last, beats, .. }) = &self.run else {
            return;
        };
        let least: Option<Vec<i64>> = last_three.iter().copied().collect();
        let Some(least) = least.and_then(|all| all.into_iter().min()) else { return };
        let missing = least - first;
        // What is on its way at one heartbeat is not at three.
        if *beats > 3 && missing > 0 {
            let at = last.as_ref().map_or(0, |last| last.seq);
            report.find(
                Level::Completeness,
                None,
                format!(
                    "{missing} connections that the kernel saw go to the proxy became neither a session nor a refusal: up to {id}/{at}"
                ),
            );
        }
    }

    /// Says what was found, once all steps have passed.
    pub(super) fn conclude(&self, id: &str, report: &mut Report) {
        self.end(id, report);
        for (count, what) in [
            (self.wrong, "sessions have not as many commands as they say"),
            (self.told, "heartbeats say that something was missed"),
        ] {
            if count > TOLD_MAX {
                report.find(Level::Completeness, None, format!("{count} {what}, all told"));
            }
        }
        if self.unsynced > 0 {
            report.notes.push(format!(
                "{id}: {} of {} heartbeats do not say that the clock was kept",
                self.unsynced, self.heartbeats
            ));
        }
        let why = match (self.is_beyond, self.partial, self.heartbeats) {
            (true, _, _) => Some(format!("more than {OPEN_MAX} sessions were open at once")),
            (_, Some(why), _) if self.excused > 0 => {
                Some(format!("{why}: the commands of {} sessions are not all here", self.excused))
            }
            (_, _, 0) => Some("no heartbeat is in it".to_owned()),
            _ => None,
        };
        match why {
            Some(why) => report.uncheckable(Level::Completeness, &format!("{id}: {why}")),
            None => report.checked(Level::Completeness),
        }
    }
}

/// What changed from one heartbeat to the next and should not have.
fn since(last: &Beat, beat: &Beat) -> Vec<String> {
    let mut faults = Vec::new();
    let silence = beat.ts_us - last.ts_us;
    if silence > SILENCE_US {
        faults.push(format!("{} seconds without a heartbeat", silence / 1_000_000));
    }
    if let (Some(before), Some(now)) = (last.counts, beat.counts) {
        let past = |counts: [i64; 5]| counts.get(3).copied().unwrap_or(0);
        if past(now) > past(before) {
            faults.push(format!("{} connections went past the proxy", past(now) - past(before)));
        }
        if before.iter().zip(now).any(|(before, now)| now < *before) {
            faults.push("the kernel's counts of connections went back within a run".to_owned());
        }
    }
    if let (Some(before), Some(now)) = (last.drops, beat.drops)
        && now > before
    {
        faults.push(format!("{} events of the kernel were lost", now - before));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(commands: &[(&str, u64)], sessions: &[(&str, i64)]) -> Facts {
        let closed = |(session, declared): &(&str, i64)| Closed {
            seq: 9,
            session: (*session).to_owned(),
            opened_us: 5,
            declared: *declared,
        };
        Facts {
            commands: commands.iter().map(|(one, count)| ((*one).to_owned(), *count)).collect(),
            sessions: sessions.iter().map(closed).collect(),
            ..Facts::default()
        }
    }

    #[test]
    fn sessions_have_the_commands_that_they_say_wherever_these_were_sealed() {
        for (steps, partial, due) in [
            (vec![facts(&[("a", 3)], &[("a", 3)])], None, None),
            (vec![facts(&[("a", 2)], &[]), facts(&[("a", 1)], &[("a", 3)])], None, None),
            (vec![facts(&[], &[("a", 0)])], None, None),
            (
                vec![facts(&[("a", 2)], &[("a", 3)])],
                None,
                Some("session a says that it had 3 commands, 2 are there: n1/0/9"),
            ),
            (vec![facts(&[("a", 4)], &[("a", 3)])], None, Some("4 are there")),
            (vec![facts(&[("a", 1)], &[("a", -1)])], None, Some("1 are there")),
            (vec![facts(&[("a", 2)], &[("a", 3)])], Some("they are elsewhere"), None),
            (
                vec![facts(&[("a", 4)], &[("a", 3)])],
                Some("they are elsewhere"),
                Some("4 are there"),
            ),
        ] {
            let mut all = Completeness { partial, heartbeats: 1, ..Completeness::default() };
            let mut report = Report { ok: true, ..Report::default() };
            for step in &steps {
                all.step(step, "n1/0", &mut report);
            }
            all.conclude("n1/0", &mut report);
            let found = report.findings.first().map(|finding| finding.text.clone());
            match due {
                None => assert_eq!(found, None, "{steps:?}"),
                Some(due) => assert!(found.unwrap().contains(due), "{steps:?}"),
            }
        }
    }
}
