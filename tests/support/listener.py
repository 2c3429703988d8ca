"""A server that takes what SQS, SNS, EventBridge and S3 take, and keeps it for the test."""

import collections
import http.server
import json
import threading
import time
import urllib.parse

PATIENCE_S = 60


def account_arn(service, name):
    return f"arn:aws:{service}:us-east-1:000000000000:{name}"


class Letter:
    """What arrived: the text, its attributes ({name: value}), and the request around it."""

    def __init__(self, arn, body, attributes, request):
        self.arn, self.body, self.attributes, self.request = arn, body, attributes, request

    def json(self):
        return json.loads(self.body)


class Listener:
    """Listens on loopback; letters are kept by the ARN (or the bucket's path) that they were sent to."""

    def __init__(self):
        self.letters = collections.defaultdict(list)
        self.refusals = 0
        # While set, everything is refused with 503.
        self.is_down = threading.Event()
        self.changed = threading.Condition()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if outer.is_down.is_set():
                    outer.refusals += 1
                    return self.answer(503, b"down")
                try:
                    self.answer(200, outer.take(self, body))
                except Exception as error:
                    self.answer(400, repr(error).encode())

            do_PUT = do_POST

            def answer(self, status, body):
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 256

            def handle_error(self, *_):
                """A platform that is killed leaves connections half-way."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, request, body):
        target = request.headers.get("X-Amz-Target")
        if target == "AmazonSQS.SendMessage":
            message = json.loads(body)
            account, queue = urllib.parse.urlsplit(message["QueueUrl"]).path.split("/")[1:]
            assert account == "000000000000"
            attributes = {
                name: (value["DataType"], value["StringValue"])
                for name, value in message.get("MessageAttributes", {}).items()
            }
            self.keep(account_arn("sqs", queue), message["MessageBody"], attributes, request)
            return b'{"MessageId": "1"}'
        if target == "AWSEvents.PutEvents":
            (entry,) = json.loads(body)["Entries"]
            self.keep(account_arn("events", f"event-bus/{entry['EventBusName']}"), entry["Detail"], entry, request)
            return b'{"FailedEntryCount": 0, "Entries": [{"EventId": "1"}]}'
        if request.command == "PUT":
            self.keep(request.path, body.decode(), {}, request)
            return b""
        form = dict(urllib.parse.parse_qsl(body.decode(), strict_parsing=True))
        assert form["Action"] == "Publish" and form["Version"] == "2010-03-31", form
        attributes = {}
        for number in range(1, 4):
            if name := form.get(f"MessageAttributes.entry.{number}.Name"):
                value = f"MessageAttributes.entry.{number}.Value"
                attributes[name] = (form[f"{value}.DataType"], form[f"{value}.StringValue"])
        self.keep(form["TopicArn"], form["Message"], attributes, request)
        return b"<PublishResponse/>"

    def keep(self, arn, body, attributes, request):
        with self.changed:
            self.letters[arn].append(Letter(arn, body, attributes, request))
            self.changed.notify_all()

    def wait(self, arn, count=1):
        """The letters to that ARN, once there are so many."""
        deadline = time.monotonic() + PATIENCE_S
        with self.changed:
            while len(self.letters[arn]) < count:
                left = deadline - time.monotonic()
                assert left > 0, f"{len(self.letters[arn])} of {count} letters to {arn}; {dict(self.letters)}"
                self.changed.wait(left)
            return list(self.letters[arn])

    def letter(self, arn):
        """The one letter to that ARN."""
        (letter,) = self.wait(arn)
        return letter

    def record(self, arn):
        return self.letter(arn).json()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
