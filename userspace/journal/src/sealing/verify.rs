//! Checks a journal's seals with the first secret.

use std::path::Path;

use super::{SealBody, Sealed, Secret};
use crate::frame::FrameKind;
use crate::reader::{ReadError, SegmentReader};
use crate::record::Lsn;
use crate::segment;

/// Breaks told of at most; more are the same story.
const BREAKS_MAX: usize = 100;

/// Numbers of seals that may be left out before the first one here, in a journal that let go of its first segments: ten
/// years of one a second, each half a microsecond, three minutes in all.
const SKIPPED_MAX: u64 = 10 * 366 * 86_400;

/// What the seals of a journal say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// How many hold.
    pub seals: u64,
    /// The first frame, and the first row, that no seal covers which holds.
    pub sealed: Option<(Lsn, u64)>,
    /// When the last of these was made, by the host.
    pub at_us: Option<i64>,
    /// Frames behind it.
    pub behind: u64,
    /// What does not hold, in order.
    pub breaks: Vec<Break>,
}

/// Something that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Break {
    /// What a seal covers was changed since.
    Changed {
        /// The seal's number.
        index: u64,
        /// The first frame and row that may be changed: the first that the seal before does not cover.
        first: (Lsn, u64),
        /// The last frame.
        last: Lsn,
    },
    /// Seals are missing, and with them what they covered.
    Missing {
        /// The first of them.
        from: u64,
        /// The last of them.
        to: u64,
        /// Behind which frame and row.
        behind: (Lsn, u64),
    },
    /// A number comes again that came before.
    Again {
        /// The number.
        index: u64,
        /// The next frame's place.
        lsn: Lsn,
    },
    /// A seal of another secret: the seals were begun anew.
    Other {
        /// The next frame's place.
        lsn: Lsn,
        /// The name of that secret.
        id: [u8; 8],
    },
}

/// Checks the seals of the journal in `dir` with the first secret. Seals that are missing before the journal's first segment,
/// where that is not the log's first, are none.
///
/// # Errors
/// If the journal can't be read to its end; what its chain does not give away, its seals do.
pub fn check(dir: &Path, first: &Secret) -> Result<Checked, CheckError> {
    let mut pass = Pass {
        id: first.id(),
        secret: first.clone(),
        index: 0,
        checked: Checked::default(),
        from: None,
    };
    let segments = segment::list(dir).map_err(CheckError::List)?;
    for (number, segment) in segments.iter().enumerate() {
        let mut reader = SegmentReader::open(segment)?;
        if number == 0 {
            pass.from = Some((reader.next_lsn(), reader.next_seq()));
        }
        loop {
            let (chain, lsn, seq) = (reader.chain(), reader.next_lsn(), reader.next_seq());
            let Some(frame) = reader.next_frame()? else { break };
            if frame.header.kind == FrameKind::Seal {
                if let Ok(seal) = SealBody::parse(frame.body) {
                    pass.seal(&seal, (lsn, seq), chain, number == 0);
                }
            } else if frame.header.is_counted() {
                pass.checked.behind += 1;
            }
        }
    }
    Ok(pass.checked)
}

/// Why a journal's seals could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Its folder can't be read.
    #[error("the journal's folder can't be read")]
    List(#[source] std::io::Error),
    /// A segment can't.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A pass over a journal.
struct Pass {
    id: [u8; 8],
    /// The key of the seal `index`, the next one.
    secret: Secret,
    index: u64,
    checked: Checked,
    /// The first frame and row that no seal covers.
    from: Option<(Lsn, u64)>,
}

impl Pass {
    fn seal(&mut self, seal: &SealBody, place: (Lsn, u64), chain: [u8; 32], is_early: bool) {
        let (lsn, seq) = place;
        let from = self.from.unwrap_or(place);
        if seal.id != self.id {
            // Of an earlier secret, before this one was begun with.
            if self.checked.seals > 0 {
                self.tell(Break::Other { lsn, id: seal.id });
            }
            return;
        }
        if seal.index < self.index {
            return self.tell(Break::Again { index: seal.index, lsn });
        }
        // Where the journal begins later than the log, so do its seals.
        let is_first = is_early && self.checked.seals == 0 && from.0 > Lsn(1);
        if seal.index > self.index && !is_first {
            self.tell(Break::Missing { from: self.index, to: seal.index - 1, behind: from });
        }
        if seal.index - self.index > SKIPPED_MAX {
            return;
        }
        while self.index < seal.index {
            self.secret = self.secret.next();
            self.index += 1;
        }
        let covers = Sealed { id: self.id, index: seal.index, at_us: seal.at_us, lsn, seq, chain };
        if covers.is_by(&self.secret, &seal.mac) {
            self.checked.seals += 1;
            self.checked.sealed = Some(place);
            self.checked.at_us = Some(seal.at_us);
            self.checked.behind = 0;
        } else {
            let last = Lsn(lsn.0.saturating_sub(1));
            self.tell(Break::Changed { index: seal.index, first: from, last });
        }
        self.from = Some(place);
        self.secret = self.secret.next();
        self.index += 1;
    }

    fn tell(&mut self, what: Break) {
        if self.checked.breaks.len() < BREAKS_MAX {
            self.checked.breaks.push(what);
        }
    }
}
