"""An HTTP API of a bank: what came to it is in its log, byte by byte, as lines of JSON.

python http_server.py PORT LOG [CERTIFICATE KEY]
"""

import gzip, hashlib, http.server, json, os, socketserver, ssl, sys, threading, time, urllib.parse

CUSTOMER = {
    "id": 7, "name": "Jo Doe", "ssn": "078-05-1120", "email": "jo.doe@bank.example",
    "cards": [4111111111111111, "5500 0055 5555 5559"], "note": "call 415-555-2671, or write", "salary": 5000,
}


class Api(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def came(self, **more):
        length = int(self.headers.get("Content-Length") or 0)
        body = {"bytes": 0, "sha256": hashlib.sha256()}

        def take(piece):
            body["bytes"] += len(piece)
            body["sha256"].update(piece)

        if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
            while size := int(self.rfile.readline().split(b";")[0], 16):
                take(self.rfile.read(size))
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
        while length:
            piece = self.rfile.read(min(length, 1 << 16))
            take(piece)
            length -= len(piece)
        self.seen = {
            "method": self.command, "target": self.path, "headers": self.headers.items(),
            "bytes": body["bytes"], "sha256": body["sha256"].hexdigest(), **more,
        }
        with LOCK, open(sys.argv[2], "a") as log:
            log.write(json.dumps(self.seen) + "\n")

    def answer(self, status, body, content_type="application/json", **headers):
        self.send_response(status)
        if content_type:
            self.send_header("Content-Type", content_type)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def chunk(self, piece):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    def chunked(self, content_type):
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def any(self):
        self.came()
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        text = json.dumps(CUSTOMER).encode()
        match url.path.split("/")[1:]:
            case ["v1", "customers", _]:
                self.answer(200, text, ETag='"0b1"', Content_MD5="abc", X_Contact="jo.doe@bank.example")
            case ["echo", *_]:
                self.answer(200, json.dumps(self.seen).encode())
            case ["text"]:
                self.answer(200, text, query.get("type", "text/plain"))
            case ["cookie"]:
                self.answer(200, b"{}", Set_Cookie="sid=quillset; Path=/")
            case ["gzip"]:
                self.answer(200, gzip.compress(text), Content_Encoding="gzip")
            case ["bytes"]:
                self.answer(200, bytes(range(256)) * 4, "application/octet-stream")
            case ["range"]:
                self.answer(206, text[10:50], "text/plain", Content_Range=f"bytes 10-49/{len(text)}")
            case ["pieces"]:
                self.chunked("application/json")
                for at in range(len(text)):
                    self.chunk(text[at:at + 1])
                self.wfile.write(b"0\r\nX-Trailer: jo.doe@bank.example\r\n\r\n")
            case ["big"]:
                line = b"a line of a text that is long, with a number 4111111111111111 in it\n"
                piece = line * (65536 // len(line))
                self.chunked(query.get("type", "text/plain"))
                for _ in range(int(query["mb"]) * 16):
                    self.chunk(piece)
                self.wfile.write(b"0\r\n\r\n")
            case ["random"]:
                self.chunked("application/octet-stream")
                for _ in range(int(query["mb"]) * 16):
                    self.chunk(os.urandom(1 << 16))
                self.wfile.write(b"0\r\n\r\n")
            case ["endless"]:
                self.chunked("text/plain")
                while True:
                    self.chunk(b"a line\n")
                    time.sleep(0.05)
            case ["slow"]:
                time.sleep(float(query["s"]))
                self.answer(200, b"{}")
            case ["close"]:
                self.close_connection = True
            case ["last"]:
                self.close_connection = True
                self.answer(200, b"{}", Connection="close")
            case ["status", status]:
                self.answer(int(status), b"{}")
            case _:
                self.answer(404, b'{"error":"not found"}')

    do_GET = do_HEAD = do_OPTIONS = do_POST = do_PUT = do_PATCH = do_DELETE = do_PURGE = any


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        pass


LOCK = threading.Lock()
server = Server(("127.0.0.1", int(sys.argv[1])), Api)
if len(sys.argv) > 3:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3], sys.argv[4])
    context.set_alpn_protocols(["h2", "http/1.1"])
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
