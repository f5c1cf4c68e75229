"""A small server with the gateway's protocol beneath it, and a client that says exactly what it is told."""

import asyncio
import contextlib
import json
import re
import socket
import threading

import pytest
import uvicorn
import uvloop

from tests.e2e.gateways import eventually

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
BIG = b"GET /big HTTP/1.1\r\nHost: x\r\n\r\n"
SLOW = b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n"
BIG_BYTES = 64 << 20
KEEP_ALIVE_S = 10  # longer than a client rests that is not to be closed, shorter than it waits for what is


class Application:
    """`/` answers at once and reads no body, `/count` the length of the body, `/slow` when told, `/big` much."""

    def __init__(self):
        self.asked = []
        self.slow = 0
        self.go_on = asyncio.Event()

    async def __call__(self, scope, receive, send):
        self.asked.append(f"{scope['method']} {scope['path']}")
        body = b"hello"
        if scope["path"] == "/slow":
            self.slow += 1
            await self.go_on.wait()
        elif scope["path"] == "/big":
            body = bytes(BIG_BYTES)
        elif scope["path"] == "/count":
            size, more = 0, True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return
                size, more = size + len(message["body"]), message["more_body"]
            body = str(size).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})


class Server(uvicorn.Server):
    """uvicorn on a loop of its own, in a thread."""

    def __init__(self, protocol):
        self.application = Application()
        super().__init__(
            uvicorn.Config(
                self.application,
                http=protocol,
                loop="none",
                ws="none",
                lifespan="off",
                timeout_keep_alive=KEEP_ALIVE_S,
                log_config=None,
                date_header=False,
                server_header=False,
                timeout_graceful_shutdown=1,
            )
        )
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.address = self.listener.getsockname()
        self.thread = threading.Thread(target=self.serve_until_told)
        self.thread.start()
        eventually(lambda: self.started, "it listens")

    def serve_until_told(self):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            self.loop = runner.get_loop()
            runner.run(self.serve(sockets=[self.listener]))

    def close(self):
        self.should_exit = True
        self.thread.join()

    def connect(self):
        return contextlib.closing(Client(self.address))

    def open_connections(self):
        return len(self.server_state.connections)


class Client:
    """A connection that says exactly what it is told."""

    def __init__(self, address):
        self.socket = socket.create_connection(address, timeout=20)

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def ask(self, data=GET):
        """Send a request, give the body of its answer; the connection stays open."""
        self.send(data)
        return self.socket.recv(int(re.search(rb"content-length: (\d+)", self.head())[1]), socket.MSG_WAITALL)

    def head(self):
        """The head of the next answer; its body is left unread."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            part = self.socket.recv(1)
            assert part, f"closed after {head!r}"
            head += part
        return head

    def rest(self):
        """Everything until the server closes."""
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while part := self.socket.recv(65536):
                answer += part
        return answer

    def drip(self, byte):
        """Send *byte* again and again until the server closes; what it said before."""
        self.socket.settimeout(0.05)
        with contextlib.suppress(ConnectionError):
            for _ in range(400):
                self.send(byte)
                with contextlib.suppress(TimeoutError):
                    return self.socket.recv(65536)
            pytest.fail("the server took 400 bytes over 20 seconds")
        return b""

    def is_closed_within(self, seconds):
        """Whether the server closes it; used as the pause of a client that waits, too."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(1) == b""
        except TimeoutError:
            return False
        except ConnectionResetError:
            return True
        finally:
            self.socket.settimeout(20)


def error(answer):
    """The status and the message of an answer in the wire's shape that ends its connection."""
    head, _, body = answer.partition(b"\r\n\r\n")
    problem = json.loads(body)
    assert b"content-type: application/json" in head
    assert b"connection: close" in head
    assert set(problem) == {"error_code", "message"}
    assert problem["error_code"] == "BAD_REQUEST"
    return int(head.split()[1]), problem["message"]
