# A receiver of OpenTelemetry logs (OTLP/HTTP) that reads requests by opentelemetry's own definition.
#
# otlp.py PORT LOG   notes what it took, a JSON object a record; while LOG.refuse is there it answers 503
import http.server, json, os, sys

from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if os.path.exists(log + ".refuse"):
            return self.say(503, b"{}")
        request = logs_service_pb2.ExportLogsServiceRequest()
        try:
            assert self.path == "/v1/logs" and self.headers["content-type"] == "application/json"
            json_format.Parse(body, request)
        except Exception as error:
            print(repr(error), file=sys.stderr, flush=True)
            return self.say(400, b"{}")
        with open(log, "a") as file:
            for resource in request.resource_logs:
                whence = {pair.key: pair.value.string_value for pair in resource.resource.attributes}
                for scope in resource.scope_logs:
                    for record in scope.log_records:
                        file.write(json.dumps(self.read(record) | {"whence": whence}) + "\n")
        self.say(200, json_format.MessageToJson(logs_service_pb2.ExportLogsServiceResponse()).encode())

    def read(self, record):
        values = {pair.key: pair.value for pair in record.attributes}
        return {
            "time_ns": record.time_unix_nano,
            "severity": record.severity_number,
            "body": record.body.string_value,
            "seq": values["vestibule.seq"].int_value,
            "table": values["vestibule.table"].string_value,
        }

    def say(self, code, body):
        self.send_response(code)
        self.send_header("content-length", str(len(body)))
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


log = sys.argv[2]
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
