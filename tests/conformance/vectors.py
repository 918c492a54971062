"""Writes vectors.json: rows with their leaves, a tree's root, a signed note."""

import base64
import hashlib
import json
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import canon


def value(kind, name, n):
    long = 5 * n if n % 16 == 0 else 3
    return {
        "bool": n % 2 == 0,
        "i32": -n,
        "i64": n << 33,
        "ts": 1_795_302_000_000_000 + n,
        "str": name + " \u00e9\u4e16" * long,
        "bytes": bytes(range(n % 250)),
        "strings": [name, "", "x" * long],
        "masks": [{"entity": name, "count": n}, {"entity": "", "count": -1}],
    }[kind]


def main():
    rows, leaves = [], []
    for table, columns in canon.SCHEMA.items():
        first = canon.FIRST[table]
        later = (1500, 2000) if len(columns) > first else ()
        for variant in (1, 40, 230, *later):
            values = [
                None if variant == 40 and n % 3 == 0 and name in NULLABLE[table] else value(kind, name, n + variant)
                for n, (name, kind) in enumerate(columns)
            ]
            if variant in later:
                # Rows of the first version, and of one that had a column more.
                present = first + later.index(variant)
                values[present:] = [None] * (len(columns) - present)
            leaf = canon.leaf(table, values)
            leaves.append(leaf)
            plain = [v.hex() if isinstance(v, bytes) else v for v in values]
            rows.append({"table": table, "values": plain, "leaf": leaf.hex()})
    seed = bytes(range(32))
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public = b"\1" + key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    name = "vestibule/node/n1"
    key_id = hashlib.sha256(name.encode() + b"\n" + public).digest()[:4]
    root = canon.root(leaves)
    text = f"{name}/0\n{len(leaves)}\n{base64.b64encode(root).decode()}\nmanifest {'07' * 32}\n"
    signature = base64.b64encode(key_id + key.sign(text.encode())).decode()
    note = f"{text}\n\u2014 {name} {signature}\n"
    vkey = f"{name}+{key_id.hex()}+{base64.b64encode(public).decode()}\n"
    document = {"rows": rows, "root": root.hex(), "seed": seed.hex(), "vkey": vkey, "note": note}
    path = Path(__file__).parent / "vectors.json"
    path.write_text(json.dumps(document, ensure_ascii=False, separators=(",", ":")) + "\n")


# Some of the columns whose value may be absent.
NULLABLE = {
    "events": {"end_ts", "actor_user", "pid", "rows", "approval_ts", "dst_port", "src_ip", "error_code"},
    "sessions": {"closed_at", "authn_mfa", "gid_os", "credential_injected", "dst_ip", "tls_version"},
    "control": {"flows_observed", "flows_denied", "clock_state", "old_digest", "subject"},
    "recordings": {"statement", "parameters", "sealed", "sha256", "codec"},
}

if __name__ == "__main__":
    main()
