//! Legal holds, and what is disposed of when its time is over: recorded and sealed before anything goes.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use approval::Approver;
use archive::holds::{self, Held, Hold, NAME_BYTES_MAX, Release, Scope, Standing};
use archive::layout;
use archive::retention::{self, DISPOSED, Disposition, Due, FILES_MAX, Gone, Periods};
use archive::seal::Sealed;
use tracing::{info, warn};
use types::control::{Person, Response};
use types::id::SessionId;

use crate::asker::{Asker, HostUser};
use crate::desk::Desk;

/// Bytes of a reason: what a record of 64 KiB has room for with all else.
const TEXT_BYTES_MAX: usize = 1000;

/// Sessions named in one record of a refusal: of 150 B each, 20 KiB.
const SESSIONS_NAMED_MAX: usize = 128;

const DAY_US: i64 = 86_400_000_000;

impl Desk {
    /// Sets a hold. Anybody who may ask this daemon may: it takes nothing away.
    pub(crate) fn hold_set(
        &self,
        name: &str,
        scope: &[String],
        reason: &str,
        tgid: u32,
    ) -> Result<Response> {
        is_name(name)?;
        said(reason)?;
        let scope = Scope::parse(scope)?;
        let _keeping = self.archiver.keeping();
        self.archiver.seal()?;
        ensure!(
            !holds::in_force(self.archiver.dir())?.contains_key(&self.key(name)),
            "{name} is in force: release it first, or take another name"
        );
        let hold = Hold {
            name: name.to_owned(),
            scope,
            reason: reason.to_owned(),
            by: Asker::of(tgid).to_string(),
            release_asked: Vec::new(),
        };
        self.record_sealed(holds::SET, &serde_json::to_value(&hold)?)?;
        warn!(hold = name, "a legal hold is in force");
        Ok(told([format!("{name} is in force, for what is there and what will come")]))
    }

    /// One person's wish to release a hold; the second one's releases it.
    pub(crate) fn hold_release(
        &self,
        name: &str,
        reason: &str,
        by: &Person,
        tgid: u32,
    ) -> Result<Response> {
        is_name(name)?;
        said(reason)?;
        let person = self.person(by, tgid, holds::RELEASE_ASKED)?;
        let _keeping = self.archiver.keeping();
        self.archiver.seal()?;
        let all = holds::in_force(self.archiver.dir())?;
        let hold = all.get(&self.key(name)).with_context(|| {
            format!("no hold {name} is in force: see `vestibule archive hold list`")
        })?;
        let release =
            Release { name: name.to_owned(), by: person.clone(), reason: reason.to_owned() };
        let release = serde_json::to_value(&release)?;
        if hold.release_asked.contains(&person) {
            let refused = format!("{person} asked for it already: another person must");
            self.refused(holds::RELEASED, &refused, tgid)?;
            bail!(refused);
        }
        if hold.release_asked.is_empty() {
            self.record_sealed(holds::RELEASE_ASKED, &release)?;
            return Ok(told([format!(
                "{name} stays in force until another person asks for its release, too"
            )]));
        }
        self.record_sealed(holds::RELEASED, &release)?;
        warn!(hold = name, "a legal hold is released");
        Ok(told([format!("{name} is released, by {} and {person}", hold.release_asked.join(", "))]))
    }

    /// Disposes of files whose time is over and that nothing keeps; of a dry run says which they are.
    pub(crate) fn dispose(
        &self,
        is_dry: bool,
        reason: &str,
        by: &Person,
        tgid: u32,
    ) -> Result<Response> {
        let approver = if is_dry { String::new() } else { self.person(by, tgid, DISPOSED)? };
        if !is_dry {
            said(reason)?;
        }
        let _keeping = self.archiver.keeping();
        let sealed = self.archiver.seal()?;
        let periods = self.archiver.retention().periods();
        let today = self.door.clock.now().unix_us.div_euclid(DAY_US);
        let shipped = self.archiver.shipping().map(|ship| ship.size);
        let (dir, origin) = (self.archiver.dir(), self.archiver.origin());
        let due = retention::due(dir, origin, &periods, today, shipped)?;
        let (kept, going): (Vec<Due>, Vec<Due>) =
            due.into_iter().partition(|due| due.kept.is_some());
        let lines = lines(&kept, &going, is_dry);
        if is_dry {
            return Ok(told(lines));
        }
        for part in kept.chunks(FILES_MAX) {
            let files: Vec<_> = part.iter().map(|due| (&due.entry.path, &due.kept)).collect();
            let detail = serde_json::json!({
                "approver": approver, "reason": reason, "asker": Asker::of(tgid), "kept": files,
            });
            self.record("archive.dispose_refused", &detail)?;
        }
        for said in dispositions(&going, periods, today, (&sealed, origin), (&approver, reason)) {
            self.record(DISPOSED, &serde_json::to_value(&said)?)?;
        }
        // Signed first: what goes is accounted for by then. And after it, for views of what is left.
        self.archiver.seal()?;
        let gone: Vec<Gone> = going.iter().map(|due| Gone::from(&due.entry)).collect();
        if !gone.is_empty() {
            retention::remove(dir, origin, &gone)?;
            self.archiver.seal()?;
        }
        info!(files = gone.len(), kept = kept.len(), "disposed of what is over");
        Ok(told(lines))
    }

    /// Which of these sessions are held, or may be; that they are, and stay, is recorded. Whoever calls it keeps
    /// [`crate::archiver::Archiver::keeping`].
    pub(crate) fn held(
        &self,
        sessions: &[SessionId],
        reason: &str,
        tgid: u32,
    ) -> Result<BTreeSet<SessionId>> {
        self.archiver.seal()?;
        let asked: BTreeSet<String> = sessions.iter().map(ToString::to_string).collect();
        let held = Held::resolve(self.archiver.dir(), &asked)?;
        let (mut kept, mut why) = (BTreeSet::new(), Vec::new());
        for session in sessions {
            let by = match held.session(&session.to_string()) {
                Standing::Free => continue,
                Standing::Held(name) => name,
                Standing::Unknown => "unknown: no sealed row says whose session it is".to_owned(),
            };
            kept.insert(*session);
            why.push((session.to_string(), by));
        }
        for part in why.chunks(SESSIONS_NAMED_MAX) {
            let detail = serde_json::json!({
                "reason": reason, "asker": Asker::of(tgid), "held": part,
            });
            self.record("recording.shred_refused", &detail)?;
        }
        Ok(kept)
    }

    /// Who somebody is, by a login or a token: root is nobody. That nobody was is recorded.
    fn person(&self, by: &Person, tgid: u32, what: &str) -> Result<String> {
        let Person { token_file, sudo_uid } = by;
        let person = match token_file {
            Some(file) => self.keeper.voter_by_token(file),
            None => HostUser::of(tgid, *sudo_uid).and_then(|person| self.keeper.voter(person)),
        };
        let groups = &self.archiver.retention().groups;
        let person = person.and_then(|person: Approver| {
            let is_one = groups.is_empty() || groups.iter().any(|one| person.groups.contains(one));
            ensure!(is_one, "{} is in none of the groups {}", person.key(), groups.join(", "));
            Ok(person)
        });
        if let Err(error) = &person {
            self.refused(what, &format!("{error:#}"), tgid)?;
        }
        Ok(person?.key())
    }

    /// Records that somebody was refused something.
    fn refused(&self, what: &str, why: &str, tgid: u32) -> Result<()> {
        let detail = serde_json::json!({ "what": what, "asker": Asker::of(tgid), "reason": why });
        self.record("archive.refused", &detail)
    }

    /// A hold of this node.
    fn key(&self, name: &str) -> holds::Key {
        (self.node.clone(), name.to_owned())
    }

    fn record_sealed(&self, kind: &str, detail: &serde_json::Value) -> Result<()> {
        self.record(kind, detail)?;
        self.archiver.seal()?;
        Ok(())
    }

    fn record(&self, kind: &str, detail: &serde_json::Value) -> Result<()> {
        crate::app::record(&self.door.recorder, kind, detail)
    }
}

/// What goes and what stays, in words.
fn lines(kept: &[Due], going: &[Due], is_dry: bool) -> Vec<String> {
    let word = if is_dry { "would go" } else { "went" };
    let why = |due: &Due| due.kept.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut lines: Vec<String> = Vec::new();
    lines.extend(kept.iter().map(|due| format!("{}: {}", why(due), due.entry.path)));
    lines.extend(going.iter().map(|due| format!("{word}: {}", due.entry.path)));
    lines.push(format!("{} files {word}, {} stay", going.len(), kept.len()));
    lines
}

/// The records of what goes, by class.
fn dispositions(
    going: &[Due],
    periods: Periods,
    today: i64,
    (sealed, origin): (&Sealed, &str),
    (approver, reason): (&str, &str),
) -> Vec<Disposition> {
    let mut all = Vec::new();
    let classes: BTreeSet<&str> = going.iter().map(|due| due.class).collect();
    for class in classes {
        let of_class: Vec<&Due> = going.iter().filter(|due| due.class == class).collect();
        let days = of_class.first().map_or(0, |due| periods.of(&due.entry.path).1);
        for part in of_class.chunks(FILES_MAX) {
            all.push(Disposition {
                origin: origin.to_owned(),
                rule: retention::rule(class, days.into()),
                before: layout::date(today - i64::from(days)),
                approver: approver.to_owned(),
                reason: reason.to_owned(),
                size: sealed.tree_size,
                root: sealed.root.clone(),
                files: part.iter().map(|due| Gone::from(&due.entry)).collect(),
            });
        }
    }
    all
}

fn is_name(name: &str) -> Result<()> {
    let is_name =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    ensure!(
        is_name && name.len() <= NAME_BYTES_MAX,
        "a hold's name has letters, digits and -_., {NAME_BYTES_MAX} at most"
    );
    Ok(())
}

fn said(reason: &str) -> Result<()> {
    ensure!(
        !reason.trim().is_empty() && reason.len() <= TEXT_BYTES_MAX,
        "--reason: why, in 1 to {TEXT_BYTES_MAX} bytes"
    );
    Ok(())
}

fn told(lines: impl IntoIterator<Item = String>) -> Response {
    Response::Retained { lines: lines.into_iter().collect() }
}
