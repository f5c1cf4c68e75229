"""Google Cloud Storage's XML interface, as far as an artifact store uses it, in memory and without accounts.

There is no emulator of it: those that exist speak the JSON interface, which the client library does not.
https://cloud.google.com/storage/docs/xml-api/reference-methods
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

MODIFIED = "Mon, 01 Jan 2024 00:00:00 GMT"
MODIFIED_XML = "2024-01-01T00:00:00.000Z"
PAGE = 100


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.buckets: defaultdict[str, dict[str, bytes]] = defaultdict(dict)
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.numbers = count(1)
        self.lock = threading.Lock()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _place(self) -> tuple[dict[str, bytes], str, dict[str, str]]:
        """The bucket's objects, the object's name, and what the query says."""
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        bucket, _, name = unquote(parts.path).lstrip("/").partition("/")
        return self.server.buckets[bucket], name, query

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.get("length", str(len(body))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_PUT(self) -> None:
        objects, name, query = self._place()
        body = self._body()
        with self.server.lock:
            if "partNumber" in query:
                self.server.uploads[query["uploadId"]][int(query["partNumber"])] = body
            else:
                objects[name] = body
        self._answer(200, ETag=_tag(body), x_goog_generation="1")

    def do_POST(self) -> None:
        objects, name, query = self._place()
        self._body()
        with self.server.lock:
            if "uploads" in query:
                upload = f"upload{next(self.server.numbers)}"
                self.server.uploads[upload] = {}
                found = f"<UploadId>{upload}</UploadId>"
            else:
                parts = self.server.uploads.pop(query["uploadId"])
                whole = objects[name] = b"".join(parts[number] for number in sorted(parts))
                found = f"<ETag>{escape(_tag(whole))}</ETag>"
        kind = "InitiateMultipartUploadResult" if "uploads" in query else "CompleteMultipartUploadResult"
        self._answer(200, f"<{kind}>{found}</{kind}>".encode(), x_goog_generation="1")

    def do_DELETE(self) -> None:
        objects, name, query = self._place()
        with self.server.lock:
            if "uploadId" in query:
                self.server.uploads.pop(query["uploadId"], None)
                found = True
            else:
                found = objects.pop(name, None) is not None
        self._answer(204) if found else self._missing()

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        objects, name, query = self._place()
        if not name:
            self._answer(200, self._list(objects, query))
            return
        with self.server.lock:
            content = objects.get(name)
        if content is None:
            self._missing()
            return
        known = {"ETag": _tag(content), "Last_Modified": MODIFIED, "x_goog_generation": "1"}
        if wanted := self.headers.get("Range"):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, stop = int(first), min(int(last) + 1 if last else len(content), len(content))
            span = {"Content_Range": f"bytes {start}-{stop - 1}/{len(content)}"}
            self._answer(206, content[start:stop], **known, **span)
        else:
            self._answer(200, content, **known)

    def _missing(self) -> None:
        self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")

    def _list(self, objects: dict[str, bytes], query: dict[str, str]) -> bytes:
        """One page of names, in order, the folders folded where there is a delimiter."""
        prefix, after = query.get("prefix", ""), query.get("continuation-token", "")
        entries: dict[str, str] = {}
        with self.server.lock:
            for name in sorted(objects):
                below = name[len(prefix) :]
                if not name.startswith(prefix):
                    continue
                folder, slash, _ = below.partition("/")
                if query.get("delimiter") and slash:
                    folded = f"{prefix}{folder}/"
                    entries[folded] = f"<CommonPrefixes><Prefix>{escape(folded)}</Prefix></CommonPrefixes>"
                else:
                    size, tag = len(objects[name]), escape(_tag(objects[name]))
                    entries[name] = (
                        f"<Contents><Key>{escape(name)}</Key><LastModified>{MODIFIED_XML}</LastModified>"
                        f"<ETag>{tag}</ETag><Size>{size}</Size></Contents>"
                    )
        left = [name for name in sorted(entries) if name > after]
        page = "".join(entries[name] for name in left[:PAGE])
        more = f"<NextContinuationToken>{escape(left[PAGE - 1])}</NextContinuationToken>" if len(left) > PAGE else ""
        return f"<ListBucketResult>{page}{more}</ListBucketResult>".encode()


def _tag(content: bytes) -> str:
    return f'"{hashlib.sha256(content).hexdigest()[:32]}"'


@contextmanager
def gcs_server() -> Iterator[str]:
    """The address of a server that has every bucket."""
    with _Server() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def settings(address: str) -> dict[str, str]:
    """The environment in which a client finds the server, and asks for no token."""
    account: dict[str, Any] = {"gcs_base_url": address, "disable_oauth": True}
    account |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    return {"GOOGLE_BASE_URL": address, "GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account)}
