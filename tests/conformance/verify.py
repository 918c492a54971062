"""Verifies an archive: verify.py ARCHIVE [KEY]. Exit status 1 if anything is not as sealed."""

import base64
import hashlib
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

import canon


def rows(table, path):
    """Sequence number and leaf of every row of a Parquet file, whoever wrote it."""
    file = pq.ParquetFile(path)
    there = set(file.schema_arrow.names)
    data = file.read(columns=[name for name, _ in canon.SCHEMA[table] if name in there])
    columns = []
    for number, (name, kind) in enumerate(canon.SCHEMA[table]):
        if name not in there and number >= canon.FIRST[table]:
            columns.append([None] * data.num_rows)
            continue
        column = data.column(name)
        columns.append((column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()) if kind == "ts" else column).to_pylist())
    return [(row[2], canon.leaf(table, row)) for row in zip(*columns)]


def all_rows(archive):
    found = {}
    for path in sorted(archive.glob("*/v1/table=*/**/*.parquet")):
        table = next(part[6:] for part in path.parts if part.startswith("table="))
        for seq, leaf in rows(table, path):
            if seq in found:
                raise SystemExit(f"FAILED: row {seq} stands twice, in {path}")
            found[seq] = leaf
    return found


def leaves(archive):
    """All leaves in order; ends the program if any is missing."""
    found = all_rows(archive)
    if sorted(found) != list(range(len(found))):
        raise SystemExit("FAILED: sequence numbers have gaps")
    return [found[seq] for seq in range(len(found))]


def checkpoint(note):
    """Origin, size, root and manifest digest in a signed note."""
    origin, size, root, manifest = note.split("\n\n")[0].split("\n")
    return origin, int(size), base64.b64decode(root), bytes.fromhex(manifest.removeprefix("manifest "))


def check_signature(note, line):
    try:
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        print("signature: NOT CHECKED, python package cryptography is absent")
        return
    # The newest key stands last.
    name, key_id, key = line.strip().split("\n")[-1].split("+", 2)
    key = base64.b64decode(key)
    text, signature = note.split("\n\n")
    text += "\n"
    _, signer, signature = signature.strip().split(" ")
    signature = base64.b64decode(signature)
    named = key[1:] if key[0] == 2 else name.encode() + b"\n" + key
    expected = hashlib.sha256(named).digest()[:4]
    assert signer == name and key[0] in (1, 2) and signature[:4] == expected == bytes.fromhex(key_id)
    if key[0] == 2:
        # From a token without Ed25519, as a TPM.
        public = serialization.load_der_public_key(key[1:])
        public.verify(signature[4:], text.encode(), ec.ECDSA(hashes.SHA256()))
    else:
        Ed25519PublicKey.from_public_bytes(key[1:]).verify(signature[4:], text.encode())
    print("signature: valid")


def put_together(archive):
    """The files whose rows are in others now; that all rows are there once is proven by the root."""
    lists = [json.loads(path.read_text()) for path in archive.glob("*/v1/table=*/dt=*/_compacted.json")]
    return {entry["path"] for one in lists for entry in one["replaces"]}


def check_manifests(archive, log, digest, size):
    due = digest
    gone = put_together(archive)
    for path in gone:
        assert not (archive / path).exists(), f"{path} was put together with others and is here again"
    for path in sorted((log / "manifest").glob("*.json"), reverse=True):
        content = path.read_bytes()
        assert hashlib.sha256(content).digest() == due, f"{path} is not the sealed one"
        manifest = json.loads(content)
        assert manifest["tree_size"] == size, f"{path} does not end at {size}"
        size, due = manifest["first_seq"], bytes.fromhex(manifest["previous"])
        for entry in manifest["files"]:
            if entry["table"] is not None and entry["path"] not in gone:
                found = hashlib.sha256((archive / entry["path"]).read_bytes()).hexdigest()
                assert found == entry["sha256"], f"{entry['path']} changed"
    assert due == bytes(32) and size == 0, "a manifest is missing"


def check_tiles(log, all_leaves):
    level, row = 0, all_leaves
    while row:
        for index in range(0, len(row), 256):
            tile = row[index : index + 256]
            number = index // 256
            name = f"{number % 1000:03}"
            while number >= 1000:
                number //= 1000
                name = f"x{number % 1000:03}/{name}"
            path = log / "tile" / str(level) / (name if len(tile) == 256 else f"{name}.p/{len(tile)}")
            if level > 0 or len(tile) < 256:
                assert path.read_bytes() == b"".join(tile), f"{path} is not what the rows give"
        row = [canon.root(row[i : i + 256]) for i in range(0, len(row) - 255, 256)]
        level += 1


def check_history(log, origin, all_leaves):
    """Every checkpoint that was signed is of the first rows of the newest one."""
    sizes = [json.loads(path.read_text())["tree_size"] for path in (log / "manifest").glob("*.json")]
    for size in sizes:
        kept = checkpoint((log / "checkpoints" / f"{size:020}").read_text())
        assert kept[:3] == (origin, size, canon.root(all_leaves[:size])), f"checkpoint of {size} is of other rows"
    assert len(sizes) == len(list((log / "checkpoints").iterdir())), "a checkpoint is of no step"


def main():
    archive = Path(sys.argv[1])
    for path in archive.glob("std7y/v1/log/**/checkpoint"):
        log = path.parent
        note = path.read_text()
        origin, size, root, manifest = checkpoint(note)
        key = Path(sys.argv[2]) if len(sys.argv) > 2 else log / "key.vkey"
        check_signature(note, key.read_text())
        check_manifests(archive, log, manifest, size)
        all_leaves = leaves(archive)
        assert len(all_leaves) == size, f"{len(all_leaves)} rows, {size} are sealed"
        assert canon.root(all_leaves) == root, "rows do not give the signed root"
        check_tiles(log, all_leaves)
        check_history(log, origin, all_leaves)
        print(f"{origin}: {size} rows, root {base64.b64encode(root).decode()}: OK")


if __name__ == "__main__":
    try:
        main()
    except AssertionError as error:
        sys.exit(f"FAILED: {error}")
