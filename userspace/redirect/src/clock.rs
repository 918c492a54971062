//! How well the kernel keeps the system's clock: what an auditor needs to lay records of several hosts side by side.

use std::io;

use crate::sys;

/// How well the clock is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockState {
    /// Whether somebody keeps it.
    pub is_synced: bool,
    /// How far it is known to be off, microseconds.
    pub offset_us: i64,
    /// How far it may be off at most, microseconds.
    pub max_error_us: i64,
}

impl ClockState {
    /// The archive's word.
    pub fn as_str(&self) -> &'static str {
        if self.is_synced { "synced" } else { "unsynced" }
    }
}

/// What the kernel says of the system's clock (adjtimex(2)).
///
/// # Errors
/// If it says nothing.
pub fn clock_state() -> io::Result<ClockState> {
    let state = sys::timex()?;
    let is_nano = state.status & libc::STA_NANO != 0;
    Ok(ClockState {
        is_synced: state.status & libc::STA_UNSYNC == 0,
        offset_us: if is_nano { state.offset / 1_000 } else { state.offset },
        max_error_us: state.maxerror,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_how_well_the_clock_is_kept() {
        let state = clock_state().expect("adjtimex");
        assert!(state.max_error_us >= 0, "{state:?}");
        // The kernel's bound of what is not kept (NTP_PHASE_LIMIT, 16 s).
        assert!(state.is_synced || state.max_error_us <= 16_000_000, "{state:?}");
    }
}
