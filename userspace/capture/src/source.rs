//! Frames of a capture file, pcap or pcapng, one after the other.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use pcap_parser::pcapng::Block;
use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{Linktype, PcapBlockOwned, PcapError, create_reader};

use crate::limit::{BLOCK_BYTES_MAX, INTERFACES_MAX, READ_BYTES};

/// A frame as it was captured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// When, microseconds since 1970 UTC.
    pub at_us: i64,
    /// What it begins with, by the registry of tcpdump.org.
    pub link: i32,
    /// What was captured of it.
    pub bytes: &'a [u8],
    /// How long it was on the wire, in bytes.
    pub wire_bytes: usize,
}

/// Why a capture can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The system refused.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file's first bytes are of no capture.
    #[error("{} is no capture: neither pcap nor pcapng", .0.display())]
    NoCapture(PathBuf),
    /// A block is not as the format has it.
    #[error("{} is damaged after {frames} frames ({} bytes): {what}", path.display(), bytes)]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Frames before.
        frames: u64,
        /// Bytes before.
        bytes: u64,
        /// What is wrong.
        what: &'static str,
    },
}

/// An interface of a section.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: i32,
    /// Units of a second.
    resolution: u64,
    offset_s: i64,
    snaplen: u32,
}

/// A capture file that is being read.
pub struct Source {
    path: PathBuf,
    reader: Box<dyn PcapReaderIterator + Send>,
    interfaces: Vec<Interface>,
    /// Units of a second in a pcap file.
    legacy: Interface,
    capacity: usize,
    frames: u64,
    bytes: u64,
    is_cut: bool,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Source {
    /// Opens a capture.
    ///
    /// # Errors
    /// If it can't be read, or is none.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let file =
            File::open(path).map_err(|source| SourceError::Io { path: path.to_owned(), source })?;
        Self::new(path, file)
    }

    /// Reads a capture called `path` from anything.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn new(path: &Path, from: impl io::Read + Send + 'static) -> Result<Self, SourceError> {
        let path = path.to_owned();
        let reader = match create_reader(READ_BYTES, from) {
            Ok(reader) => reader,
            Err(PcapError::ReadError) => {
                return Err(SourceError::Io { path, source: io::ErrorKind::Other.into() });
            }
            Err(_) => return Err(SourceError::NoCapture(path)),
        };
        let legacy = Interface { link: 0, resolution: 1_000_000, offset_s: 0, snaplen: 0 };
        let (interfaces, capacity) = (Vec::new(), READ_BYTES);
        Ok(Self { path, reader, interfaces, legacy, capacity, frames: 0, bytes: 0, is_cut: false })
    }

    /// Frames read so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Bytes of the file that were read so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the file ended within a block: whoever captured was ended, or it is not all here.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// Calls `each` with the next frame; false at the end.
    ///
    /// # Errors
    /// If there is none and the file goes on.
    pub fn next(&mut self, each: &mut dyn FnMut(Frame<'_>)) -> Result<bool, SourceError> {
        loop {
            let step = match self.reader.next() {
                Ok((length, block)) => {
                    let mut state =
                        State { interfaces: &mut self.interfaces, legacy: &mut self.legacy };
                    let found = state.take(&block);
                    let is_frame = matches!(found, Ok(Some(_)));
                    if let Ok(Some(frame)) = found {
                        each(frame);
                    }
                    Step::Block { length, is_frame, fault: found.err() }
                }
                Err(PcapError::Eof) => return Ok(false),
                Err(PcapError::UnexpectedEof) => Step::Cut,
                Err(PcapError::Incomplete(_)) => Step::Refill,
                Err(PcapError::BufferTooSmall) => Step::Grow,
                Err(PcapError::ReadError) => Step::Unreadable,
                Err(_) => Step::Damaged("a block is not as the format has it"),
            };
            match step {
                Step::Block { length, is_frame, fault } => {
                    self.reader.consume(length);
                    self.bytes += length as u64;
                    if let Some(what) = fault {
                        return Err(self.damaged(what));
                    }
                    if is_frame {
                        self.frames += 1;
                        return Ok(true);
                    }
                }
                Step::Cut => {
                    self.is_cut = true;
                    return Ok(false);
                }
                Step::Grow if self.capacity < BLOCK_BYTES_MAX => {
                    self.capacity = (self.capacity * 2).min(BLOCK_BYTES_MAX);
                    self.reader.grow(self.capacity);
                    self.refill()?;
                }
                Step::Refill => self.refill()?,
                Step::Grow => return Err(self.damaged("a block is larger than 16 MiB")),
                Step::Unreadable => return Err(self.unreadable()),
                Step::Damaged(what) => return Err(self.damaged(what)),
            }
        }
    }

    fn refill(&mut self) -> Result<(), SourceError> {
        let refilled = self.reader.refill().is_ok();
        if refilled { Ok(()) } else { Err(self.unreadable()) }
    }

    fn unreadable(&self) -> SourceError {
        SourceError::Io { path: self.path.clone(), source: io::ErrorKind::Other.into() }
    }

    fn damaged(&self, what: &'static str) -> SourceError {
        let Self { path, frames, bytes, .. } = self;
        SourceError::Damaged { path: path.clone(), frames: *frames, bytes: *bytes, what }
    }
}

/// What comes of one look at the file.
enum Step {
    Block { length: usize, is_frame: bool, fault: Option<&'static str> },
    Cut,
    Refill,
    Grow,
    Unreadable,
    Damaged(&'static str),
}

/// What blocks are read by.
struct State<'s> {
    interfaces: &'s mut Vec<Interface>,
    legacy: &'s mut Interface,
}

impl State<'_> {
    /// The frame in a block, if there is one.
    fn take<'b>(
        &mut self,
        block: &'b PcapBlockOwned<'b>,
    ) -> Result<Option<Frame<'b>>, &'static str> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                self.legacy.link = header.network.0;
                if header.is_nanosecond_precision() {
                    self.legacy.resolution = 1_000_000_000;
                }
                Ok(None)
            }
            PcapBlockOwned::Legacy(frame) => {
                let Interface { link, resolution, .. } = *self.legacy;
                let fraction = u64::from(frame.ts_usec) * 1_000_000 / resolution;
                let at_us =
                    i64::from(frame.ts_sec) * 1_000_000 + i64::try_from(fraction).unwrap_or(0);
                let bytes = cut(frame.data, frame.caplen);
                Ok(Some(Frame { at_us, link, bytes, wire_bytes: frame.origlen as usize }))
            }
            PcapBlockOwned::NG(block) => self.section(block),
        }
    }

    fn section<'b>(&mut self, block: &'b Block<'b>) -> Result<Option<Frame<'b>>, &'static str> {
        match block {
            Block::SectionHeader(_) => self.interfaces.clear(),
            Block::InterfaceDescription(one) => {
                if self.interfaces.len() >= INTERFACES_MAX {
                    return Err("a section has more than 65,536 interfaces");
                }
                let Linktype(link) = one.linktype;
                let resolution = one.ts_resolution().filter(|units| *units > 0);
                self.interfaces.push(Interface {
                    link,
                    resolution: resolution.ok_or("an interface counts time in no known unit")?,
                    offset_s: one.ts_offset(),
                    snaplen: one.snaplen,
                });
            }
            Block::EnhancedPacket(packet) => {
                let at = usize::try_from(packet.if_id).unwrap_or(usize::MAX);
                let interface =
                    self.interfaces.get(at).ok_or("a packet is of no described interface")?;
                let Interface { link, resolution, offset_s, .. } = *interface;
                let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
                let within = u128::from(ticks % resolution) * 1_000_000 / u128::from(resolution);
                let at_us = i64::try_from(ticks / resolution)
                    .unwrap_or(i64::MAX)
                    .saturating_add(offset_s)
                    .saturating_mul(1_000_000)
                    .saturating_add(i64::try_from(within).unwrap_or(0));
                let bytes = cut(packet.data, packet.caplen);
                let wire_bytes = packet.origlen as usize;
                return Ok(Some(Frame { at_us, link, bytes, wire_bytes }));
            }
            Block::SimplePacket(packet) => {
                // It has no time (draft-ietf-opsawg-pcapng §4.4).
                let interface =
                    self.interfaces.first().ok_or("a packet is of no described interface")?;
                let kept = match interface.snaplen {
                    0 => packet.origlen,
                    snaplen => snaplen.min(packet.origlen),
                };
                let bytes = cut(packet.data, kept);
                let wire_bytes = packet.origlen as usize;
                return Ok(Some(Frame { at_us: 0, link: interface.link, bytes, wire_bytes }));
            }
            // Names, statistics, secrets, what others define: nothing of them is a packet.
            _ => {}
        }
        Ok(None)
    }
}

fn cut(data: &[u8], length: u32) -> &[u8] {
    data.get(..length as usize).unwrap_or(data)
}
