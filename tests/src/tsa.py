# A time-stamp authority (RFC 3161): OpenSSL's, over HTTP.
#
# tsa.py PORT FOLDER   answers by FOLDER/tsa.cnf; 503 while FOLDER/closed is there
import http.server, os, subprocess, sys, tempfile

port, folder = int(sys.argv[1]), sys.argv[2]

class Authority(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        query = self.rfile.read(int(self.headers["content-length"]))
        is_query = self.headers["content-type"] == "application/timestamp-query"
        if os.path.exists(os.path.join(folder, "closed")) or not is_query:
            self.send_error(503)
            return
        with tempfile.NamedTemporaryFile() as asked:
            asked.write(query)
            asked.flush()
            reply = subprocess.run(
                ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", asked.name],
                cwd=folder, stdout=subprocess.PIPE, check=True).stdout
        self.send_response(200)
        self.send_header("content-type", "application/timestamp-reply")
        self.send_header("content-length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_):
        pass

http.server.HTTPServer(("127.0.0.1", port), Authority).serve_forever()
