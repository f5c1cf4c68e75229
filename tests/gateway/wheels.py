"""Wheels of a few bytes, and a folder or an index that holds them."""

import base64
import hashlib
import http.server
import threading
import zipfile
from contextlib import contextmanager
from pathlib import Path


def write_wheel(folder: Path, name: str, version: str, **files: str) -> Path:
    """A wheel of one module `<name>.py`, and of *files* beside it, by name."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    content = {f"{name}.py": f"VERSION = {version!r}\n", **files}
    information = {
        f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{name}-{version}.dist-info/RECORD"
    lines = [f"{each},{_digest(text)},{len(text)}" for each, text in (content | information).items()]
    with zipfile.ZipFile(path, "w") as archive:
        for each, text in (content | information | {record: "\n".join([*lines, f"{record},,", ""])}).items():
            archive.writestr(each, text)
    return path


def _digest(text: str) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


@contextmanager
def index(folder: Path, credentials: str):
    """A package index of the wheels in *folder* that wants `user:password`; gives its address without them."""
    expected = "Basic " + base64.b64encode(credentials.encode()).decode()

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            wheels = {each.name: each.read_bytes() for each in folder.glob("*.whl")}
            name = self.path.strip("/").rpartition("/")[2]
            links = [f'<a href="/files/{each}">{each}</a>' for each in wheels if each.startswith(f"{name}-")]
            if self.headers.get("Authorization") != expected:
                self.send_response(401)
                body = b""
            elif name in wheels:
                self.send_response(200)
                body = wheels[name]
            else:
                self.send_response(200 if links else 404)
                self.send_header("Content-Type", "text/html")
                body = "".join(links).encode()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}/simple"
        finally:
            server.shutdown()
            thread.join()
