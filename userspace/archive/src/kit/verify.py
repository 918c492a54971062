#!/usr/bin/env python3
"""Checks an evidence kit: verify.py [KIT] [--key FILE]. Exit status 0 where all of it holds, 1 where it does not.

Needs Python 3.8 or later and nothing else; reads, and writes nothing. It checks

- the signature over manifest.json, and every file against it;
- each checkpoint's signature (C2SP signed-note, tlog-checkpoint; Ed25519, RFC 8032, or ECDSA on P-256, FIPS 186-5,
  both written out below);
- that every row of rows/*.jsonl is a leaf under its log's checkpoint (RFC 6962): leaves are computed anew from the rows;
- that each session has as many commands as it declares, in an unbroken count.

The keys in the kit say that all of it fits together. Whose they are, only a copy that you had from elsewhere says:
give that with --key, as often as you like; each log and the manifest must then be signed by one of these.
"""

import base64
import datetime
import hashlib
import json
import pathlib
import struct
import sys

FOUND = []


def bad(name, why):
    """Says what does not hold, and in which file."""
    FOUND.append(name)
    print(f"BAD  {name}: {why}")


# Ed25519 (RFC 8032, 5.1): the curve -x^2 + y^2 = 1 + d x^2 y^2 modulo P, points as (X, Y, Z, T).
P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)


def add(p, q):
    a = (p[1] - p[0]) * (q[1] - q[0]) % P
    b = (p[1] + p[0]) * (q[1] + q[0]) % P
    c = 2 * p[3] * q[3] * D % P
    d = 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(number, point, add=add, sum_=(0, 1, 1, 0)):
    while number:
        if number & 1:
            sum_ = add(sum_, point)
        point, number = add(point, point), number >> 1
    return sum_


def point(encoded):
    """The point that 32 bytes stand for; None where they stand for none."""
    y = int.from_bytes(encoded, "little")
    sign, y = y >> 255, y & (1 << 255) - 1
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if x * x % P != square:
        x = x * ROOT_OF_MINUS_ONE % P
    if x * x % P != square or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


BASE = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def is_signed(key, message, signature):
    if len(key) != 32 or len(signature) != 64:
        return False
    public, r, s = point(key), point(signature[:32]), int.from_bytes(signature[32:], "little")
    if public is None or r is None or s >= ORDER:
        return False
    digest = hashlib.sha512(signature[:32] + key + message).digest()
    left = times(s, BASE)
    right = add(r, times(int.from_bytes(digest, "little") % ORDER, public))
    return (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0


# ECDSA on P-256 (FIPS 186-5, 6.4.2; SP 800-186, 3.2.1.3): y^2 = x^3 - 3 x + b modulo Q, points as (x, y) or None.
Q = 2**256 - 2**224 + 2**192 + 2**96 - 1
P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
P256_B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
P256_BASE = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
# A SubjectPublicKeyInfo of such a key, but for its point (RFC 5480).
P256_HEAD = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")


def p256_add(p, q):
    if p is None or q is None:
        return p or q
    if p[0] == q[0]:
        if (p[1] + q[1]) % Q == 0:
            return None
        slope = (3 * p[0] * p[0] - 3) * pow(2 * p[1], Q - 2, Q) % Q
    else:
        slope = (q[1] - p[1]) * pow(q[0] - p[0], Q - 2, Q) % Q
    x = (slope * slope - p[0] - q[0]) % Q
    return x, (slope * (p[0] - x) - p[1]) % Q


def p256_times(number, p):
    return times(number, p, p256_add, None)


def numbers(der):
    """The two numbers of an ECDSA signature in DER (RFC 3279, 2.2.3); raises ValueError where it has others."""
    found, at = [], 2
    while at < len(der):
        size = der[at + 1]
        found.append(int.from_bytes(der[at + 2 : at + 2 + size], "big"))
        at += 2 + size
    wanted = b""
    for number in found:
        digits = number.to_bytes(number.bit_length() // 8 + 1, "big")
        wanted += bytes([2, len(digits)]) + digits
    if len(found) != 2 or der != bytes([0x30, len(wanted)]) + wanted:
        raise ValueError("no signature in DER")
    return found


def is_signed_p256(key, message, signature):
    x, y = int.from_bytes(key[27:59], "big"), int.from_bytes(key[59:], "big")
    if len(key) != 91 or key[:27] != P256_HEAD or max(x, y) >= Q or (y * y - x**3 + 3 * x - P256_B) % Q != 0:
        return False
    try:
        r, s = numbers(signature)
    except (ValueError, IndexError):
        return False
    if not (0 < r < P256_ORDER and 0 < s < P256_ORDER):
        return False
    digest, inverse = int.from_bytes(hashlib.sha256(message).digest(), "big"), pow(s, P256_ORDER - 2, P256_ORDER)
    left, right = digest * inverse % P256_ORDER, r * inverse % P256_ORDER
    sum_ = p256_add(p256_times(left, P256_BASE), p256_times(right, (x, y)))
    return sum_ is not None and sum_[0] % P256_ORDER == r


class Key:
    """A public key in C2SP's form: name+id+key."""

    def __init__(self, path):
        line = path.read_bytes().decode()
        name, key_id, key = line.rstrip("\n").split("+", 2)
        public = base64.b64decode(key, validate=True)
        self.name, self.public = name, public[1:]
        named = b"" if public[0] == 2 else name.encode() + b"\n" + public[:1]
        self.id = hashlib.sha256(named + self.public).digest()[:4]
        self.line = f"{name}+{self.id.hex()}+{base64.b64encode(public).decode()}\n"
        self.is_signed = {1: is_signed, 2: is_signed_p256}.get(public[0])
        if self.is_signed is None or self.line != line or len(self.public) != {1: 32, 2: 91}[public[0]]:
            raise ValueError("no Ed25519 or P-256 key, or its id is wrong")

    def open(self, note):
        """The text that this key signed in a note (C2SP signed-note); raises where it did not."""
        text, _, lines = note.partition("\n\n")
        text += "\n"
        is_mine = False
        for line in lines.split("\n")[:-1]:
            dash, name, encoded = line.split(" ")
            signature = base64.b64decode(encoded, validate=True)
            if dash != "\u2014" or base64.b64encode(signature).decode() != encoded:
                raise ValueError("a line of it is no signature")
            if name == self.name and signature[:4] == self.id:
                is_mine = is_mine or self.is_signed(self.public, text.encode(), signature[4:])
        if not is_mine or not lines.endswith("\n"):
            raise ValueError(f"not signed by {self.name}")
        return text


# A row's canonical form: its table's tag and every field in order; absent ones at the end, behind the columns that there
# were first, are left out. A field is 00 where it is absent, 01 and its value, or 02 and the SHA-256 of a long value.
def field(kind, value):
    def sized(content):
        return struct.pack(">I", len(content)) + content

    if value is None:
        return b"\0"
    if kind == "bool":
        body = bytes([value])
    elif kind == "i32":
        body = struct.pack(">i", value)
    elif kind == "i64":
        body = struct.pack(">q", value)
    elif kind == "ts":
        since = datetime.datetime.fromisoformat(value.replace("Z", "+00:00")) - EPOCH
        body = struct.pack(">q", since // datetime.timedelta(microseconds=1))
    elif kind == "str":
        body = sized(value.encode())
    elif kind == "bytes":
        body = sized(bytes.fromhex(value))
    elif kind == "strings":
        body = struct.pack(">I", len(value)) + b"".join(sized(item.encode()) for item in value)
    else:
        items = [sized(item["entity"].encode()) + struct.pack(">q", item["count"]) for item in value]
        body = struct.pack(">I", len(value)) + b"".join(items)
    return b"\1" + body if len(body) <= 4096 else b"\2" + hashlib.sha256(body).digest()


EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)


def leaf(schema, row):
    if list(row) != [name for name, _ in schema["columns"]]:
        raise ValueError("a row has other columns than it must")
    last = max((n for n, value in enumerate(row.values(), 1) if value is not None), default=0)
    kept = max(last, schema["first"])
    fields = [field(kind, row[name]) for name, kind in schema["columns"][:kept]]
    canon = b"vestibule/event/v1\0" + bytes([schema["tag"]]) + b"".join(fields)
    return hashlib.sha256(b"\0" + canon).digest()


def root(first, last, leaves, nodes, used):
    """The tree hash (RFC 6962, 2.1) over leaves `first` to before `last`, of those that are given and of nodes."""
    known = nodes.get((first, last)) or (leaves.get(first) if last - first == 1 else None)
    if known:
        used.add((first, last))
        return known
    if last - first < 2:
        raise ValueError(f"it lacks leaf {first}")
    middle = first + (1 << (last - first - 1).bit_length() - 1)
    left = root(first, middle, leaves, nodes, used)
    return hashlib.sha256(b"\1" + left + root(middle, last, leaves, nodes, used)).digest()


def check_manifest(kit):
    """What manifest.json says, once it is seen that it is the signed one."""
    try:
        key = Key(kit / "keys/signer.vkey")
    except (ValueError, OSError, IndexError) as error:
        key = bad("keys/signer.vkey", error)
    content = b"{}"
    try:
        content = (kit / "manifest.json").read_bytes()
        if key:
            said = key.open((kit / "manifest.note").read_bytes().decode()).splitlines()
            is_kit = said[:2] == ["vestibule/attestation/v1", "document evidence-kit"]
            if not is_kit or len(said) != 4:
                bad("manifest.note", "it is about something else")
            elif said[2] != f"sha256 {hashlib.sha256(content).hexdigest()}":
                bad("manifest.json", "it is not the one that was signed")
            else:
                print(f"OK   manifest.json: signed by {key.name}, {said[3]}")
    except (ValueError, OSError, IndexError) as error:
        bad("manifest.note" if content != b"{}" else "manifest.json", error)
    try:
        return key, json.loads(content)
    except ValueError as error:
        bad("manifest.json", error)
        return key, {}


def check_files(kit, manifest):
    listed = {"manifest.json", "manifest.note", "keys/signer.vkey"}
    for entry in manifest.get("files", []):
        listed.add(entry["path"])
        try:
            content = (kit / entry["path"]).read_bytes()
            if len(content) != entry["bytes"] or hashlib.sha256(content).hexdigest() != entry["sha256"]:
                bad(entry["path"], "changed since it was signed")
        except OSError as error:
            bad(entry["path"], error)
    for path in sorted(path for path in kit.rglob("*") if path.is_file()):
        name = path.relative_to(kit).as_posix()
        if name not in listed:
            bad(name, "is in no manifest: added")
    print(f"{'BAD ' if FOUND else 'OK  '} {len(listed)} files")


def check_log(kit, log, rows, schema):
    """That all rows of a log are under its checkpoint, and nothing else is claimed to be."""
    key = Key(kit / log["folder"] / "key.vkey")
    text = key.open((kit / log["folder"] / "checkpoint").read_bytes().decode()).splitlines()
    proof = json.loads((kit / log["folder"] / "proof.json").read_text("utf-8"))
    if text[0] != log["origin"] or int(text[1]) != proof["tree_size"] != 0 or text[2] != log["root"]:
        raise ValueError("checkpoint, proof and manifest do not say the same")
    leaves = {row["seq"]: leaf(schema[table], row) for table, row in rows}
    if len(leaves) != len(rows):
        raise ValueError("a row stands twice")
    nodes = {(first, last): bytes.fromhex(value) for first, last, value in proof["nodes"]}
    used = set()
    found = root(0, proof["tree_size"], leaves, nodes, used)
    if base64.b64encode(found).decode() != text[2] or len(used) != len(leaves) + len(nodes):
        raise ValueError("rows and proof do not give the signed root")
    print(f"OK   {log['origin']}: {len(rows)} rows are under the checkpoint of {text[1]}, signed by {key.name}")
    return key


def check_whole(sessions, rows):
    """That each session has the commands that it declares, and that nothing is of another case."""
    approvals = {row["approval_id"] for row in rows["events"]} - {None}
    for session in sessions:
        counted = sorted(row["session_seq"] for row in rows["events"] if row["session_id"] == session)
        declared = [row["events_declared"] for row in rows["sessions"] if row["session_id"] == session]
        if counted != list(range(1, len(counted) + 1)) or declared not in ([], [len(counted)]):
            raise ValueError(f"session {session} declares {declared} commands, these are there: {counted}")
        state = "" if declared else ", and was open when they were sealed"
        print(f"OK   session {session}: commands 1 to {len(counted)} are all there{state}")
    for table in ("events", "sessions", "recordings"):
        if any(row["session_id"] not in sessions for row in rows[table]):
            raise ValueError(f"{table} has rows of other sessions")
    for row in rows["control"]:
        if not any(known in row["detail"] for known in (*sessions, *approvals)):
            raise ValueError("control has rows that are of no session of the case")


def main():
    words, kept = sys.argv[1:], []
    while "--key" in words:
        at = words.index("--key")
        kept.append(Key(pathlib.Path(words[at + 1])).line)
        del words[at : at + 2]
    kit = pathlib.Path(words[0] if words else pathlib.Path(__file__).parent)
    signer, manifest = check_manifest(kit)
    check_files(kit, manifest)
    keys = [("keys/signer.vkey", signer)]
    try:
        schema = json.loads((kit / "schema.json").read_text("utf-8"))
        rows = {}
        for table in schema:
            lines = (kit / "rows" / f"{table}.jsonl").read_bytes().decode().split("\n")
            rows[table] = [json.loads(line) for line in lines if line]
            if len(rows[table]) != manifest["rows"][table]:
                bad(f"rows/{table}.jsonl", f"{len(rows[table])} rows, {manifest['rows'][table]} were signed")
        proven = 0
        for log in manifest["logs"]:
            own = [
                (table, row)
                for table in schema
                for row in rows[table]
                if f"vestibule/node/{row['node_id']}/{row['log_epoch']}" == log["origin"]
            ]
            keys.append((f"{log['folder']}/key.vkey", check_log(kit, log, own, schema)))
            proven += len(own)
        if proven != sum(map(len, rows.values())):
            raise ValueError("rows are of a log that is not there")
        check_whole(manifest["sessions"], rows)
    except (ValueError, KeyError, TypeError, OSError, IndexError, AttributeError, struct.error) as error:
        bad("rows and proofs", error)
    for name, key in keys:
        if key and kept and key.line not in kept:
            bad(name, "is none of the keys that were given")
    if not kept:
        print("NOTE the keys are the kit's own: compare them with copies from elsewhere (--key)")
    print("FAILED: " + ", ".join(dict.fromkeys(FOUND)) if FOUND else "OK: everything is as it was recorded")
    return 1 if FOUND else 0


if __name__ == "__main__":
    sys.exit(main())
