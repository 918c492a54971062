//! The evidence holds; and of two falsified copies `vestibule verify` names the record.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use integration::process::run;
use integration::{Evidence, paths};

use super::Story;

/// The verb of the one refused command.
const VERB: &str = "DROP TABLE";

/// Shows that the archive holds, and that a flipped byte and a forged row are found by name.
///
/// # Errors
/// If the archive does not hold, or verify does not name the falsified record and no other.
pub(super) fn prove(story: &mut Story, evidence: &Evidence<'_>, out: &Path) -> Result<()> {
    story.chapter("The evidence");
    let verified = evidence.verify_in_words()?;
    ensure!(verified.code == Some(0), "verify: {} {}", verified.stdout, verified.stderr);
    story.say("vestibule verify, over archive and journal:");
    story.quote(&verified.stdout);
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let sql = format!(
        "SELECT node_id || '/' || log_epoch || '/' || seq AS record FROM events WHERE verb = '{VERB}'"
    );
    let rows = evidence.duckdb(&sql)?;
    let [row] = rows.as_slice() else { anyhow::bail!("not one {VERB} is recorded: {rows:?}") };
    let record = row["record"].as_str().context("a record has a name")?;

    let flipped = copy(evidence, &out.join("flipped"))?;
    let (file, at) = place(&flipped)?;
    flip(&file, at)?;
    story.say(&format!("In a copy (flipped/), one bit of one byte is flipped, byte {at} of"));
    story.say(&format!("{}: the first letter of the recorded {VERB}.", name(&file)));
    show_named(story, &flipped, record)?;

    let forged = copy(evidence, &out.join("forged"))?;
    let file = forge(&forged)?;
    story.say("In another copy (forged/), someone rewrites the refused DROP as a permitted SELECT, in a sound");
    story.say(&format!("Parquet file: {}.", name(&file)));
    show_named(story, &forged, record)
}

/// A fresh copy of the archive in `folder`.
fn copy<'a>(evidence: &Evidence<'a>, folder: &Path) -> Result<Evidence<'a>> {
    fs::remove_dir_all(folder).ok();
    evidence.copy_to(folder)
}

/// Shows what verify says, which must name `record` as changed and no other.
fn show_named(story: &mut Story, falsified: &Evidence<'_>, record: &str) -> Result<()> {
    let told = falsified.verify_in_words()?;
    story.quote(&format!("{}{}", told.stdout, told.stderr));
    ensure!(told.code == Some(10), "the falsified copy passed");
    let named: Vec<&str> = told
        .stdout
        .lines()
        .filter_map(|line| line.trim().strip_prefix("record changed: "))
        .filter_map(|words| words.split(' ').next())
        .collect();
    ensure!(named == [record], "verify names {named:?}, and {record} is falsified");
    story.say(&format!("It names the record: {record}."));
    Ok(())
}

/// The file and the byte in it where [`VERB`] stands in the column's dictionary. A page as short as this
/// one is not compressed further by Zstandard, so that the word lies there as it is.
fn place(evidence: &Evidence<'_>) -> Result<(PathBuf, usize)> {
    for file in evidence.files("events")? {
        let bytes = fs::read(&file).context("the copy")?;
        let sql = format!(
            "SELECT dictionary_page_offset AS start, data_page_offset AS stop FROM parquet_metadata('{}') \
             WHERE path_in_schema = 'verb' AND dictionary_page_offset IS NOT NULL",
            quoted(&file)
        );
        for page in evidence.duckdb(&sql)? {
            let offset = |name: &str| page[name].as_u64().and_then(|n| usize::try_from(n).ok());
            let start = offset("start").context("a page has an offset")?;
            let stop = offset("stop").context("a page has an offset")?;
            let page = bytes.get(start..stop).context("a page lies in its file")?;
            if let Some(at) = page.windows(VERB.len()).position(|word| word == VERB.as_bytes()) {
                return Ok((file, start + at));
            }
        }
    }
    anyhow::bail!("{VERB} does not stand in any dictionary as it is")
}

fn flip(file: &Path, at: usize) -> Result<()> {
    let mut bytes = fs::read(file).context("the copy")?;
    *bytes.get_mut(at).context("the place lies in the file")? ^= 1;
    fs::write(file, bytes).context("the copy")
}

/// Has DuckDB write the file with the refused command anew, as if it had been a permitted SELECT.
fn forge(evidence: &Evidence<'_>) -> Result<PathBuf> {
    let (file, _) = place(evidence)?;
    let part = file.with_extension("part");
    let was = format!("CASE WHEN verb = '{VERB}' THEN");
    let sql = format!(
        "COPY (SELECT * REPLACE ({was} 'SELECT' ELSE verb END AS verb, {was} 'allow' ELSE decision END AS decision, \
         {was} 'ok' ELSE status END AS status) FROM read_parquet('{}', hive_partitioning = false)) \
         TO '{}' (FORMAT parquet, COMPRESSION zstd)",
        quoted(&file),
        quoted(&part)
    );
    run(Command::new(paths::duckdb()).args(["-init", "/dev/null", "-c", &sql]), 60)?.ok()?;
    fs::rename(&part, &file).context("the copy")?;
    Ok(file)
}

/// A path within an SQL string.
fn quoted(path: &Path) -> String {
    path.display().to_string().replace('\'', "''")
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().display().to_string()
}
