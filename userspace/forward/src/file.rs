//! Lines at the end of a file, which is set aside when it is large.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::rows::Batch;
use crate::{ForwardError, io_error};

/// Read at once to find where the last whole line ends.
const PIECE: u64 = 64 * 1024;

/// Such a file.
pub(crate) struct Lines {
    path: PathBuf,
    /// The size at which it is set aside.
    bytes_max: u64,
    /// Files set aside that are kept: `PATH.1` is the newest.
    keep: u32,
    file: Option<(File, u64)>,
}

impl Lines {
    pub(crate) fn new(path: &Path, bytes_max: u64, keep: u32) -> Self {
        Self { path: path.to_owned(), bytes_max, keep, file: None }
    }

    /// Writes the rows' lines; they are durable when this returns.
    pub(crate) fn send(&mut self, batch: &Batch) -> Result<(), ForwardError> {
        let fail = || io_error("writing", &self.path);
        let text: String = batch.items.iter().flat_map(|item| [item.text.as_str(), "\n"]).collect();
        let is_full = self.file.as_ref().is_some_and(|(_, bytes)| *bytes >= self.bytes_max);
        if is_full {
            self.file = None;
            rotate(&self.path, self.keep)?;
        }
        let (file, bytes) = match &mut self.file {
            Some(open) => open,
            none => none.insert(open(&self.path)?),
        };
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_data());
        if let Err(error) = written {
            let failed = fail()(error);
            self.file = None;
            return Err(failed);
        }
        *bytes += u64::try_from(text.len()).unwrap_or(0);
        Ok(())
    }
}

/// Opens the file at the end of its last whole line: a crash may have cut one off.
fn open(path: &Path) -> Result<(File, u64), ForwardError> {
    let fail = || io_error("opening", path);
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(false).mode(0o640).open(path);
    let mut file = file.map_err(fail())?;
    let mut end = file.seek(SeekFrom::End(0)).map_err(fail())?;
    let whole = loop {
        let begin = end.saturating_sub(PIECE);
        let mut piece = Vec::new();
        file.seek(SeekFrom::Start(begin)).map_err(fail())?;
        (&mut file).take(end - begin).read_to_end(&mut piece).map_err(fail())?;
        let newline = piece.iter().rposition(|byte| *byte == b'\n');
        if let Some(at) = newline {
            break begin + u64::try_from(at).unwrap_or(0) + 1;
        }
        if begin == 0 {
            break 0;
        }
        end = begin;
    };
    file.set_len(whole).map_err(fail())?;
    file.seek(SeekFrom::Start(whole)).map_err(fail())?;
    Ok((file, whole))
}

/// Sets the file aside as `PATH.1`, those before it one further; what is beyond `keep` goes.
fn rotate(path: &Path, keep: u32) -> Result<(), ForwardError> {
    let name = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    for number in (1..keep).rev() {
        let (from, to) = (name(number), name(number + 1));
        if from.exists() {
            fs::rename(&from, &to).map_err(io_error("setting aside", &from))?;
        }
    }
    let done = if keep == 0 { fs::remove_file(path) } else { fs::rename(path, name(1)) };
    done.map_err(io_error("setting aside", path))?;
    let dir = path.parent().unwrap_or(Path::new("/"));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("syncing", dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Item;

    fn batch(texts: &[&str]) -> Batch {
        let control = journal::row::ControlRow::default();
        let row = || journal::row::Row::Control(Box::new(control.clone()));
        let item = |text: &&str| Item { text: (*text).to_owned(), row: row() };
        Batch { items: texts.iter().map(item).collect(), next_row: 0 }
    }

    #[test]
    fn lines_are_whole_and_files_are_set_aside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("v.jsonl");
        fs::write(&path, "one\ntw").unwrap();
        let mut lines = Lines::new(&path, 12, 2);
        lines.send(&batch(&["two", "three"])).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "one\ntwo\nthree\n");
        for text in ["four four four", "five five five", "six six six six"] {
            lines.send(&batch(&[text])).unwrap();
        }
        let read = |end: &str| fs::read_to_string(dir.path().join(format!("v.jsonl{end}"))).ok();
        assert_eq!(read("").unwrap(), "six six six six\n");
        assert_eq!(read(".1").unwrap(), "five five five\n");
        assert_eq!(read(".2").unwrap(), "four four four\n");
        assert_eq!(read(".3"), None);
    }
}
