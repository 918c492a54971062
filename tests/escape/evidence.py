"""Ways to spoil what was recorded. The harness looks at the archive before and after."""

import os
import tempfile

import sockets


def folder(context):
    return os.path.dirname(context["file"])


def archive_read(context):
    with open(context["file"], "rb") as file:
        return "EFFECT" if file.read(4) else None


def archive_write(context):
    with open(context["file"], "r+b") as file:
        file.write(b"spoilt")


def archive_append(context):
    with open(context["file"], "ab") as file:
        file.write(b"spoilt")


def archive_create(context):
    with open(os.path.join(folder(context), "spoilt.parquet"), "wb") as file:
        file.write(b"spoilt")


def archive_unlink(context):
    os.unlink(context["file"])


def archive_rename(context):
    os.rename(context["file"], context["file"] + ".gone")


def archive_rename_folder(context):
    os.rename(folder(context), folder(context) + ".gone")


def archive_truncate(context):
    os.truncate(context["file"], 0)


def archive_chmod(context):
    os.chmod(context["file"], 0o777)


def archive_chown(context):
    os.chown(context["file"], 65534, 65534)


def archive_link(context):
    """A second name for the file lies where nobody guards it."""
    second = tempfile.mktemp(dir=os.path.dirname(os.path.dirname(folder(context))))
    try:
        os.link(context["file"], second)
    except FileNotFoundError:
        os.link(context["file"], context["file"] + ".second")
        return
    with open(second, "r+b") as file:
        file.write(b"spoilt")


def archive_symlink(context):
    os.symlink("/etc", os.path.join(folder(context), "elsewhere"))


def archive_mkdir(context):
    os.mkdir(os.path.join(folder(context), "spoilt"))


def archive_rmdir(context):
    os.unlink(context["file"])
    os.rmdir(folder(context))


def archive_utime(context):
    os.utime(context["file"], (1, 1))


def archive_setxattr(context):
    os.setxattr(context["file"], "trusted.spoilt", b"1")
    return "EFFECT"


def archive_open_uring(context):
    """IORING_OP_OPENAT (18) with O_WRONLY | O_TRUNC: the open happens in the ring."""
    import ctypes

    ring = sockets.Ring()
    path = ctypes.create_string_buffer(context["file"].encode())
    at_working_directory = -100
    ring.submit(18, at_working_directory, 0, ctypes.addressof(path), op_flags=os.O_WRONLY | os.O_TRUNC)


def archive_block_device(context):
    """The disk itself, around its file system: a node of one's own for the file's device."""
    device = os.stat(context["file"]).st_dev if os.path.exists(context["file"]) else os.stat("/").st_dev
    if os.major(device) == 0:
        device = os.makedev(1, 1)
    path = tempfile.mktemp()
    os.mknod(path, 0o60600, device)
    try:
        with open(path, "rb") as disk:
            return "EFFECT" if disk.read(512) else None
    finally:
        os.unlink(path)


ATTEMPTS = {}
for each in (
    archive_read, archive_write, archive_append, archive_create, archive_unlink, archive_rename,
    archive_rename_folder, archive_truncate, archive_chmod, archive_chown, archive_link, archive_symlink,
    archive_mkdir, archive_rmdir, archive_utime, archive_setxattr, archive_open_uring, archive_block_device,
):
    ATTEMPTS[each.__name__] = each
