//! Token files: read again when they change.

use std::io;
use std::path::{Path, PathBuf};

use identity::Enrollment;
use identity::standing::Held;
use tracing::warn;
use types::identity::Way;
use types::secret::Secret;

use super::tokens::Proven;
use super::{Binding, Keeper, Refused, name};

/// Bytes of a token file that are read; a token has 16 KiB at most.
const FILE_BYTES_MAX: u64 = 32 * 1024;

/// How long an issuer that can't be reached is left alone, in looks.
const RETRY_LOOKS: u32 = 5;

/// How a file was read.
#[derive(Clone, Debug)]
pub(super) struct Read {
    stamp: Option<Stamp>,
    /// Looks until it is read again though it is the same.
    again_in: Option<u32>,
}

/// What changes when a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

impl Keeper {
    /// Reads the tokens again that are others.
    pub(super) async fn follow_all(&self) {
        let bindings = self.bindings().clone();
        for enrollment in self.enrollments.list() {
            if let Some(own) = bindings.agents.get(&name(&enrollment))
                && let Some(file) = &own.token_file
            {
                self.follow(&enrollment, own, file.clone()).await;
            }
        }
        self.forget();
    }

    /// Reads an agent's token again where its file is another.
    async fn follow(&self, enrollment: &Enrollment, binding: &Binding, file: PathBuf) {
        let stamp = stamp(&file);
        let key = name(enrollment);
        let known = self.read().get(&key).cloned();
        if let Some(Read { stamp: known, again_in }) = known
            && known == stamp
            && again_in.is_none_or(|looks| looks > 0)
        {
            let again_in = again_in.map(|looks| looks - 1);
            self.read().insert(key, Read { stamp, again_in });
            return;
        }
        let found = self.identity(file).await.map(|proven| proven.owned(binding));
        let again_in = found.as_ref().err().filter(|why| why.may_pass()).map(|_| RETRY_LOOKS);
        self.read().insert(key, Read { stamp, again_in });
        match found {
            Ok(proven) => self.act_by(enrollment, proven),
            // What holds goes on until it ends: nobody said that it does not.
            Err(why) if why.may_pass() => {
                warn!(agent = %enrollment.agent, why = why.as_str(), "a token can't be verified");
            }
            Err(why) => self.hold(enrollment, Held::Ended(why.as_str())),
        }
    }

    /// Whom the token in a file is of.
    pub(super) async fn identity(&self, file: PathBuf) -> Result<Proven, Refused> {
        let read = tokio::task::spawn_blocking(move || read_token(&file)).await;
        let token = read.map_err(io::Error::other).flatten().map_err(|_| Refused::Unreadable)?;
        self.believed(token, Way::File).await
    }
}

fn stamp(file: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let found = std::fs::metadata(file).ok()?;
    Some(Stamp {
        device: found.dev(),
        inode: found.ino(),
        bytes: found.size(),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

fn read_token(file: &Path) -> io::Result<Secret<String>> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(file)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    let token = text.trim().to_owned();
    // The copy with its line's end is a secret, too.
    drop(Secret::new(text));
    Ok(Secret::new(token))
}
