"""What the processes of one server tell each other: one is told something, and all know it.

By datagrams between sockets in a folder that only they can enter. What cannot be sent at once is dropped: whatever is
told here is told again by itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

log = logging.getLogger("turnout.server")

SOCKET_BYTES = 1 << 22
MAX_MESSAGE_BYTES = 4 << 20


@contextlib.contextmanager
def neighbours(folder: Path | None, heard: Callable[[bytes], None]) -> Iterator[Callable[[bytes], None]]:
    """Gives what tells every other process of *folder*; *heard* is called, on a thread, with what they tell.

    Without a folder there is nobody to tell. *heard* must not raise.
    """
    if folder is None:
        yield lambda _: None
        return
    own = folder / f"{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        own.unlink(missing_ok=True)
        listener.bind(str(own))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        listening = threading.Thread(target=_listen, args=(listener, heard), name="neighbours", daemon=True)
        listening.start()
        try:
            yield lambda message: _tell(listener, folder, own, message)
        finally:
            listener.sendto(b"", str(own))  # ends the thread: a message is never empty
            listening.join()
            own.unlink(missing_ok=True)


def _tell(sender: socket.socket, folder: Path, own: Path, message: bytes) -> None:
    packed = zlib.compress(message, 1)
    for each in folder.iterdir():
        if each == own:
            continue
        try:
            sender.sendto(packed, socket.MSG_DONTWAIT, str(each))
        except (ConnectionRefusedError, FileNotFoundError):  # that process is dead
            each.unlink(missing_ok=True)
        except OSError as problem:
            log.info("another process was not told: %s", problem)


def _listen(listener: socket.socket, heard: Callable[[bytes], None]) -> None:
    while packed := listener.recv(MAX_MESSAGE_BYTES):
        heard(zlib.decompress(packed))
