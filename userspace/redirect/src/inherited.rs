//! Descriptors that the supervisor hands over at start: `LISTEN_FDS` of sd_listen_fds(3).
#![expect(unsafe_code, reason = "a descriptor's number becomes its owner")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes the descriptors that were handed over, each with its name; none the second time. Call it
/// before anything else of the process deals with descriptors by number.
///
/// Nothing is known of them but what the supervisor says: the caller finds out what they are.
pub fn take() -> io::Result<Vec<(String, OwnedFd)>> {
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    let mut owned = Vec::new();
    for (fd, name) in sd_notify::listen_fds_with_names()? {
        // SAFETY: the process was started with it (it is open: the call above has set its
        // close-on-exec flag), and the flag above makes us its only taker.
        owned.push((name, unsafe { OwnedFd::from_raw_fd(fd) }));
    }
    Ok(owned)
}
