"""A receiver of webhooks: a real HTTP server on loopback that answers as its paths say."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver:
    """Answers as the path says: a status; `/later-503` that status once and then 200; `/slow`, `/endless`, `/away`."""

    def __init__(self):
        self.requests = []
        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.host = f"127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def url(self, path):
        return f"http://{self.host}/{path}"

    def of(self, path):
        """The bodies and headers that a path was sent."""
        return [(headers, body) for at, headers, body in list(self.requests) if at == "/" + path]

    def stop(self):
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(receiver):  # `self` is the handler below
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                seen = len(receiver.of(self.path[1:]))
                receiver.requests.append((self.path, dict(self.headers), body))
                what = self.path[1:]
                if what == "slow":
                    receiver.released.wait(30)
                    return
                if what.startswith("later-"):
                    what = what.removeprefix("later-") if seen == 0 else "200"
                self.send_response({"endless": 200, "away": 302}.get(what) or int(what))
                if what == "away":
                    self.send_header("Location", receiver.url("inside"))
                self.end_headers()
                while what == "endless" and not receiver.released.is_set():
                    self.wfile.write(b"x" * 65536)

            def handle(self):
                try:
                    super().handle()
                except OSError:
                    self.close_connection = True  # the client went away, as it should

            def log_message(self, *arguments):
                return

        return Handler


def eventually(check, within_s=30):
    """Wait until *check* holds."""
    deadline = time.monotonic() + within_s
    while not check():
        assert time.monotonic() < deadline, f"it did not come true within {within_s} s"
        time.sleep(0.02)
