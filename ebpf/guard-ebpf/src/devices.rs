//! Device nodes that agents may open: the harmless ones that every program knows.

/// Whether a character device is harmless; `rdev` is major << 20 | minor
/// (Documentation/admin-guide/devices.txt).
#[inline(always)]
pub fn is_harmless(rdev: u32) -> bool {
    let (major, minor) = (rdev >> 20, rdev & 0xf_ffff);
    match major {
        // null, zero, full, random, urandom; not mem, kmem, port or kmsg.
        1 => matches!(minor, 3 | 5 | 7 | 8 | 9),
        // tty, console, ptmx.
        5 => minor <= 2,
        // Pseudo-terminals, NVIDIA and DRM graphics: no way to disks, memory or networks.
        136..=143 | 195 | 226 => true,
        _ => false,
    }
}
