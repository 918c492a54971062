//! Years later: what is over goes by a person's word and a record, what is held stays until two people say otherwise, and
//! what goes otherwise is missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use integration::idp::{ALICE, DANA, RUTH};
use integration::process::{Output, run};
use integration::{Evidence, World, paths};
use tempfile::TempDir;

use crate::standing::Story;

/// Longer ago than recordings are kept, and not than events are.
const DAYS: u32 = 400;

/// A host whose first recordings are of long ago, and whose sealed files can't be changed.
struct Kept {
    story: Story,
    _keys: TempDir,
    /// The sessions of long ago: the reader's and the writer's in one file, and another of the reader's in the next.
    first: [String; 2],
    second: String,
}

impl Kept {
    fn start() -> Self {
        let keys = tempfile::tempdir().unwrap();
        let key = keys.path().join("audit");
        let mut keygen = Command::new(paths::programs().unwrap().join("vestibule"));
        run(keygen.args(["recordings", "keygen", "--out"]).arg(&key), 10).unwrap().ok().unwrap();
        let configuration = format!(
            "[recordings]\nrecipients = [\"{}.pub\"]\n[archive]\nimmutable = true\n\
             [archive.retention]\ngroups = [\"dba\", \"risk\"]\n",
            key.display()
        );
        let story = Story::days_ago(DAYS, &configuration);
        let mut own = Self { story, _keys: keys, first: Default::default(), second: String::new() };
        own.world().reader().psql("SELECT id FROM customers WHERE id = 101").unwrap().ok().unwrap();
        own.writer();
        let first = own.sessions();
        own.world().reader().psql("SELECT id FROM customers WHERE id = 102").unwrap().ok().unwrap();
        let all = own.sessions();
        let reader = first.iter().find(|(_, agent)| agent != WRITER).unwrap().0.clone();
        let writer = first.iter().find(|(_, agent)| agent == WRITER).unwrap().0.clone();
        let second = all.into_iter().find(|one| !first.contains(one)).unwrap();
        own.second = second.0;
        own.first = [reader, writer];
        own.story.world.daemon.come_to_today().unwrap();
        own
    }

    fn world(&self) -> &World {
        &self.story.world
    }

    fn writer(&self) {
        let sql = "SELECT count(*) FROM case_notes";
        self.world().writer().psql(sql).unwrap().ok().unwrap();
    }

    /// Seals, and answers all sessions and their agents.
    fn sessions(&self) -> Vec<(String, String)> {
        let evidence = self.world().evidence().unwrap();
        let rows =
            evidence.duckdb("SELECT session_id, agent_id FROM sessions ORDER BY ts").unwrap();
        let text = |row: &serde_json::Value, name: &str| row[name].as_str().unwrap().to_owned();
        rows.iter().map(|row| (text(row, "session_id"), text(row, "agent_id"))).collect()
    }

    fn archive(&self, words: &[&str], user: Option<&str>) -> Output {
        let mut command = self.world().daemon.cli();
        command.arg("archive").args(words);
        if let Some(user) = user {
            command.arg("--token-file").arg(self.story.token(user));
        }
        run(&mut command, 120).unwrap()
    }

    fn shred(&self, session: &str) -> Output {
        let mut command = self.world().daemon.cli();
        command.args(["recordings", "shred", "--reason", "privacy", "--session", session]);
        run(&mut command, 60).unwrap()
    }

    fn count(&self, kind: &str, like: &str) -> u64 {
        let evidence = self.world().evidence().unwrap();
        let sql = format!(
            "SELECT count(*) FROM control WHERE kind = '{kind}' AND detail LIKE '%{like}%'"
        );
        evidence.count(&sql).unwrap()
    }
}

/// Files of recordings of long ago that are there.
fn old(evidence: &Evidence<'_>) -> Vec<PathBuf> {
    let today = evidence.duckdb("SELECT CAST(current_date AS VARCHAR) AS day").unwrap();
    let year: i32 = today[0]["day"].as_str().unwrap()[..4].parse().unwrap();
    let is_old = |path: &PathBuf| {
        let text = path.display().to_string();
        let (_, day) = text.split_once("dt=").unwrap();
        day[..4].parse::<i32>().unwrap() < year
    };
    evidence.files("recordings").unwrap().into_iter().filter(is_old).collect()
}

impl Drop for Kept {
    /// Sealed files could not be removed with their folder.
    fn drop(&mut self) {
        let archive = self.story.world.daemon.archive();
        drop(run(Command::new("chattr").args(["-R", "-i"]).arg(archive), 60));
    }
}

/// The agent that is held.
const WRITER: &str = integration::world::WRITER;

#[track_caller]
fn refused(output: &Output, why: &str) {
    assert!(output.code != Some(0) && output.stderr.contains(why), "{why}: {output:?}");
}

#[track_caller]
fn verified(evidence: &Evidence<'_>) -> serde_json::Value {
    let told = evidence.verify_with_journal().unwrap();
    assert_eq!(told.code, Some(0), "{}", told.stdout);
    serde_json::from_str(&told.stdout).unwrap()
}

#[test]
fn what_is_over_goes_by_a_persons_word_and_what_is_held_stays() {
    let kept = Kept::start();
    let evidence = kept.world().evidence().unwrap();
    let before = old(&evidence);
    assert_eq!(before.len(), 2, "{before:?}");
    // Nobody changes or removes what is sealed by mistake, root neither.
    assert_eq!(kept.world().daemon.status().unwrap()["archive_immutable"], true);
    for path in &before {
        let error = fs::remove_file(path).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "{}", path.display());
        assert!(fs::OpenOptions::new().append(true).open(path).is_err());
    }
    kept.archive(
        &["hold", "set", "LH-7", "--where", "agent=back-office", "--reason", "case 17"],
        None,
    )
    .ok()
    .unwrap();
    refused(
        &kept.archive(&["hold", "set", "LH-7", "--where", "agent=x", "--reason", "y"], None),
        "is in force",
    );
    // Root alone is nobody, and not anybody may.
    let dispose = ["dispose", "--reason", "time is over"];
    refused(&kept.archive(&dispose, None), "root alone is nobody");
    refused(&kept.archive(&dispose, Some(ALICE)), "in none of the groups");
    let dry = kept.archive(&["dispose", "--dry-run"], None).ok().unwrap();
    assert!(dry.contains("1 files would go, 1 stay") && dry.contains("held by LH-7: "), "{dry}");
    assert_eq!(old(&evidence), before, "a dry run");
    let told = kept.archive(&dispose, Some(DANA)).ok().unwrap();
    assert!(told.contains("1 files went, 1 stay"), "{told}");
    // The file in which something is held is there whole; the other is not.
    assert_eq!(old(&evidence), before[..1]);
    let report = verified(&evidence);
    assert!(report["records_disposed"].as_u64().unwrap() > 0, "{report}");
    assert!(report["files_immutable"].as_u64().unwrap() > 0, "{report}");
    let rows = "SELECT count(DISTINCT session_id) FROM recordings WHERE session_id IN";
    let [reader, writer] = &kept.first;
    let of = |ids: &[&String]| {
        let ids: Vec<String> = ids.iter().map(|id| format!("'{id}'")).collect();
        evidence.count(&format!("{rows} ({})", ids.join(", "))).unwrap()
    };
    assert_eq!((of(&[reader, writer]), of(&[&kept.second])), (2, 0));
    recorded(&evidence, &before[1]);
    assert_eq!(kept.count("archive.dispose_refused", "LH-7"), 1);
    assert_eq!(kept.count("archive.refused", "archive.disposed"), 2);
    keys(&kept);
    released(&kept, &evidence);
    asked(&kept, &evidence);
    tampered(&evidence);
}

/// Who, why, by which rule, what.
fn recorded(evidence: &Evidence<'_>, gone: &Path) {
    let rows =
        evidence.duckdb("SELECT detail FROM control WHERE kind = 'archive.disposed'").unwrap();
    let [row] = &rows[..] else { panic!("{rows:?}") };
    let said: serde_json::Value = serde_json::from_str(row["detail"].as_str().unwrap()).unwrap();
    assert!(said["approver"].as_str().unwrap().starts_with(&format!("{DANA}@")), "{said}");
    assert_eq!(
        (&said["reason"], &said["rule"]),
        (&"time is over".into(), &"payload13m after 397 days".into())
    );
    assert!(said["size"].as_u64().unwrap() > 0 && said["root"].as_str().unwrap().len() == 44);
    let [file] = said["files"].as_array().unwrap().as_slice() else { panic!("{said}") };
    assert!(gone.ends_with(file["path"].as_str().unwrap()), "{file}");
    assert_eq!(file["sha256"].as_str().unwrap().len(), 64);
    assert!(
        file["last_seq"].as_u64() >= file["first_seq"].as_u64() && file["rows"].as_u64() > Some(0)
    );
}

/// Keys of held sessions are not destroyed, those to come neither.
fn keys(kept: &Kept) {
    let [reader, writer] = &kept.first;
    refused(&kept.shred(writer), "legal holds are on all of them");
    kept.shred(reader).ok().unwrap();
    kept.writer();
    let sessions = kept.sessions();
    let (newest, _) = sessions.iter().rfind(|(_, agent)| agent == WRITER).unwrap();
    assert_ne!(newest, writer);
    refused(&kept.shred(newest), "legal holds are on all of them");
    assert_eq!(kept.count("recording.shred_refused", "LH-7"), 2);
    assert_eq!(kept.count("recording.shredded", reader), 1);
    assert_eq!(kept.count("recording.shredded", writer), 0);
}

/// Two people release it, and then what was held goes, too.
fn released(kept: &Kept, evidence: &Evidence<'_>) {
    let release = ["hold", "release", "LH-7", "--reason", "case closed"];
    refused(&kept.archive(&release, Some(ALICE)), "in none of the groups");
    let told = kept.archive(&release, Some(DANA)).ok().unwrap();
    assert!(told.contains("stays in force until another person"), "{told}");
    refused(&kept.archive(&release, Some(DANA)), "another person must");
    let archive = evidence.archive().to_str().unwrap();
    let listed = kept.archive(&["hold", "list", "--archive", archive], None).ok().unwrap();
    assert!(listed.contains("LH-7") && listed.contains("its release was asked for by"), "{listed}");
    let told = kept.archive(&["dispose", "--reason", "again"], Some(DANA)).ok().unwrap();
    assert!(told.contains("0 files went, 1 stay"), "{told}");
    let told = kept.archive(&release, Some(RUTH)).ok().unwrap();
    assert!(told.contains("LH-7 is released, by"), "{told}");
    refused(&kept.archive(&release, Some(RUTH)), "no hold LH-7 is in force");
    let told = kept.archive(&["dispose", "--reason", "over"], Some(RUTH)).ok().unwrap();
    assert!(told.contains("1 files went, 0 stay"), "{told}");
    assert!(old(evidence).is_empty());
    verified(evidence);
    // By its rules, too; what the archive can't say itself is not asked for.
    let mut verify = kept.world().daemon.cli();
    verify.args(["verify", "--level", "5", "--json", "--archive", archive]);
    let judged = run(&mut verify, 120).unwrap();
    let report: serde_json::Value = serde_json::from_str(&judged.stdout).unwrap();
    assert_eq!(report["levels"][5]["verdict"], "passed", "{report}");
    let told = kept.archive(&["retention", "--archive", archive], None).ok().unwrap();
    assert!(told.contains("2 disposed of; 0 are over"), "{told}");
    // What is left is read as before.
    assert!(evidence.count("SELECT count(*) FROM recordings").unwrap() > 0);
}

/// What auditors ask of it, and what the controls make of that.
fn asked(kept: &Kept, evidence: &Evidence<'_>) {
    kept.world().evidence().unwrap();
    let kinds = |question: &str| -> Vec<String> {
        let rows = evidence.ask(question, &[]).unwrap();
        rows.iter().map(|row| row["kind"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds("holds"), ["hold.set", "hold.release_asked", "hold.released"]);
    let disposals = kinds("disposals");
    for (kind, due) in
        [("archive.disposed", 2), ("archive.dispose_refused", 2), ("recording.shredded", 1)]
    {
        assert_eq!(
            disposals.iter().filter(|one| *one == kind).count(),
            due,
            "{kind}: {disposals:?}"
        );
    }
    let mut report = kept.world().daemon.cli();
    report.args(["report", "--controls", "--json", "--duckdb"]).arg(paths::duckdb());
    let told = run(report.arg("--archive").arg(evidence.archive()), 120).unwrap();
    let said: serde_json::Value = serde_json::from_str(&told.stdout).unwrap();
    let controls = said["controls"].as_array().unwrap();
    let stands = |id: &str| &controls.iter().find(|one| one["id"] == id).unwrap()["standing"];
    assert_eq!(stands("reg-s-p-glba-disposal"), "information");
    assert_eq!(stands("sec-17a-4-f-2-i-a"), "information");
    assert_eq!(stands("sec-17a-4-f-2-i-b"), "not_shown");
}

/// What goes otherwise is named.
fn tampered(evidence: &Evidence<'_>) {
    let to = tempfile::tempdir().unwrap();
    let copy = evidence.copy_to(&to.path().join("copy")).unwrap();
    for table in ["events", "recordings"] {
        let gone = copy.files(table).unwrap().remove(0);
        let bytes = fs::read(&gone).unwrap();
        fs::remove_file(&gone).unwrap();
        let told = copy.verify().unwrap();
        let name = gone.strip_prefix(copy.archive()).unwrap().display().to_string();
        assert_eq!(told.code, Some(10), "{}", told.stdout);
        assert!(
            told.stdout.contains("file is missing") && told.stdout.contains(&name),
            "{}",
            told.stdout
        );
        fs::write(&gone, bytes).unwrap();
    }
    assert_eq!(copy.verify().unwrap().code, Some(0));
}
