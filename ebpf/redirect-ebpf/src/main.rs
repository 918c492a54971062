//! The kernel side of the redirection: sends TCP connections of enrolled agents to the proxy and
//! their DNS to the forwarder, tells both where they wanted to go and who asked, and lets nothing
//! else out.
//!
//! Every unknown is a refusal. It holds no policy, and it does nothing for sockets outside the
//! cgroups it is attached to. One file per family of programs.
#![no_std]
#![no_main]

mod address;
mod bind;
mod connect;
mod datagram;
mod egress;
mod events;
mod flow;
mod lineage;
#[cfg(feature = "log")]
mod log;
mod maps;
mod peername;
mod process;
mod refuse;
mod selftest;
mod socket;
mod sockops;
mod sockopt;
mod sysctl;
mod unix;

/// The kernel lends `bpf_probe_read_kernel` only to programs that declare a GPL-compatible licence;
/// the string is one of those it knows, and speaks of the object alone. See `ebpf/README.md`.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
