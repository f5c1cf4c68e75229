"""What stands between a client and its server: a TCP relay that cuts, hangs, or answers in the server's place."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

CHUNK = 1 << 16


def page(status: str, body: str = "<html>sorry</html>", kind: str = "text/html", extra: str = "") -> bytes:
    """An answer as a proxy gives it when it has no server behind it."""
    head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n{extra}"
    return f"{head}\r\n{body}".encode()


class Between:
    """A relay to *target* (host, port). What it does to connections that come from now on is set by its methods."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self._answer: bytes | None = None
        self._is_hanging = False
        self._cuts: list[int] = []
        self.requests = 0
        self.bytes_down = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def relay(self) -> None:
        self._set(None, hanging=False)

    def answer(self, answer: bytes) -> None:
        """Give everybody this answer."""
        self._set(answer, hanging=False)

    def hang(self) -> None:
        """Take requests and never answer."""
        self._set(None, hanging=True)

    def cut_after(self, *byte_counts: int) -> None:
        """End each of the next connections after so many bytes of answers."""
        self.relay()
        self._cuts = list(byte_counts)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # closing alone lets the thread that waits in accept take one more
        self._listener.close()
        self._drop()

    def _set(self, answer: bytes | None, *, hanging: bool) -> None:
        self._answer, self._is_hanging, self._cuts = answer, hanging, []
        self._drop()

    def _drop(self) -> None:
        for each in list(self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._open.add(client)
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            if self._answer is not None or self._is_hanging:
                self._stand_in(client)
            else:
                self._connect(client)
            client.shutdown(socket.SHUT_RDWR)  # closing alone says nothing while another thread reads
        self._open.discard(client)

    def _stand_in(self, client: socket.socket) -> None:
        answer = self._answer
        client.recv(CHUNK)
        self.requests += 1
        if answer is None:
            while client.recv(CHUNK):  # a body comes after its headers, if it likes
                pass
        else:
            client.sendall(answer)

    def _connect(self, client: socket.socket) -> None:
        cut = self._cuts.pop(0) if self._cuts else None
        with socket.create_connection(self._target) as server:
            self._open.add(server)
            threading.Thread(target=self._pump_up, args=[client, server], daemon=True).start()
            self._pump_down(server, client, cut)
            server.shutdown(socket.SHUT_RDWR)
        self._open.discard(server)

    def _pump_up(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(CHUNK):
                self.requests += 1
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _pump_down(self, server: socket.socket, client: socket.socket, left: int | None) -> None:
        while data := server.recv(CHUNK):
            if left is not None:
                data, left = data[:left], left - len(data)
            self.bytes_down += len(data)
            client.sendall(data)
            if left is not None and left <= 0:
                return


@contextlib.contextmanager
def between(address: str) -> Iterator[Between]:
    """A relay to the server at `http://host:port`."""
    host, _, port = address.removeprefix("http://").partition(":")
    relay = Between((host, int(port)))
    try:
        yield relay
    finally:
        relay.close()
