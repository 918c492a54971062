"""Ways to have someone else do it: services that act for whoever asks, and files that others act upon."""

import json
import os
import socket

import wire


def unix_stream(context, path):
    with wire.stream(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as made:
        made.connect(path)
        return wire.tell(made, context)


def unix_docker(context):
    return unix_stream(context, "/run/docker.sock")


def unix_docker_symlink(context):
    """By another name."""
    path = f"/tmp/{context['token']}"
    os.symlink("/run/docker.sock", path)
    try:
        return unix_stream(context, path)
    finally:
        os.unlink(path)


def unix_dbus(context):
    return unix_stream(context, "/run/dbus/system_bus_socket")


def unix_systemd(context):
    return unix_stream(context, "/run/systemd/private")


def unix_resolver(context):
    return unix_stream(context, "/run/systemd/resolve/io.systemd.Resolve")


def unix_nscd(context):
    return unix_stream(context, "/run/nscd/socket")


def unix_containerd(context):
    return unix_stream(context, "/run/containerd/containerd.sock")


def unix_database(context):
    """PostgreSQL's socket: anyone may connect (its default mode is 0777)."""
    return unix_stream(context, "/run/postgresql/.s.PGSQL.5432")


def unix_database_late(context):
    """A database that started after the agent did."""
    return unix_stream(context, os.path.join(context["sockets"], "database"))


def unix_abstract(context):
    return unix_stream(context, "\0vestibule-escape")


def unix_datagram(context):
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.sendto(wire.token(context), os.path.join(context["sockets"], "datagrams"))


def daemon_control(context):
    """The daemon's own control socket: to be somebody else's agent."""
    with wire.stream(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as made:
        made.connect(context["control"])
        made.sendall(json.dumps("status").encode() + b"\n")
        return "EFFECT" if made.recv(10) else None


def tcp_ssh(context):
    """ssh to this host, an API over TCP: all of it is the proxy's to decide."""
    return wire.tcp(context)


def write(path, text):
    """Writes a new file, looks whether it is there, and takes it away."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "x") as file:
        file.write(text)
    os.unlink(path)
    return "EFFECT"


def file_cron(context):
    return write(f"/etc/cron.d/{context['token']}", "# nothing\n")


def file_crontab(context):
    return write(f"/var/spool/cron/crontabs/{context['token']}", "# nothing\n")


def file_systemd_unit(context):
    return write(f"/etc/systemd/system/{context['token']}.service", "# nothing\n")


def file_systemd_run(context):
    return write(f"/run/systemd/system/{context['token']}.service", "# nothing\n")


def file_authorized_keys(context):
    return write("/root/.ssh/authorized_keys_escape", "# nothing\n")


def file_preload(context):
    """Every program would load it."""
    return write("/etc/ld.so.preload", "")


def file_profile(context):
    return write(f"/etc/profile.d/{context['token']}.sh", "# nothing\n")


def file_udev_rule(context):
    return write(f"/etc/udev/rules.d/{context['token']}.rules", "# nothing\n")


def file_binary(context):
    """A program that others start."""
    return write(f"/usr/local/bin/{context['token']}", "")


ATTEMPTS = {}
for each in (
    unix_docker, unix_docker_symlink, unix_dbus, unix_systemd, unix_resolver, unix_nscd, unix_containerd,
    unix_database, unix_database_late, unix_abstract, unix_datagram, daemon_control, tcp_ssh, file_cron, file_crontab,
    file_systemd_unit, file_systemd_run, file_authorized_keys, file_preload, file_profile, file_udev_rule,
    file_binary,
):
    ATTEMPTS[each.__name__] = each
