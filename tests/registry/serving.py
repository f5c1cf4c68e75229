"""The registry's HTTP application on a real socket, in a thread of the test."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from registry.core import ServedRegistry
from registry.server.app import create_app


@contextmanager
def served(registry: ServedRegistry, **options: Any) -> Iterator[tuple[str, int]]:
    """(host, port) at which *registry* is served while the block runs."""
    app = create_app(registry, **options)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server stopped before it had started"
            time.sleep(0.005)
        yield server.servers[0].sockets[0].getsockname()[:2]
    finally:
        app.stop_streams()
        server.should_exit = True
        thread.join(30)
