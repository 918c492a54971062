"""Joining groups: the kernel reports each to the network itself, with octets of the agent's choosing in its address."""

import hashlib
import socket
import struct

DEVICE = "cable"

IP_ADD_MEMBERSHIP, IP_ADD_SOURCE_MEMBERSHIP, MCAST_JOIN_GROUP, MCAST_JOIN_SOURCE_GROUP = 35, 39, 42, 46
IPV6_ADD_MEMBERSHIP, IPV6_JOIN_ANYCAST = 20, 27


def octets(context, count):
    return hashlib.sha256(context["token"].encode()).digest()[:count]


def group4(context):
    return bytes([239, 1]) + octets(context, 2)


def group6(context):
    """Transient, of the whole organization: fourteen octets are free."""
    return bytes([0xFF, 0x18]) + octets(context, 14)


def storage(family, address):
    """struct sockaddr_storage (128 octets)."""
    rest = address if family == socket.AF_INET else bytes(4) + address
    return (struct.pack("=HH", family, 0) + rest).ljust(128, b"\0")


def joined(family, level, name, value, group):
    """Joins, and looks at the kernel's own list of groups."""
    with socket.socket(family, socket.SOCK_DGRAM) as made:
        made.setsockopt(level, name, value)
        return "EFFECT" if is_member(group) else None


def is_member(group):
    if len(group) == 4:
        # proc: the address as a number in the machine's order.
        path, shown = "/proc/net/igmp", f"{struct.unpack('=I', group)[0]:08X}"
    else:
        path, shown = "/proc/net/igmp6", group.hex()
    with open(path) as groups:
        return any(shown in line.split() for line in groups)


def index():
    return socket.if_nametoindex(DEVICE)


def multicast4(context):
    group = group4(context)
    value = group + bytes(4) + struct.pack("=i", index())
    return joined(socket.AF_INET, socket.SOL_IP, IP_ADD_MEMBERSHIP, value, group)


def multicast4_source(context):
    group = group4(context)
    value = group + socket.inet_aton("10.99.9.1") + socket.inet_aton("10.99.9.2")
    return joined(socket.AF_INET, socket.SOL_IP, IP_ADD_SOURCE_MEMBERSHIP, value, group)


def multicast4_group(context):
    group = group4(context)
    value = struct.pack("=Ixxxx", index()) + storage(socket.AF_INET, group)
    return joined(socket.AF_INET, socket.SOL_IP, MCAST_JOIN_GROUP, value, group)


def multicast4_by_six(context):
    """IPv4's option of a socket of IPv6."""
    group = group4(context)
    value = group + bytes(4) + struct.pack("=i", index())
    return joined(socket.AF_INET6, socket.SOL_IP, IP_ADD_MEMBERSHIP, value, group)


def multicast6(context):
    group = group6(context)
    value = group + struct.pack("=i", index())
    return joined(socket.AF_INET6, socket.IPPROTO_IPV6, IPV6_ADD_MEMBERSHIP, value, group)


def multicast6_source(context):
    group = group6(context)
    source = socket.inet_pton(socket.AF_INET6, context["remote6"])
    value = struct.pack("=Ixxxx", index()) + storage(socket.AF_INET6, group) + storage(socket.AF_INET6, source)
    return joined(socket.AF_INET6, socket.IPPROTO_IPV6, MCAST_JOIN_SOURCE_GROUP, value, group)


def multicast6_large(context):
    """A value of more than a page, of which hooks are shown the beginning alone."""
    group = group6(context)
    value = (struct.pack("=Ixxxx", index()) + storage(socket.AF_INET6, group)).ljust(8192, b"\0")
    return joined(socket.AF_INET6, socket.IPPROTO_IPV6, MCAST_JOIN_GROUP, value, group)


def anycast6(context):
    """An address of one's own, whose group of solicited nodes is reported."""
    address = bytes([0xFD, 0x99, 0, 9]) + bytes(4) + octets(context, 8)
    group = bytes([0xFF, 2]) + bytes(9) + bytes([1, 0xFF]) + address[13:]
    value = address + struct.pack("=i", index())
    return joined(socket.AF_INET6, socket.IPPROTO_IPV6, IPV6_JOIN_ANYCAST, value, group)


ATTEMPTS = {}
for each in (
    multicast4, multicast4_source, multicast4_group, multicast4_by_six, multicast6, multicast6_source, multicast6_large,
    anycast6,
):
    ATTEMPTS[each.__name__] = each
