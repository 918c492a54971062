//! Files that may be libssl: found in processes' mappings, read whole and by descriptor, because an
//! agent may have made them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use object::{Object, ObjectSegment, ObjectSymbol};

use crate::Error;

/// The largest file looked into; a libssl has one to two MiB with its symbols.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Of one process's mappings: 4 MiB are 40,000 of them.
const MAPS_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// A file's identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    dev: u64,
    ino: u64,
}

/// A file that may be libssl, held open.
#[derive(Debug)]
pub(super) struct Library {
    pub(super) id: FileId,
    /// As its process names it; to be read by people.
    pub(super) path: PathBuf,
    bytes: u64,
    file: File,
}

impl Library {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::of(File::open(path)?, path.to_owned())
    }

    fn of(file: File, path: PathBuf) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a regular file"));
        }
        let id = FileId { dev: metadata.dev(), ino: metadata.ino() };
        Ok(Self { id, path, bytes: metadata.len(), file })
    }

    /// A path to this very file, whatever became of its name.
    pub(super) fn by_descriptor(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// Where in the file each of these functions begins; an error if one is missing.
    pub(super) fn functions<const N: usize>(
        &self,
        names: [&'static str; N],
    ) -> Result<[u64; N], Error> {
        if self.bytes > FILE_BYTES_MAX {
            return Err(Error::Library("it is larger than a libssl is"));
        }
        let failed = Error::file("reading", &self.path);
        // Not mapped: its owner could cut it short under us.
        let size = usize::try_from(self.bytes).map_err(|_| Error::Library("it is too large"))?;
        let mut data = vec![0; size];
        self.file.read_exact_at(&mut data, 0).map_err(failed)?;
        functions(&data, names)
    }
}

/// Adds the files named like libssl that a process has mapped as code. One that ends meanwhile, or
/// can't be looked at, adds none.
pub(super) fn mapped_by(tgid: u32, found: &mut Vec<Library>) {
    let Ok(maps) = File::open(format!("/proc/{tgid}/maps")) else { return };
    for line in BufReader::new(maps.take(MAPS_BYTES_MAX)).split(b'\n').map_while(Result::ok) {
        let Some((range, path)) = libssl(&line) else { continue };
        let opened = File::open(format!("/proc/{tgid}/map_files/{range}"));
        let library = opened.and_then(|file| Library::of(file, path));
        if let Ok(library) = library
            && !found.iter().any(|known| known.id == library.id)
        {
            found.push(library);
        }
    }
}

/// Range and path of a line of proc_pid_maps(5), if it maps code of a file named `libssl…`: as
/// Debian's `libssl.so.3`, and the `libssl-6a9b88ec.so.3` that Python's packages carry.
fn libssl(line: &[u8]) -> Option<(String, PathBuf)> {
    let line = str::from_utf8(line).ok()?;
    let mut fields = line.splitn(6, ' ');
    let (range, permissions) = (fields.next()?, fields.next()?);
    let path = fields.nth(3)?.trim_start();
    let name = path.rsplit('/').next()?;
    let named = name.starts_with("libssl") && name.contains(".so");
    if !named || permissions.as_bytes().get(2) != Some(&b'x') {
        return None;
    }
    // Unlike here, addresses in map_files have no zeros before them.
    let (from, to) = range.split_once('-')?;
    let range = format!("{}-{}", from.trim_start_matches('0'), to.trim_start_matches('0'));
    Some((range, path.into()))
}

fn functions<const N: usize>(data: &[u8], names: [&'static str; N]) -> Result<[u64; N], Error> {
    let elf = object::File::parse(data).map_err(|_| Error::Library("it is no ELF file"))?;
    if !elf.is_64() {
        return Err(Error::Library("it is for 32-bit programs"));
    }
    let mut offsets = [None; N];
    for symbol in elf.dynamic_symbols().filter(ObjectSymbol::is_definition) {
        let at = names.iter().position(|name| symbol.name() == Ok(*name));
        if let Some(offset) = at.and_then(|at| offsets.get_mut(at)) {
            *offset = in_file(&elf, symbol.address());
        }
    }
    let mut found = [0; N];
    for (found, offset) in found.iter_mut().zip(offsets) {
        *found = offset.ok_or(Error::Library("it has not libssl's functions"))?;
    }
    Ok(found)
}

/// The place in the file of what is loaded at an address.
fn in_file(elf: &object::File<'_>, address: u64) -> Option<u64> {
    elf.segments().find_map(|segment| {
        let (offset, size) = segment.file_range();
        let within = address.checked_sub(segment.address())?;
        (within < size).then(|| offset.checked_add(within))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_of_libssl_are_found() {
        let code = "7f1c2a000000-7f1c2a05b000 r-xp 0001e000 fe:00 1234    ";
        let is = |path: &str| libssl(format!("{code}{path}").as_bytes()).map(|(_, path)| path);
        for path in ["/usr/lib/x86_64-linux-gnu/libssl.so.3", "/v e/libssl-6a9b88ec.so.3"] {
            assert_eq!(is(path), Some(path.into()));
        }
        for path in ["", "/usr/lib/libcrypto.so.3", "/libssl.so.3/data", "[vdso]"] {
            assert_eq!(is(path), None, "{path}");
        }
        let data = "00400000-0045b000 r--p 0001e000 fe:00 1234 /usr/lib/libssl.so.3";
        assert_eq!(libssl(data.as_bytes()), None);
        let (range, _) = libssl(data.replace("r--p", "r-xp").as_bytes()).unwrap();
        assert_eq!(range, "400000-45b000");
    }

    #[test]
    fn what_is_no_libssl_is_an_error() {
        let whole = std::fs::read("/proc/self/exe").unwrap();
        let names = ["SSL_read"];
        for cut in [0, 3, 63, 64, 4096] {
            assert!(functions(&whole[..cut.min(whole.len())], names).is_err(), "{cut}");
        }
        assert!(functions(&whole, names).is_err());
    }
}
