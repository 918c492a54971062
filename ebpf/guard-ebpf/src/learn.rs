//! Tells the daemon how the kernel names the inodes that it opens: `stat` may say another device
//! (btrfs, overlayfs). Attached only while the daemon learns.

use aya_ebpf::helpers::generated::bpf_get_current_pid_tgid;
use aya_ebpf::macros::lsm;
use aya_ebpf::programs::LsmContext;

use crate::caller;
use crate::maps::LEARNED;
use crate::protected::key;
use crate::read::{offset, read};

/// Allows everything, and notes what one thread opens.
#[lsm(hook = "file_open")]
pub fn learn(ctx: LsmContext) -> i32 {
    let file: u64 = ctx.arg::<*const u8>(0) as u64;
    let _unread = note(file);
    0
}

#[inline(always)]
fn note(file: u64) -> Result<(), i32> {
    let learned = LEARNED.get_ptr_mut(0).ok_or(-1)?;
    // SAFETY: an array's value, which only the learning thread's opens write.
    let learned = unsafe { &mut *learned };
    // SAFETY: a helper without arguments.
    if learned.thread != unsafe { bpf_get_current_pid_tgid() } {
        return Ok(());
    }
    learned.level = caller::level();
    let key = key(read(file, offset!(file_f_inode))?)?;
    let at = learned.count as usize;
    learned.count += 1;
    if let Some(place) = learned.inodes.get_mut(at) {
        *place = key;
    }
    Ok(())
}
