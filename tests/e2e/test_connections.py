"""Slow, broken and many connections, on real sockets: a small server with short limits, and a real gateway."""

import contextlib
import socket
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from gateway.connections import LimitedProtocol, protocol_class
from tests.e2e.gateways import eventually
from tests.e2e.sockets import BIG, BIG_BYTES, GET, SLOW, Client, Server, error

MAX_CONNECTIONS = 40


@pytest.fixture
def server():
    """Limits of parts of a second."""

    class Quick(protocol_class(MAX_CONNECTIONS)):
        HEADER_TIMEOUT_S = 0.6
        WRITE_STALL_S = 0.6
        LINGER_S = 0.6
        SWEEP_S = 0.05

    with contextlib.closing(Server(Quick)) as server:
        yield server


# Turns


class WhenTold:
    """Turns that nobody gets by himself."""

    def __init__(self):
        self.waiting = []

    def begins(self, _loop, connection):
        self.waiting.append(connection)
        return False


def test_who_waits_for_a_turn_and_sends_more_is_read_no_further_and_loses_nothing():
    """What came in two parts is one request when the turn comes, and the connection is read again."""
    turns = WhenTold()

    class Waiting(protocol_class(MAX_CONNECTIONS)):
        pass

    Waiting.turns = turns, turns
    with contextlib.closing(Server(Waiting)) as server, server.connect() as client:
        for _ in range(2):
            client.send(b"POST /count HTTP/1.1\r\nHost: x\r\n")
            (connection,) = eventually(lambda: turns.waiting, "it waits")
            assert not connection.flow.read_paused
            client.send(b"Content-Length: 5\r\n\r\nhel")
            eventually(lambda connection=connection: connection.flow.read_paused, "it is read no further")
            client.send(b"lo")

            server.loop.call_soon_threadsafe(turns.waiting.pop().go_on)

            assert client.ask(b"") == b"5"


# Slow senders


@pytest.mark.parametrize("beginning", [b"", b"G", b"\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX-More: "])
def test_tf082_headers_that_stay_away_close_the_connection(server, beginning):
    """Within the time for headers, and without a word."""
    with server.connect() as client:
        client.send(beginning)

        assert client.rest() == b""


def test_tf082_headers_that_trickle_close_the_connection(server):
    """Progress is not enough: the headers have to be complete in time."""
    with server.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nX-More: ")

        assert client.drip(b"a") == b""


@pytest.mark.parametrize("beginning", [b"G", b"\r\n"])
def test_tf082_a_next_request_has_the_same_time(server, beginning):
    """On a connection that is kept alive the clock starts with the first byte."""
    with server.connect() as client:
        assert client.ask() == b"hello"
        assert not client.is_closed_within(1.0)
        assert client.ask() == b"hello"
        client.send(beginning)

        assert client.rest() == b""


def test_tf082_a_body_that_nobody_waits_for_is_not_taken_for_ever(server):
    """The answer was given without the body; its bytes do not keep the connection."""
    with server.connect() as client:
        assert client.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n") == b"hello"

        assert client.drip(b"a") == b""


def test_a_body_that_ends_after_its_answer_leaves_a_connection_that_works_and_ends(server):
    """The next request is answered; without one the connection is closed, though uvicorn forgot its timer."""
    with server.connect() as client:
        assert client.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n") == b"hello"
        client.send(b"12345")
        assert client.ask() == b"hello"
        assert client.ask(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n") == b"hello"
        client.send(b"12345")

        assert client.rest() == b""


def test_tf082_many_slow_senders_hold_up_nobody(server):
    """Others are answered meanwhile, and every slow one is gone in the end."""
    with contextlib.ExitStack() as stack:
        for _ in range(MAX_CONNECTIONS - 1):
            stack.enter_context(server.connect()).send(b"G")
        with server.connect() as client:
            assert [client.ask() for _ in range(20)] == [b"hello"] * 20

            eventually(lambda: server.open_connections() == 1, "the slow ones are closed")
            assert client.ask() == b"hello"


# Too much


def test_tf077_long_headers_are_431(server):
    """One read or many, the limit is the same, and the answer arrives though more is being sent."""
    with server.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nX-More: " + b"a" * 200_000 + b"\r\n\r\n")
        assert error(client.rest()) == (
            431,
            "the request line and headers are longer than the 65536 bytes that are taken",
        )
    with server.connect() as client:
        client.send(b"GET /" + b"a" * 40_000)
        client.send(b"a" * 40_000)
        assert client.socket.recv(1, socket.MSG_PEEK) == b"H"
        for _ in range(3):
            client.send(b"a" * 40_000)
            client.socket.recv(1, socket.MSG_PEEK)
        assert error(client.rest())[0] == 431
    with server.connect() as client:
        assert client.ask(b"GET / HTTP/1.1\r\nX-More: " + b"a" * 65_000 + b"\r\n\r\n") == b"hello"


@pytest.mark.parametrize(
    "beginning",
    [
        b"GET /",
        b"GET / HTTP/1.1\r\nX-More: ",
        b"POST /count HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-More: ",
        b"POST /count HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-More: ",
    ],
)
def test_tf077_endless_headers_take_no_memory(server, beginning):
    """Nor do endless trailers or chunk extensions: what is over the limit is not kept."""
    before = psutil.Process().memory_info().rss
    piece = b"a" * (1 << 20)
    with server.connect() as client:
        client.send(beginning)
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                client.send(piece)

        assert psutil.Process().memory_info().rss - before < 50 << 20
    with server.connect() as client:
        assert client.ask() == b"hello"


def test_a_body_is_whole_however_large(server):
    """The limit on headers is none on what follows them, in one read or many."""
    for size in (10, 65_536, 70_000, 300_000, 5_000_000):
        request = f"POST /count HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode() + b"a" * size
        chunked = b"POST /count HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % size + b"a" * size
        with server.connect() as client:
            assert client.ask(request) == str(size).encode()
            assert client.ask(chunked + b"\r\n0\r\n\r\n") == str(size).encode()


def test_requests_may_come_together(server):
    """Many in one read are answered in order; together they may be longer than the headers of one."""
    with server.connect() as client:
        client.send(GET * 5000 + GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))

        answers = client.rest()

    assert answers.count(b"HTTP/1.1 200") == answers.count(b"hello") == 5001


# Broken


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /count HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /count HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        b"POST /count HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"POST /count HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    ],
)
def test_tf078_broken_http_is_400_in_the_wires_shape(server, request_bytes):
    """One answer, whatever follows, and the connection is closed; also after a good request."""
    with server.connect() as client:
        client.send(request_bytes + GET)
        assert error(client.rest())[0] == 400
    with server.connect() as client:
        assert client.ask() == b"hello"
        client.send(request_bytes + GET)
        assert error(client.rest())[0] == 400


@pytest.mark.parametrize("garbage", [b"nonsense\r\n\r\n", b"GET /" + b"a" * 300_000, b"CONNECT x:80 HTTP/1.1\r\n\r\n"])
def test_tf078_garbage_behind_a_request_is_not_its_answer(server, garbage):
    """The request that is under way gets its own answer, then the connection ends."""
    with server.connect() as client:
        client.send(SLOW)
        eventually(lambda: server.application.slow == 1, "the request is under way")
        client.send(garbage)
        assert not client.is_closed_within(1.0)
        server.loop.call_soon_threadsafe(server.application.go_on.set)

        answer = client.rest()

    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b"HTTP/1.1") == 1
    assert answer.endswith(b"hello")


# Slow readers


@pytest.mark.parametrize("request_bytes", [BIG, BIG.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")])
def test_tf082_a_reader_that_reads_nothing_is_cut_off(server, request_bytes):
    """Neither a kept connection nor one that only waits to be closed holds its answer for ever."""
    with server.connect() as client:
        client.send(request_bytes)
        eventually(lambda: server.open_connections() == 1, "it is connected")
        eventually(lambda: server.open_connections() == 0, "it is cut off")

        assert len(client.rest()) < BIG_BYTES


def test_tf082_a_reader_that_is_slow_gets_everything(server):
    """As long as it reads, it may take longer than a stall may last."""
    with server.connect() as client, server.connect() as other:
        other.ask()
        client.send(BIG.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        received = 0
        while part := client.socket.recv(1 << 20, socket.MSG_WAITALL):
            received += len(part)
            assert not other.is_closed_within(0.025)

    assert received > BIG_BYTES


def test_tf082_a_reader_that_sips_is_cut_off(server):
    """A little again and again is not enough to hold a whole answer in memory."""
    with server.connect() as client, server.connect() as other:
        other.ask()
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.send(BIG)

        sips = 0
        while server.open_connections() == 2 and sips < 300:
            sips += 1
            client.socket.recv(1000)
            other.is_closed_within(0.05)

        assert server.open_connections() == 1


@pytest.mark.parametrize(("taken_bytes", "ends_after"), [(0, 20), (1, 20), (500, 20), (1100, None), (40_000, None)])
def test_tf082_how_much_of_an_answer_has_to_be_taken(taken_bytes, ends_after):
    """A mebibyte of which so much is taken each second: 20 KiB in 20 seconds are enough, and less is the end."""
    transport, ended = SimpleNamespace(unsent=1 << 20), []
    transport.get_write_buffer_size = lambda: max(0, transport.unsent)
    transport.abort = lambda: ended.append(second)
    connection = LimitedProtocol.__new__(LimitedProtocol)
    connection.transport, connection._deadline_s = transport, None
    connection._unsent_bytes, connection._stalled_at_s = 0, 0.0

    for second in range(100):
        connection.check(1000.0 + second)
        transport.unsent -= taken_bytes

    assert (ended[0] if ended else None) == ends_after


def test_an_answer_instead_of_a_100_ends_the_connection(server):
    """The client need not send the body that it held back, so nobody can tell it from a next request."""
    expecting = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
    with server.connect() as client:
        assert client.ask(expecting) == b"hello"
        client.send(GET)
        assert client.rest() == b""
    with server.connect() as client:
        client.send(expecting.replace(b"/ ", b"/count "))
        assert client.head().startswith(b"HTTP/1.1 100")
        assert client.ask(b"a" * 1000) == b"1000"
        assert client.ask() == b"hello"


# Many


def test_tf083_a_connection_too_many_is_closed_and_the_others_work(server):
    """Open ones are answered meanwhile, and a new one as soon as another has left."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(MAX_CONNECTIONS)]
        assert all(client.ask() == b"hello" for client in clients)
        for _ in range(20):
            with server.connect() as refused:
                assert refused.is_closed_within(20)

        assert all(client.ask() == b"hello" for client in clients)
        clients.pop().close()
        eventually(lambda: server.open_connections() < MAX_CONNECTIONS, "one has left")
        assert stack.enter_context(server.connect()).ask() == b"hello"


def limits(soft, program):
    """What *program* prints where so many descriptors are allowed at first."""
    setup = (
        "import resource; from gateway.connections import *;"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, 1000));"
    )
    ran = subprocess.run([sys.executable, "-c", setup + program], capture_output=True, text=True, check=True)
    return [int(word) for word in ran.stdout.split()]


def test_tf083_connections_leave_descriptors_for_the_rest():
    """By default there are fewer of them than files that may be open, also where those are few."""
    program = "print(protocol_class().max_connections)"

    assert limits(600, program) == [472]
    assert limits(100, program) == [50]


def test_the_limit_of_descriptors_is_raised_as_far_as_allowed():
    """To the hard limit, which stays; a second time changes nothing."""
    program = "print(raise_descriptor_limit(), raise_descriptor_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))"

    assert limits(600, program) == [1000, 1000, 1000, 1000]


# What this stands on


def test_uvicorn_has_what_the_limits_are_built_on(server):
    """Names of uvicorn that it does not promise: an upgrade that changes them is seen here first."""
    config = server.config
    protocol = HttpToolsProtocol(config=config, server_state=ServerState(), app_state={}, _loop=server.loop)

    assert isinstance(protocol.connections, set)
    assert {"cycle", "transport", "pipeline", "loop", "parser"} <= set(vars(protocol))
    for name in ("on_headers_complete", "on_body", "on_message_complete", "send_400_response", "shutdown"):
        assert callable(getattr(HttpToolsProtocol, name))
    assert {"response_started", "response_complete", "keep_alive"} <= set(
        RequestResponseCycle.__init__.__code__.co_names
    )


def test_the_gateway_is_limited(champion, serve):
    """`turnout serve` answers broken and overlong requests in the wire's shape, and then predicts."""
    gateway = serve().ready()
    address = (gateway.client.base_url.host, gateway.client.base_url.port)
    for request_bytes, status in ((b"nonsense\r\n\r\n", 400), (b"GET /" + b"a" * 100_000, 431)):
        with contextlib.closing(Client(address)) as client:
            client.send(request_bytes)
            assert error(client.rest())[0] == status

    assert gateway.ask().json()["predictions"] == [1]
