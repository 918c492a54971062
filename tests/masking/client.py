"""Speaks PostgreSQL's protocol from bare sockets and writes down every byte the server says.

client.py REQUESTS ANSWERS, both JSON. A request is a connection of its own:
{"name", "user", "by", "messages"}; `by` says how each message goes up: `simple` (one Query), `extended`
(Parse, Bind, Execute, Sync: nothing is described), `binary` (the same, results in binary), `described` (that
with a Describe), `call` (a FunctionCall, where it begins with CALLING; else as `simple`), `oracle` (a
template that is asked for each place and digit, `{known}`, `{place}` and `{digit}` filled in; what
answers one digit unlike the others is that digit). An answer is {"name", "said", "recovered"}; `said` is
a list of [type, payload, cells], in Latin-1 so that no byte is lost.
"""

import base64
import hashlib
import hmac
import json
import os
import socket
import struct
import sys

# Places of a social security number that its mask hides: the digits of 078-05-….
PLACES = (1, 2, 3, 5, 6)
# `idle` ends when nothing more comes for this long; also what is sent on its own (notifications).
LINGER_S = 0.3


class Connection:
    def __init__(self, user):
        address = (os.environ["PGHOST"], int(os.environ["PGPORT"]))
        self.socket = socket.create_connection(address, 30)
        self.file = self.socket.makefile("rb")
        self.said = []
        self.columns = None
        startup = struct.pack("!I", 196608)
        for word in ("user", user, "database", os.environ["PGDATABASE"], "client_encoding", "UTF8"):
            startup += word.encode() + b"\0"
        startup += b"\0"
        self.socket.sendall(struct.pack("!I", len(startup) + 4) + startup)
        self.log_in(os.environ["PGPASSWORD"])
        self.until_ready()

    def send(self, kind, payload=b""):
        self.socket.sendall(kind + struct.pack("!I", len(payload) + 4) + payload)

    def receive(self):
        head = self.file.read(5)
        if len(head) < 5:
            return None, b""
        kind, length = head[:1], struct.unpack("!I", head[1:])[0]
        payload = self.file.read(length - 4)
        cells = []
        if kind == b"D":
            cells = row(payload)
        elif kind in b"EN":
            cells = [field[1:] for field in payload.split(b"\0") if field[:1] in b"MDHWqnctsd"]
        elif kind == b"T":
            cells = names(payload)
        text = [None if cell is None else cell.decode("latin-1") for cell in cells]
        self.said.append([kind.decode(), payload.decode("latin-1"), text])
        return kind, payload

    def log_in(self, password):
        nonce = base64.b64encode(os.urandom(18)).decode()
        first = "n=,r=" + nonce
        key = server_first = None
        while True:
            kind, payload = self.receive()
            if kind == b"E" or kind is None:
                raise OSError(payload.decode("latin-1"))
            code = struct.unpack("!I", payload[:4])[0]
            if code == 0:
                return
            if code == 10:
                data = b"SCRAM-SHA-256\0" + struct.pack("!I", len(first) + 3) + b"n,," + first.encode()
                self.send(b"p", data)
            elif code == 11:
                server_first = payload[4:].decode()
                parts = dict(part.split("=", 1) for part in server_first.split(","))
                salt, count = base64.b64decode(parts["s"]), int(parts["i"])
                salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, count)
                key = hmac.digest(salted, b"Client Key", "sha256")
                final = "c=biws,r=" + parts["r"]
                signed = ",".join((first, server_first, final)).encode()
                signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
                proof = bytes(a ^ b for a, b in zip(key, signature))
                self.send(b"p", (final + ",p=" + base64.b64encode(proof).decode()).encode())

    def until_ready(self):
        while True:
            kind, _ = self.receive()
            if kind in (b"Z", None):
                return kind is not None
            if kind == b"G":
                self.send(b"f", b"nothing to copy\0")

    def call(self, text):
        """A FunctionCall, results in binary: the function's name and its arguments, binary and in hexadecimal."""
        name, *values = text.split()
        before = len(self.said)
        self.send(b"Q", b"SELECT min(oid) FROM pg_catalog.pg_proc WHERE proname = '%s'\0" % name.encode())
        self.until_ready()
        found = [cells for kind, _, cells in self.said[before:] if kind == "D"]
        if not found:
            return True
        values = [bytes.fromhex(value) for value in values]
        body = struct.pack("!IHHH", int(found[0][0]), 1, 1, len(values))
        for value in values:
            body += struct.pack("!I", len(value)) + value
        self.send(b"F", body + struct.pack("!H", 1))
        return self.until_ready()

    def run(self, by, text):
        if by == "call" and text.startswith("CALLING "):
            return self.call(text[text.index("*/") + 2 :])
        data = text.encode()
        if by in ("simple", "call"):
            self.send(b"Q", data + b"\0")
        else:
            formats = b"\0\0" if by == "extended" else struct.pack("!HH", 1, 1)
            self.send(b"P", b"\0" + data + b"\0\0\0")
            self.send(b"B", b"\0\0" + b"\0\0" + b"\0\0" + formats)
            if by == "described":
                self.send(b"D", b"P\0")
            self.send(b"E", b"\0" + b"\0\0\0\0")
            self.send(b"S")
        return self.until_ready()

    def linger(self):
        self.socket.settimeout(LINGER_S)
        try:
            while self.receive()[0] is not None:
                pass
        except (TimeoutError, OSError):
            pass

    def close(self):
        self.file.close()
        self.socket.close()


def row(payload):
    count, at, cells = struct.unpack("!H", payload[:2])[0], 2, []
    for _ in range(count):
        length = struct.unpack("!i", payload[at : at + 4])[0]
        at += 4
        cells.append(None if length < 0 else payload[at : at + length])
        at += max(length, 0)
    return cells


def names(payload):
    count, at, found = struct.unpack("!H", payload[:2])[0], 2, []
    for _ in range(count):
        end = payload.index(b"\0", at)
        found.append(payload[at:end])
        at = end + 19
    return found


def told(connection, template, values):
    """What came back, without what differs anyway: the template's own digits in texts are kept apart."""
    before = len(connection.said)
    text = template
    for name, value in values.items():
        text = text.replace("{" + name + "}", value)
    connection.run("simple", text)
    said = connection.said[before:]
    rows = [cells for kind, _, cells in said if kind == "D"]
    rows += [payload for kind, payload, _ in said if kind == "C"]
    codes = [payload.split("\0C")[1][:5] for kind, payload, _ in said if kind == "E" and "\0C" in payload]
    return json.dumps([rows, codes])


def recover(connection, template):
    """The digits that the answers tell apart: one answered unlike the other nine, or the place at which
    a row of equal answers ends."""
    known = ""
    for place in PLACES:
        # Dashes are no secret.
        if place == 5:
            known += "-"
        heard = []
        for digit in range(10):
            values = {"known": known, "place": str(place), "digit": str(digit)}
            heard.append(told(connection, template, values))
        alone = [d for d in range(10) if heard.count(heard[d]) == 1]
        steps = [d for d in range(1, 10) if heard[d] != heard[d - 1]]
        if len(alone) == 1 and heard.count(heard[(alone[0] + 1) % 10]) == 9:
            known += str(alone[0])
        elif len(steps) == 1:
            known += str(steps[0] - 1)
        else:
            return known
    return known


def answer(request):
    said, recovered = [], ""
    try:
        connection = Connection(request["user"])
        said = connection.said
        # What a login says is the same for all.
        del said[:]
        for message in request["messages"]:
            if request["by"] == "oracle":
                connection.said = []
                recovered = recover(connection, message)
                said.extend(connection.said[-40:])
            elif not connection.run(request["by"], message):
                break
        if request.get("linger"):
            connection.linger()
        connection.close()
    except OSError as error:
        said.append(["!", str(error), []])
    return {"name": request["name"], "said": said, "recovered": recovered}


def main():
    with open(sys.argv[1]) as file:
        requests = json.load(file)
    answers = [answer(request) for request in requests]
    with open(sys.argv[2], "w") as file:
        json.dump(answers, file)
    os.chmod(sys.argv[2], 0o666)


main()
