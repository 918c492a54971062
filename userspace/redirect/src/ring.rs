//! The reading end of a BPF ring buffer (`kernel/bpf/ringbuf.c`, Linux 5.8), with one thing that
//! the usual readers lack: what was read stays in the ring until it is released. Who is killed in
//! between has lost nothing; the next reader meets it again.
#![expect(unsafe_code, reason = "memory shared with the kernel")]

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use aya::maps::MapData;

/// `BPF_RINGBUF_BUSY_BIT`: the record is being written.
const BUSY: u32 = 1 << 31;
/// `BPF_RINGBUF_DISCARD_BIT`: the record was given up.
const DISCARDED: u32 = 1 << 30;
/// `BPF_RINGBUF_HDR_SZ`
const HEADER: usize = 8;

/// A ring, mapped; to be read by one thread of the host.
pub(crate) struct Ring {
    map: MapData,
    /// The page with what was released.
    consumer: Mapping,
    /// The page with what was written, and the data behind it, twice in a row.
    producer: Mapping,
    page: usize,
    mask: u64,
    /// Up to here was passed.
    passed: u64,
    /// The record that was read last ends here.
    ahead: u64,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring").field("passed", &self.passed).finish_non_exhaustive()
    }
}

impl Ring {
    /// Maps the ring. What its last reader did not release is read again.
    pub(crate) fn open(map: MapData) -> io::Result<Self> {
        // SAFETY: a call without memory.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = usize::try_from(page).map_err(io::Error::other)?;
        let size = map.info().map_err(io::Error::other)?.max_entries();
        let data = usize::try_from(size).map_err(io::Error::other)?;
        // The kernel makes no other sizes.
        if !data.is_power_of_two() || !data.is_multiple_of(page) {
            return Err(io::Error::other("the ring's size is no power of two"));
        }
        let fd = map.fd().as_fd();
        let consumer = Mapping::new(fd, 0, page, libc::PROT_READ | libc::PROT_WRITE)?;
        let producer = Mapping::new(fd, page, page + 2 * data, libc::PROT_READ)?;
        let mask = u64::from(size) - 1;
        let mut ring = Self { map, consumer, producer, page, mask, passed: 0, ahead: 0 };
        ring.passed = ring.released().load(Ordering::Acquire);
        ring.ahead = ring.passed;
        Ok(ring)
    }

    /// Readable while anything is not released.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.fd().as_fd()
    }

    /// The next record, if it is written; the same again until it is passed.
    pub(crate) fn read(&mut self) -> Option<&[u8]> {
        loop {
            // SAFETY: the first eight bytes of the mapping, aligned, which only the kernel writes.
            let written: &AtomicU64 = unsafe { self.producer.at(0) };
            if self.passed >= written.load(Ordering::Acquire) {
                return None;
            }
            let place = self.page + usize::try_from(self.passed & self.mask).ok()?;
            // SAFETY: below the mask, so within the first copy of the data; records are aligned to 8.
            let header: &AtomicU32 = unsafe { self.producer.at(place) };
            let header = header.load(Ordering::Acquire);
            if header & BUSY != 0 {
                return None;
            }
            let length = header & !DISCARDED;
            self.ahead = self.passed + (u64::from(length) + HEADER as u64).next_multiple_of(8);
            if header & DISCARDED == 0 {
                let length = usize::try_from(length).ok()?;
                // SAFETY: a record is shorter than the data, which is mapped twice in a row, so it is
                // whole from here. The kernel writes over it only once it is released, for which
                // `release` needs the ring that this slice borrows.
                return Some(unsafe { self.producer.slice(place + HEADER, length) });
            }
            self.pass();
        }
    }

    /// Goes on to what comes after the record that was read last.
    pub(crate) fn pass(&mut self) {
        self.passed = self.ahead;
    }

    /// Gives back to the kernel what was passed.
    pub(crate) fn release(&mut self) {
        self.released().store(self.passed, Ordering::Release);
    }

    fn released(&self) -> &AtomicU64 {
        // SAFETY: the first eight bytes of the mapping, aligned, which the kernel only reads.
        unsafe { self.consumer.at(0) }
    }
}

/// A part of a map's memory.
struct Mapping {
    start: NonNull<u8>,
    length: NonZeroUsize,
}

// SAFETY: it owns memory that belongs to no thread.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(map: BorrowedFd<'_>, offset: usize, length: usize, access: i32) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
        let length = NonZeroUsize::new(length).ok_or(io::ErrorKind::InvalidInput)?;
        let (none, shared) = (ptr::null_mut(), libc::MAP_SHARED);
        // SAFETY: a new mapping, at a place that the kernel chooses.
        let start =
            unsafe { libc::mmap(none, length.get(), access, shared, map.as_raw_fd(), offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, length })
    }

    /// What is at an offset.
    ///
    /// # Safety
    /// Within the mapping, and aligned as an atomic number is.
    unsafe fn at<T>(&self, offset: usize) -> &T {
        // SAFETY: as the caller says.
        unsafe { self.start.add(offset).cast().as_ref() }
    }

    /// The bytes at an offset.
    ///
    /// # Safety
    /// Within the mapping, and written by nobody as long as the slice lives.
    unsafe fn slice(&self, offset: usize, length: usize) -> &[u8] {
        // SAFETY: as the caller says.
        unsafe { std::slice::from_raw_parts(self.start.add(offset).as_ptr(), length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: what `new` mapped; nothing borrows it any more. It can't fail then.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length.get()) };
    }
}
