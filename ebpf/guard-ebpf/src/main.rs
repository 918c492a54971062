//! The kernel side of assurance level A2: BPF LSM programs that hold agents which run as root.
//!
//! Every program first asks whether the caller is an agent's, and lets everybody else pass at the
//! cost of one helper call. What can't be told is refused. It keeps no policy; refusals are
//! counted by agent and hook. One file per family of hooks.
#![no_std]
#![no_main]

mod caller;
mod devices;
mod files;
mod inodes;
mod kernel;
mod learn;
mod maps;
mod protected;
mod read;
mod sockets;
mod tasks;
mod verdict;

/// As in `redirect-ebpf`: `bpf_probe_read_kernel` is lent to GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
