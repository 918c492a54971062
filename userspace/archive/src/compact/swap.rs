//! The new day in the old one's place, in one step.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use journal::row::Table;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{CompactError, Due, Step, Watch, io_error, name};
use crate::compacted::{self, Compacted, STAGING};
use crate::{files, layout, texts};

/// Holds others off that would put days together, until it is dropped.
pub(super) fn alone(archive: &Path) -> Result<File, CompactError> {
    let dir = archive.join(layout::STANDARD).join(STAGING);
    files::make_dir(&dir).map_err(io_error(&dir))?;
    let file = File::open(&dir).map_err(io_error(&dir))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(CompactError::Busy),
        Err(TryLockError::Error(error)) => Err(io_error(&dir)(error)),
    }
}

/// An empty folder in which a day is put together.
pub(super) fn stage(archive: &Path, due: &Due) -> Result<PathBuf, CompactError> {
    let dir = archive.join(compacted::staging_dir(due.table, &due.day));
    if dir.exists() {
        return Err(CompactError::Foreign(dir.display().to_string()));
    }
    files::make_dir(&dir).map_err(io_error(&dir))?;
    Ok(dir)
}

/// Puts the new day in the old one's place: both exchange their names in one step (rename(2): `RENAME_EXCHANGE`), so
/// that there is never neither and never both. Seals and verifications are waited for.
pub(super) fn exchange(archive: &Path, due: &Due) -> Result<(), CompactError> {
    let staged = archive.join(compacted::staging_dir(due.table, &due.day));
    let live = archive.join(compacted::day_dir(due.table, &due.day));
    for path in files::walk(&staged).map_err(io_error(&staged))? {
        let dir = path.parent().unwrap_or(&staged);
        files::sync_dir(dir).map_err(io_error(dir))?;
    }
    files::sync_dir(&staged).map_err(io_error(&staged))?;
    let _lock = files::lock(archive).map_err(io_error(archive))?;
    let mut there = compacted::below(archive, &compacted::day_dir(due.table, &due.day))
        .map_err(io_error(&live))?;
    there.retain(|path| !path.ends_with(compacted::NAME));
    let mut known: Vec<String> = due.sources.iter().map(|source| source.path.clone()).collect();
    known.sort();
    if there != known {
        let (table, day) = (due.table.as_str(), due.day.clone());
        return Err(CompactError::Moved { table, day });
    }
    renameat_with(CWD, &staged, CWD, &live, RenameFlags::EXCHANGE)
        .map_err(|error| io_error(&live)(error.into()))?;
    for path in [live.parent(), staged.parent()].into_iter().flatten() {
        files::sync_dir(path).map_err(io_error(path))?;
    }
    Ok(())
}

/// Removes a day that was put together: its folder goes to where nothing counts, and then for good.
pub(super) fn take_away(
    archive: &Path,
    table: Table,
    list: &Compacted,
) -> Result<(), CompactError> {
    let dir = compacted::day_dir(table, &list.day);
    let (live, away) = (archive.join(&dir), archive.join(compacted::staging_dir(table, &list.day)));
    let own = format!("{dir}/{}", compacted::NAME);
    let is_own = |path: &String| *path == own || list.files.iter().any(|part| part.path == *path);
    if compacted::below(archive, &dir).map_err(io_error(&live))?.iter().all(is_own) {
        let parent = away.parent().unwrap_or(archive);
        files::make_dir(parent).map_err(io_error(parent))?;
        fs::rename(&live, &away).map_err(io_error(&live))?;
        files::sync_dir(parent).map_err(io_error(parent))?;
        fs::remove_dir_all(&away).map_err(io_error(&away))?;
    }
    // The list last, with the folders that are empty then.
    let names = list.files.iter().map(|part| part.path.as_str()).chain([own.as_str()]);
    files::remove(archive, names).map_err(io_error(&live))
}

/// Removes what compactions that were cut short left: whichever of the two days is not in place.
pub(super) fn clean(archive: &Path, watch: &mut dyn Watch) -> Result<(), CompactError> {
    for table in Table::ALL {
        let tables = archive.join(texts::class(table)).join(STAGING);
        let dir = tables.join(format!("table={}", table.as_str()));
        for day in compacted::folders(&dir).map_err(io_error(&dir))? {
            let day = day.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let day = day.strip_prefix("dt=").unwrap_or_default().to_owned();
            clean_day(archive, table, &day, watch)?;
        }
        if dir.exists() {
            fs::remove_dir(&dir).map_err(io_error(&dir))?;
        }
        // The folder of the class stays where it is the one that is locked.
        if texts::class(table) != layout::STANDARD && tables.exists() {
            fs::remove_dir(&tables).map_err(io_error(&tables))?;
        }
    }
    Ok(())
}

/// Removes the day that is not in place; its sealed files only once the one that is says that it holds their rows.
pub(super) fn clean_day(
    archive: &Path,
    table: Table,
    day: &str,
    watch: &mut dyn Watch,
) -> Result<(), CompactError> {
    let staging = compacted::staging_dir(table, day);
    let dir = archive.join(&staging);
    if !dir.exists() {
        return Ok(());
    }
    let live = compacted::day_dir(table, day);
    let found = compacted::of_day(archive, table, day).map_err(io_error(&dir))?;
    let says = found.and_then(|found| found.says).unwrap_or_default();
    let mut going = Vec::new();
    for path in compacted::below(archive, &staging).map_err(io_error(&dir))? {
        let rest = path.strip_prefix(&staging).unwrap_or(&path);
        let is_ours = rest.rsplit('/').next().is_some_and(|file| {
            file.starts_with("part-") || file.starts_with("run-") || file.starts_with('_')
        });
        let was = format!("{live}{rest}");
        if !is_ours && !says.replaces.iter().any(|one| one.path == was) {
            return Err(CompactError::Foreign(format!("{} ({})", name(table, day), dir.display())));
        }
        going.push(archive.join(path));
    }
    for path in going {
        fs::remove_file(&path).map_err(io_error(&path))?;
        watch.step(Step::Removed);
    }
    fs::remove_dir_all(&dir).map_err(io_error(&dir))?;
    dir.parent().map_or(Ok(()), |parent| files::sync_dir(parent).map_err(io_error(parent)))
}
