"""One loaded copy of a model, answering frames on a socket until its gateway is gone.

Predictions run in the main thread, one after another; a model that wants more cores gets more replicas.
Loading runs in a thread of low priority. The file stands alone and runs on Python 3.9: the fork server hands it
the other files as modules.
"""

import json
import os
import selectors
import socket
import sys
import threading
import traceback
from types import ModuleType
from typing import Any, Callable, Dict, List, Optional, Tuple

RECEIVE_BYTES = 256 << 10
OUT_OF_MEMORY_STATUS = 77


def run(modules: Dict[str, ModuleType], listener: int, output: int, lifetime: int) -> int:
    """Serve on the *listener* until the *lifetime* pipe closes or `stop` comes; the process's exit status."""
    _redirect_output(output)
    status = Replica(modules, socket.socket(fileno=listener), lifetime).serve()
    modules["lifetime"].end_quietly()
    return status


def _redirect_output(output: int) -> None:
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(output)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    # New objects: those of the fork server remember what kind of file they had.
    sys.stdout, sys.stderr = (
        open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        for descriptor in (1, 2)
    )


class Replica:
    """The sockets of one replica and, once loaded, its model."""

    def __init__(self, modules: Dict[str, ModuleType], listener: socket.socket, lifetime: int) -> None:
        self._modules = modules
        self._listener = listener
        self._lifetime = lifetime
        self._selector = selectors.DefaultSelector()
        self._loaded: Optional[Loaded] = None
        self._news, self._news_write = socket.socketpair()

    def serve(self) -> int:
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._lifetime, selectors.EVENT_READ, self._stop)
        self._selector.register(self._news, selectors.EVENT_READ, self._tell)
        try:
            while True:
                for key, _ in self._selector.select():
                    key.data()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1

    def _stop(self) -> None:
        raise SystemExit(0)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        decoder = self._modules["frames"].Decoder()
        self._selector.register(connection, selectors.EVENT_READ, lambda: self._read(connection, decoder))

    def _read(self, connection: socket.socket, decoder: Any) -> None:
        try:
            data = connection.recv(RECEIVE_BYTES)
            for header, buffers in decoder.feed(data) if data else ():
                self._obey(connection, header, buffers)
        except (ConnectionError, self._modules["frames"].BadFrame):
            data = b""
        if not data:
            self._selector.unregister(connection)
            connection.close()

    def _obey(self, connection: socket.socket, header: Dict[str, Any], buffers: Tuple[memoryview, ...]) -> None:
        operation = header["op"]
        if operation == "predict":
            connection.sendall(self._answer(header, buffers))
        elif operation == "load":
            self._owner = connection
            threading.Thread(target=self._load, args=(header,), name="load", daemon=True).start()
        elif operation == "stop":
            self._stop()

    # Loading: a thread of low priority reports through a socket pair, and the main thread passes it on.

    def _load(self, options: Dict[str, Any]) -> None:
        report: Callable[[Dict[str, Any]], None] = lambda news: self._news_write.sendall(  # noqa: E731
            json.dumps(news).encode() + b"\n"
        )
        try:
            self._modules["lifetime"].lower_priority_of_this_thread()
            self._loaded = load(self._modules, options, lambda: report({"op": "warming"}))
            report({"op": "ready"})
        except SystemExit as end:
            os._exit(end.code if isinstance(end.code, int) else 1)
        except BaseException as problem:
            traceback.print_exc()
            report({"op": "failed", "message": _sentence(problem)})

    def _tell(self) -> None:
        for line in self._news.recv(RECEIVE_BYTES).splitlines():
            self._owner.sendall(self._modules["frames"].encode(json.loads(line)))

    def _answer(self, header: Dict[str, Any], buffers: Tuple[memoryview, ...]) -> bytes:
        encode: Callable[..., bytes] = self._modules["frames"].encode
        assert self._loaded is not None, "a prediction came before the model was ready"
        try:
            meta, answer = self._loaded.predict(header["meta"], buffers)
            return encode({"op": "answer", "id": header["id"], "meta": meta}, answer)
        except self._modules["tables"].Refused as refused:
            return encode(
                {
                    "op": "error",
                    "id": header["id"],
                    "status": refused.status,
                    "code": refused.error_code,
                    "message": refused.message,
                }
            )
        except MemoryError:
            print("out of memory during a prediction: this replica ends", file=sys.stderr, flush=True)
            os._exit(OUT_OF_MEMORY_STATUS)


class Loaded:
    """A model and the tables that turn payloads into what it eats."""

    def __init__(self, model: Any, tables: ModuleType, enforcement: ModuleType) -> None:
        self._model = model
        self._scorer = tables.Scorer(model.signature, enforcement)
        self._failed = tables.model_failed

    def predict(self, meta: Dict[str, Any], buffers: Tuple[memoryview, ...]) -> Tuple[Dict[str, Any], List[Any]]:
        request = self._scorer.read(meta, buffers)
        try:
            output = self._model.predict(request.data, request.params)
        except MemoryError:
            raise
        except Exception as problem:
            traceback.print_exc()
            raise self._failed(problem) from None
        answer: Tuple[Dict[str, Any], List[Any]] = self._scorer.write(output, request)
        return answer

    def warm_up(self, enforcement: ModuleType) -> None:
        """Predict once on the input example, so that the first client does not pay for lazy set-up."""
        example = self._model.input_example()
        if example is None:
            return
        data, params = example
        signature = self._model.signature or {}
        try:
            if signature.get("inputs"):
                data = enforcement.enforce_inputs(data, signature["inputs"])
            if signature.get("params"):
                params = enforcement.enforce_params(params, signature["params"])
        except enforcement.SchemaError as problem:
            print(f"no warm-up: the input example does not fit the signature: {problem}", file=sys.stderr)
            return
        self._model.predict(data, params)


class WarmUpFailed(Exception):
    """The model loaded, and then could not predict on its own input example."""


def load(modules: Dict[str, ModuleType], options: Dict[str, Any], warming: Callable[[], None]) -> Loaded:
    """Limit memory, load, warm up. Whatever the model's code raises comes out of here."""
    modules["lifetime"].limit_memory(options["memory_limit_bytes"])
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()  # or every replica would draw the numbers that its siblings draw
    model = modules["loader"].load(options["path"], options["mlmodel"])
    loaded = Loaded(model, modules["tables"], modules["enforcement"])
    warming()
    try:
        loaded.warm_up(modules["enforcement"])
    except Exception as problem:
        raise WarmUpFailed(f"the warm-up on the input example raised {_sentence(problem)}") from problem
    return loaded


def _sentence(problem: BaseException) -> str:
    """One line without a trace; our own errors are sentences already, the model's get their type in front."""
    text = " ".join(str(problem).split())[:2000]
    if isinstance(problem, WarmUpFailed) or type(problem).__module__.startswith("<turnout"):
        return text
    return f"{type(problem).__name__}: {text}" if text else type(problem).__name__
