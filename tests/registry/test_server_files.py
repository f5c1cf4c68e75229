"""Files on their way through a server: cut off, at once, too large for the disk, and larger than memory."""

from __future__ import annotations

import http.client
import os
import socket
import sys
import threading
from pathlib import Path

import pytest

from tests.compat.servers import REPOSITORY, answers, listening, running, until
from tests.registry.proxying import PREFIX, Proxy, error_of, until_true
from tests.registry.serving import served

LARGE = 200 << 20
MOST_GROWTH_KIB = 60 << 10


@pytest.fixture
def proxy(sqlite_registry):
    """A server on an empty registry."""
    with served(sqlite_registry) as address:
        yield Proxy(address, sqlite_registry, Path(sqlite_registry.artifacts.root))


def test_tf151_cut_upload_leaves_nothing(proxy):
    """A client that goes away in the middle leaves neither a file nor a part of one."""
    proxy.file("PUT", "a/kept", b"old")
    for head in ("Content-Length: 9000000", "Transfer-Encoding: chunked"):
        with socket.create_connection(proxy.address) as client:
            request = f"PUT {PREFIX}/artifacts/a/kept HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n"
            client.sendall(request.encode() + b"400000\r\n" + b"x" * 4_000_000)
            until_true(lambda: len(proxy.files()) == 2)  # the hidden file is there
        until_true(lambda: len(proxy.files()) == 1)

    assert proxy.file("GET", "a/kept").body == b"old"


def test_tf153_two_uploads_to_one_name(proxy):
    """Of several uploads at once to one name, one is kept whole."""
    bodies = [bytes([number]) * 3_000_000 for number in range(6)]
    threads = [threading.Thread(target=proxy.file, args=("PUT", "a/file", body)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert proxy.file("GET", "a/file").body in bodies
    assert proxy.files() == ["a/file"]


def test_reader_that_goes_away(proxy):
    """A client that leaves a download does not keep the file open."""
    proxy.file("PUT", "a/file", b"x" * 50_000_000)

    with socket.create_connection(proxy.address) as client:
        client.sendall(f"GET {PREFIX}/artifacts/a/file HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 200")
        assert open_files(proxy.root) == 1

    until_true(lambda: open_files(proxy.root) == 0)


def test_tf160_large_files_pass_in_little_memory(tmp_path):
    """A file goes up and down through a server process whose memory does not grow with it."""
    command = [sys.executable, "-m", "gateway", "server", "--registry-uri", f"sqlite:///{tmp_path}/r.db", "--port", "0"]
    with running(command, tmp_path, {"PYTHONPATH": str(REPOSITORY)}) as (process, log):
        until(lambda: listening(log), process, log)
        until(lambda: answers(f"{listening(log)}/ready"), process, log)
        port = int(listening(log).rpartition(":")[2])
        target = f"{PREFIX}/artifacts/0/large"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        connection.request("PUT", target, b"warm")
        connection.getresponse().read()
        before = most_memory_kib(process.pid)

        block = os.urandom(1 << 20)
        connection.request("PUT", target, (block for _ in range(LARGE >> 20)), {"Content-Length": str(LARGE)})
        assert connection.getresponse().read() == b"{}"
        connection.request("GET", target)
        response = connection.getresponse()
        while chunk := response.read(1 << 20):
            assert chunk == block
        connection.close()

        assert response.headers["Content-Length"] == str(LARGE)
        assert most_memory_kib(process.pid) - before < MOST_GROWTH_KIB


def test_tf152_disk_that_is_full(tmp_path):
    """A file that the disk does not take is refused as a whole, and smaller ones are taken still."""
    # A limit on the size of one file: the one way to make writing fail in a process of this machine alone.
    command = (
        f"ulimit -f 4096; exec {sys.executable} -m gateway server --registry-uri sqlite:///{tmp_path}/r.db --port 0"
    )
    with running(["bash", "-c", command], tmp_path, {"PYTHONPATH": str(REPOSITORY)}) as (process, log):
        until(lambda: listening(log), process, log)
        until(lambda: answers(f"{listening(log)}/ready"), process, log)
        address = ("127.0.0.1", int(listening(log).rpartition(":")[2]))
        proxy = Proxy(address, None, tmp_path / "artifacts")

        refused = proxy.file("PUT", "a/large", b"x" * 10_000_000)

        assert error_of(refused) == (503, "TEMPORARILY_UNAVAILABLE")
        assert str(tmp_path) not in refused.json["message"]
        assert proxy.files() == []
        assert proxy.file("PUT", "a/small", b"x" * 2_000_000).status == 200
        assert proxy.files() == ["a/small"]


def open_files(root):
    """How many files below *root* this process has open."""
    found = 0
    for each in Path("/proc/self/fd").iterdir():
        try:
            found += Path(os.readlink(each)).is_relative_to(root)
        except FileNotFoundError:
            continue
    return found


def most_memory_kib(pid):
    """The most that a process and its children ever had in memory, added up."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    status = Path(f"/proc/{pid}/status").read_text()
    own = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return own + sum(most_memory_kib(child) for child in children)
