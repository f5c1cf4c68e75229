"""The gateway's processes as a replica sees them: each has a connection, and its own line of requests.

The file stands alone and runs on Python 3.9.
"""

import collections
import socket
import struct
from typing import Any, Deque, Dict, Set, Tuple

RECEIVE_BYTES = 256 << 10
SEND_TIMEOUT_S = 5

Frame = Tuple[Dict[str, Any], Tuple[memoryview, ...]]


class Peer:
    """One process that asks."""

    def __init__(self, connection: socket.socket, decoder: Any) -> None:
        self.caller = 0  # what it calls itself
        self.waiting: Deque[Frame] = collections.deque()
        self.given_up: Set[int] = set()
        self._connection = connection
        self._decoder = decoder

    def fileno(self) -> int:
        return self._connection.fileno()

    def receive(self) -> None:
        """Read what came; what is given up is known before anything that came with it begins.

        Raises `ConnectionError` when there is no more to come, `BadFrame` for what is none.
        """
        data = self._connection.recv(RECEIVE_BYTES)
        if not data:
            raise ConnectionAbortedError
        frames = self._decoder.feed(data)
        self.given_up.update(header["id"] for header, _ in frames if header["op"] == "cancel")
        self.waiting.extend(frames)

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def is_one_of_several(self) -> None:
        """It must not hold up the others by reading nothing: sending to it raises `BlockingIOError` after a while."""
        self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", SEND_TIMEOUT_S, 0))

    def close(self) -> None:
        self.waiting.clear()
        self._connection.close()
