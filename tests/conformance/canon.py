"""Canonical rows and Merkle roots, from their description. Standard library only."""

import hashlib
import json
import struct
from pathlib import Path

PREFIX = b"vestibule/event/v1\0"
FIELD_BYTES_MAX = 4096
TAGS = {"events": 1, "sessions": 2, "control": 3, "recordings": 4}
# Columns of the first version: later ones are left out where they are absent at the end.
FIRST = {"events": 78, "sessions": 59, "control": 23, "recordings": 19}
SCHEMA = json.loads((Path(__file__).parent / "schema.json").read_text())


def _bytes(value):
    return struct.pack(">I", len(value)) + value


def _field(kind, value):
    if value is None:
        return b"\0"
    if kind == "bool":
        body = bytes([value])
    elif kind == "i32":
        body = struct.pack(">i", value)
    elif kind in ("i64", "ts"):
        body = struct.pack(">q", value)
    elif kind == "str":
        body = _bytes(value.encode())
    elif kind == "bytes":
        body = _bytes(value)
    elif kind == "strings":
        body = struct.pack(">I", len(value)) + b"".join(_bytes(item.encode()) for item in value)
    elif kind == "masks":
        body = struct.pack(">I", len(value))
        for item in value:
            body += _bytes(item["entity"].encode()) + struct.pack(">q", item["count"])
    else:
        raise ValueError(kind)
    if len(body) > FIELD_BYTES_MAX:
        return b"\2" + hashlib.sha256(body).digest()
    return b"\1" + body


def leaf(table, values):
    """The leaf hash of a row, its values in canonical order."""
    kinds = [kind for _, kind in SCHEMA[table]]
    if len(kinds) != len(values):
        raise ValueError("a row has another number of columns")
    last = max((n for n, value in enumerate(values, 1) if value is not None), default=0)
    kept = max(last, FIRST[table])
    canon = bytes([TAGS[table]]) + b"".join(map(_field, kinds[:kept], values[:kept]))
    return hashlib.sha256(b"\0" + PREFIX + canon).digest()


def root(leaves):
    """The Merkle tree hash of RFC 6962, section 2.1, over leaf hashes."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    stack = []
    for index, node in enumerate(leaves):
        while index & 1:
            node = hashlib.sha256(b"\1" + stack.pop() + node).digest()
            index >>= 1
        stack.append(node)
    node = stack.pop()
    while stack:
        node = hashlib.sha256(b"\1" + stack.pop() + node).digest()
    return node
