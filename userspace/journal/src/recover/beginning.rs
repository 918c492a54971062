//! Where a journal begins: with its log, or where segments were let go ([`crate::prune`]).

use std::io;
use std::path::Path;

use super::end::set_aside;
use super::harm::Harm;
use super::{OpenError, Recovery, io_error};
use crate::reader::{Fault, ReadError};
use crate::recorder::Options;
use crate::segment;
use crate::start::{self, Start};

/// Where the journal must begin: where what was let go ends, or with the log.
pub(super) fn beginning(options: &Options) -> Result<Start, OpenError> {
    let Options { dir, node, epoch, checkpointed_rows, .. } = options;
    let wrong = |what: String| OpenError::Start { path: dir.join(start::NAME), what };
    match Start::read(dir) {
        Ok(None) => Ok(Start::genesis(node, *epoch)),
        Ok(Some(start)) if start.seq > *checkpointed_rows => Err(wrong(format!(
            "says that all before row {} was let go, of which the archive covers {checkpointed_rows}: rows are in neither",
            start.seq
        ))),
        Ok(Some(start)) => {
            passed_over_alone(dir, &start)?;
            Ok(start)
        }
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(wrong("does not say where the journal begins".into()))
        }
        Err(error) => Err(io_error("read the start of", dir)(error)),
    }
}

/// Segments that are passed over have others behind them, or these were taken away.
fn passed_over_alone(dir: &Path, start: &Start) -> Result<(), OpenError> {
    let all = segment::list_all(dir).map_err(io_error("list", dir))?;
    let Some(last) = all.last().filter(|last| last.first_lsn < start.lsn) else { return Ok(()) };
    let what = format!(
        "says that the journal begins with record {}, and no segment from there on is left beside {}",
        start.lsn.0,
        last.path.display()
    );
    Err(OpenError::Start { path: dir.join(start::NAME), what })
}

/// Where it is the beginning that is wrong: a file that says it wrongly is set aside, and then a first segment whose rows
/// are archived up to it is taken for the beginning. False where it is something else.
pub(super) fn begin_anew(
    options: &Options,
    damage: &ReadError,
    harm: Harm,
    recovery: &mut Recovery,
) -> Result<bool, OpenError> {
    let dir = &options.dir;
    let segments = segment::list(dir).map_err(io_error("list", dir))?;
    let first = segments.first().filter(|first| first.path == damage.segment);
    let Some(first) = first.filter(|_| matches!(damage.fault, Fault::Link)) else {
        return Ok(false);
    };
    let told = format!(
        "journal was tampered with: {}, record {}: {harm}",
        damage.segment.display(),
        damage.lsn.0
    );
    let file = dir.join(start::NAME);
    if file.try_exists().map_err(io_error("look for", &file))? {
        recovery.accepted.push(told);
        set_aside(&*options.disk, &file, None, recovery)?;
        return Ok(true);
    }
    let Some(header) = segment::peek(&first.path).map_err(io_error("read", &first.path))? else {
        return Ok(false);
    };
    let is_archived = header.first_seq <= options.checkpointed_rows;
    if !is_archived || !matches!(harm, Harm::Missing { .. }) {
        return Ok(false);
    }
    recovery.accepted.push(told);
    Start::of(&header).keep(&*options.disk, dir).map_err(io_error("write the start of", dir))?;
    Ok(true)
}
