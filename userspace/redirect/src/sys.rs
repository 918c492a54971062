//! System calls that neither std nor aya offers. All `unsafe` is here.
#![expect(unsafe_code, reason = "system calls without a safe wrapper in our dependencies")]

use std::ffi::CString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya_obj::generated::bpf_insn;
use redirect_common::KernelEvent;
use redirect_common::unix::UnixRefusal;

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_LINK_CREATE: libc::c_long = 28;
/// `enum bpf_attach_type`
pub(crate) const BPF_CGROUP_SYSCTL: u32 = 18;
/// `enum bpf_attach_type`
pub(crate) const BPF_CGROUP_SETSOCKOPT: u32 = 22;

/// `enum bpf_attach_type`
pub(crate) const BPF_CGROUP_UNIX_CONNECT: u32 = 49;
/// `enum bpf_attach_type`
pub(crate) const BPF_CGROUP_UNIX_SENDMSG: u32 = 50;

/// What the kernel says of a cgroup link (`struct bpf_link_info`).
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(crate) struct CgroupLink {
    kind: u32,
    /// The link's id.
    pub(crate) id: u32,
    /// The program it runs.
    pub(crate) program: u32,
    pad: u32,
    /// The cgroup it is attached to; 0 once that was removed.
    pub(crate) cgroup: u64,
    attach_type: u32,
    pad2: u32,
}

/// The time that kernel programs write into records: `CLOCK_BOOTTIME`, nanoseconds.
pub(crate) fn boottime_ns() -> io::Result<u64> {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: room for the answer.
    check(unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) }.into())?;
    let (seconds, nanos) = (now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs());
    Ok(seconds * 1_000_000_000 + nanos)
}

/// How well the system's clock is kept (adjtimex(2)).
pub(crate) fn timex() -> io::Result<libc::timex> {
    // SAFETY: a structure of integers, for which zeros are values: nothing is to be set.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: room for the answer, which is written whole.
    let answer = unsafe { libc::adjtimex(&raw mut state) };
    check(answer.into())?;
    if answer == libc::TIME_ERROR {
        state.status |= libc::STA_UNSYNC;
    }
    Ok(state)
}

/// Makes a socket useless for whoever holds it, also if it is connected anew: it goes out by an
/// interface that is not there, and drops what comes in by a filter that can't be taken away.
pub(crate) fn cut_off(socket: BorrowedFd<'_>) -> io::Result<()> {
    const SO_BINDTOIFINDEX: libc::c_int = 62;
    let drop_all = [libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 }];
    let program = libc::sock_fprog { len: 1, filter: drop_all.as_ptr().cast_mut() };
    set_option(socket, libc::SO_ATTACH_FILTER, &program)?;
    set_option(socket, libc::SO_LOCK_FILTER, &1_i32)?;
    set_option(socket, SO_BINDTOIFINDEX, &i32::MAX)
}

fn set_option<T>(socket: BorrowedFd<'_>, option: libc::c_int, value: &T) -> io::Result<()> {
    let size = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the pointer is to a live value of the size said, as the option takes it; what it
    // points to in turn outlives the call.
    let answer = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const *value).cast(),
            size,
        )
    };
    check(answer.into()).map(drop)
}

/// Whether the kernel has seccomp filters that refuse with an errno.
pub(crate) fn seccomp_refuses() -> io::Result<()> {
    let action = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the call reads the four bytes of the action, which outlives it.
    check(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action)
    })
    .map(drop)
}

/// This thread, as programs see it: process id << 32 | thread id.
pub(crate) fn thread() -> u64 {
    // SAFETY: a call without arguments that can't fail.
    let thread = unsafe { libc::gettid() };
    u64::from(std::process::id()) << 32 | u64::from(thread.unsigned_abs())
}

/// Whether a path is on a BPF file system.
pub(crate) fn is_bpffs(path: &Path) -> io::Result<bool> {
    let path = c_path(path)?;
    let mut info = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: a C string and room for the answer.
    check(unsafe { libc::statfs(path.as_ptr(), info.as_mut_ptr()) }.into())?;
    // SAFETY: zeroed is a valid value, and the call succeeded.
    Ok(u64::try_from(unsafe { info.assume_init() }.f_type).is_ok_and(|kind| kind == BPF_FS_MAGIC))
}

/// Mounts a BPF file system that only root may enter.
pub(crate) fn mount_bpffs(path: &Path) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: C strings throughout.
    let answer = unsafe {
        libc::mount(
            c"bpf".as_ptr(),
            path.as_ptr(),
            c"bpf".as_ptr(),
            0,
            c"mode=0700".as_ptr().cast(),
        )
    };
    check(answer.into()).map(drop)
}

/// Loads a program of cgroup socket addresses for an attach type that aya has no name for. What the
/// verifier says goes into `log`.
pub(crate) fn load_sock_addr(
    name: &str,
    instructions: &[bpf_insn],
    attach_type: u32,
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    const BPF_PROG_TYPE_CGROUP_SOCK_ADDR: u32 = 18;
    #[repr(C)]
    struct Attr {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
        interface: u32,
        attach_type: u32,
    }
    let mut named = [0; 16];
    for (to, from) in named.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    let mut attr = Attr {
        kind: BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
        count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr() as u64,
        // As the object declares, see `ebpf/README.md`.
        license: c"Dual MIT/GPL".as_ptr() as u64,
        log_level: u32::from(!log.is_empty()),
        log_size: u32::try_from(log.len()).map_err(io::Error::other)?,
        log: if log.is_empty() { 0 } else { log.as_mut_ptr() as u64 },
        kernel_version: 0,
        flags: 0,
        name: named,
        interface: 0,
        attach_type,
    };
    let fd = i32::try_from(bpf(BPF_PROG_LOAD, &mut attr)?).map_err(io::Error::other)?;
    // SAFETY: the call has just made it, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Attaches a program to a cgroup, by a link that is pinned at `path`.
pub(crate) fn attach_pinned(
    program: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    attach_type: u32,
    path: &Path,
) -> io::Result<()> {
    #[repr(C)]
    struct Create {
        program: i32,
        target: i32,
        attach_type: u32,
        flags: u32,
    }
    #[repr(C)]
    struct Pin {
        path: u64,
        fd: u32,
        flags: u32,
    }
    let mut attr =
        Create { program: program.as_raw_fd(), target: cgroup.as_raw_fd(), attach_type, flags: 0 };
    let fd = i32::try_from(bpf(BPF_LINK_CREATE, &mut attr)?).map_err(io::Error::other)?;
    // SAFETY: the call has just made it, for us alone.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    let path = c_path(path)?;
    let fd = u32::try_from(link.as_raw_fd()).map_err(io::Error::other)?;
    let mut attr = Pin { path: path.as_ptr() as u64, fd, flags: 0 };
    bpf(BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Opens a pinned link.
pub(crate) fn open_link(path: &Path) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Attr {
        path: u64,
        fd: u32,
        flags: u32,
    }
    let path = c_path(path)?;
    let mut attr = Attr { path: path.as_ptr() as u64, fd: 0, flags: 0 };
    let fd = bpf(BPF_OBJ_GET, &mut attr)?;
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the call has just made it, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What a cgroup link is attached to.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<CgroupLink> {
    #[repr(C)]
    struct Attr {
        fd: i32,
        size: u32,
        info: u64,
    }
    let mut info = CgroupLink::default();
    let size = u32::try_from(size_of::<CgroupLink>()).map_err(io::Error::other)?;
    let mut attr = Attr { fd: link.as_raw_fd(), size, info: (&raw mut info) as u64 };
    bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    Ok(info)
}

/// Replaces a link's program, atomically.
pub(crate) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        link: i32,
        program: i32,
        flags: u32,
        old: u32,
    }
    let mut attr = Attr { link: link.as_raw_fd(), program: program.as_raw_fd(), flags: 0, old: 0 };
    bpf(BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Takes a link's program off what it is attached to, at once (Linux 5.9; links of cgroups alone).
pub(crate) fn detach_link(link: BorrowedFd<'_>) -> io::Result<()> {
    #[repr(C)]
    struct Attr {
        link: i32,
    }
    bpf(BPF_LINK_DETACH, &mut Attr { link: link.as_raw_fd() }).map(drop)
}

/// Runs a raw tracepoint program on this thread; answers what it returned.
pub(crate) fn test_run(program: BorrowedFd<'_>) -> io::Result<u32> {
    #[repr(C)]
    #[derive(Default)]
    struct Attr {
        program: i32,
        retval: u32,
        data_sizes: [u32; 2],
        data: [u64; 2],
        repeat: u32,
        duration: u32,
        ctx_sizes: [u32; 2],
        ctx: [u64; 2],
        flags: u32,
        cpu: u32,
        batch_size: u32,
        pad: u32,
    }
    let mut attr = Attr { program: program.as_raw_fd(), ..Attr::default() };
    bpf(BPF_PROG_TEST_RUN, &mut attr)?;
    Ok(attr.retval)
}

/// Waits until a descriptor is readable, or for this long; an interruption counts as readable.
pub(crate) fn poll_in(fd: BorrowedFd<'_>, patience: Duration) -> io::Result<()> {
    let millis = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    let mut polled = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one live element, as said.
    match check(unsafe { libc::poll(&raw mut polled, 1, millis) }.into()) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// An event as the ring holds it; none for one of another size.
pub(crate) fn kernel_event(bytes: &[u8]) -> Option<KernelEvent> {
    if bytes.len() != size_of::<KernelEvent>() {
        return None;
    }
    // SAFETY: as many bytes as the type has, which takes any.
    Some(unsafe { bytes.as_ptr().cast::<KernelEvent>().read_unaligned() })
}

/// The same for a refusal of AF_UNIX.
pub(crate) fn unix_refusal(bytes: &[u8]) -> Option<UnixRefusal> {
    if bytes.len() != size_of::<UnixRefusal>() {
        return None;
    }
    // SAFETY: as many bytes as the type has, which takes any.
    Some(unsafe { bytes.as_ptr().cast::<UnixRefusal>().read_unaligned() })
}

/// The directory of the cgroup with this id, below the mount `root` or not; an error where there
/// is none. A handle of the kernel's file systems without a device is the id alone
/// (`FILEID_KERNFS` in include/linux/exportfs.h).
pub(crate) fn cgroup_path(root: &Path, id: u64) -> io::Result<PathBuf> {
    const FILEID_KERNFS: libc::c_int = 0xfe;
    #[repr(C)]
    struct Handle {
        bytes: libc::c_uint,
        kind: libc::c_int,
        id: [u8; 8],
    }
    let mount = std::fs::File::open(root)?;
    let mut handle = Handle { bytes: 8, kind: FILEID_KERNFS, id: id.to_ne_bytes() };
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: `Handle` is a `struct file_handle` with its bytes behind it, as many as it says.
    let fd = check(unsafe {
        libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), &raw mut handle, flags)
    })?;
    // SAFETY: the call has just made it, for us alone.
    let fd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).map_err(io::Error::other)?) };
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: every caller passes the `repr(C)` beginning of `union bpf_attr` for its command, and
    // the pointers in it outlive the call.
    check(unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) })
}

fn check(answer: libc::c_long) -> io::Result<libc::c_long> {
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}
