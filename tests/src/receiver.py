# A receiver of webhooks that does what docs/operator.md tells receivers to, and every other time not what it should.
#
# receiver.py serve PORT SECRET LOG   answers 401 to what is not ours; notes what it took, a JSON object a line
# receiver.py judge SECRET            says of each {"headers", "body", "later"} a line whether it is ours, so much later
import base64, hashlib, hmac, time

def is_ours(secret: str, headers, body: bytes) -> bool:
    key = base64.b64decode(secret[6:]) if secret.startswith("whsec_") else secret.encode()
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = b"v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
    is_new = abs(time.time() - int(headers["webhook-timestamp"])) < 300
    given = headers["webhook-signature"].split(" ")
    return is_new and any(hmac.compare_digest(wanted, one.encode()) for one in given)

import http.server, json, os, sys

def judge(secret):
    now = time.time
    for line in sys.stdin:
        asked = json.loads(line)
        time.time = lambda: now() + asked["later"]
        print(is_ours(secret, asked["headers"], asked["body"].encode()), flush=True)

def serve(port, secret, log):
    class Receiver(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        asked = 0

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if not is_ours(secret, self.headers, body):
                return self.say(401)
            Receiver.asked += 1
            how = Receiver.asked % 4
            if how == 1:
                return self.say(503)  # It has not taken it.
            headers = {name: value for name, value in self.headers.items() if name.startswith("webhook-")}
            with open(log, "a") as file:
                file.write(json.dumps({"headers": headers, "body": body.decode(), "taken": how != 3}) + "\n")
                file.flush()
                os.fsync(file.fileno())
            if how == 3:
                self.close_connection = True  # It has taken it, and can't say so.
                return self.connection.close()
            self.say(200)

        def say(self, status):
            self.send_response(status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    http.server.ThreadingHTTPServer(("127.0.0.1", port), Receiver).serve_forever()

if __name__ == "__main__":
    if sys.argv[1] == "judge":
        judge(sys.argv[2])
    else:
        serve(int(sys.argv[2]), sys.argv[3], sys.argv[4])
