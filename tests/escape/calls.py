"""System calls that Python has no function for. Numbers: x86_64, linux/arch/x86/entry/syscalls/syscall_64.tbl."""

import ctypes
import os

LIBC = ctypes.CDLL(None, use_errno=True)

PIVOT_ROOT, MOUNT, UMOUNT, KEXEC_LOAD, INIT_MODULE, PTRACE, UNSHARE, SETNS = 155, 165, 166, 246, 175, 101, 272, 308
FINIT_MODULE, BPF, KEXEC_FILE_LOAD = 313, 321, 320
IO_URING_SETUP, IO_URING_ENTER, PIDFD_OPEN, CLONE3, PIDFD_GETFD = 425, 426, 434, 435, 438

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET, CLONE_INTO_CGROUP = 0x20000, 0x10000000, 0x40000000, 0x200000000


def syscall(number, *arguments):
    """Answers the call's result; its error is an OSError."""
    result = LIBC.syscall(ctypes.c_long(number), *[argument(a) for a in arguments])
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def argument(value):
    """Integers are registers, everything else goes as ctypes has it."""
    return ctypes.c_long(value) if isinstance(value, int) else value


def bpf(command, attributes):
    """bpf(2) with packed attributes."""
    buffer = ctypes.create_string_buffer(attributes, max(len(attributes), 160))
    return syscall(BPF, command, buffer, len(buffer))
