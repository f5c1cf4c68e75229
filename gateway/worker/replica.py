"""One loaded copy of a model, answering frames on a socket until its gateway is gone.

Predictions run in the main thread, one after another; a model that wants more cores gets more replicas.
Loading runs in a thread that gives way to predictions. The file stands alone and runs on Python 3.9: the fork
server hands it the other files as modules.
"""

import collections
import copy
import itertools
import json
import os
import selectors
import socket
import sys
import threading
import time
import traceback
from types import ModuleType
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Sequence, Tuple

NEWS_BYTES = 256 << 10
# A version that is not proven yet serves the plain way, which may be too slow for the load that the one before it
# carried: so most proofs are done before it serves. A long one goes on between requests, in so much of the time.
PROVING_AHEAD_S = 0.25
PROVING_SHARE = 0.2
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
        self._proof: Optional[Iterator[Any]] = None
        self._step_due_s = 0.0
        self._peers: List[Any] = []
        self._turns: Deque[Any] = collections.deque()  # those of them that wait for an answer, in order
        self._owner: Any = None  # the one that had the model loaded
        self._proven: Optional[Dict[str, Any]] = None
        self._timecard: Any = None  # where there are several
        self._news, self._news_write = socket.socketpair()

    def serve(self) -> int:
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._lifetime, selectors.EVENT_READ, self._stop)
        self._selector.register(self._news, selectors.EVENT_READ, self._tell)
        try:
            while True:
                for key, _ in self._selector.select(0 if self._turns else self._until_step_s()):
                    key.data()
                if self._turns:
                    self._take_a_turn(self._turns.popleft())
                if self._until_step_s() == 0.0:
                    self._prove_on()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else 1

    def _stop(self) -> None:
        raise SystemExit(0)

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        peer = self._modules["peers"].Peer(connection, self._modules["frames"].Decoder())
        self._peers.append(peer)
        self._selector.register(peer, selectors.EVENT_READ, lambda: self._listen_to(peer))

    def _listen_to(self, peer: Any) -> None:
        if peer not in self._peers:
            return  # parted with since the selector saw it
        try:
            peer.receive()
        except (ConnectionError, self._modules["frames"].BadFrame):
            self._part_with(peer)
        if peer.waiting and peer not in self._turns:
            self._turns.append(peer)

    def _take_a_turn(self, peer: Any) -> None:
        """One request of one peer; the others that wait come before its next."""
        try:
            self._obey(peer, *peer.waiting.popleft())
        except (ConnectionError, BlockingIOError):
            self._part_with(peer)
        if peer.waiting:
            self._turns.append(peer)

    def _part_with(self, peer: Any) -> None:
        self._selector.unregister(peer)
        self._peers.remove(peer)
        peer.close()
        if peer in self._turns:
            self._turns.remove(peer)

    def _obey(self, peer: Any, header: Dict[str, Any], buffers: Tuple[memoryview, ...]) -> None:
        operation = header["op"]
        if operation == "predict":
            peer.send(self._answer(peer, header, buffers))
        elif operation == "load":
            self._owner = peer
            self._loader = threading.Thread(target=self._load, args=(header,), name="load", daemon=True)
            self._loader.start()
        elif operation == "attach":
            self._attach(peer, header["caller"])
        elif operation == "cancel":
            peer.given_up.discard(header["id"])  # it came before this, and is answered or dropped
        elif operation == "stop":
            self._stop()

    def _attach(self, peer: Any, caller: int) -> None:
        """Another process asks too, for the model that is loaded already."""
        peer.caller = caller
        peer.is_one_of_several()
        if self._proven is not None:
            peer.send(self._modules["frames"].encode(self._proven))

    def _until_step_s(self) -> Optional[float]:
        return None if self._proof is None else max(0.0, self._step_due_s - time.monotonic())

    def _prove_on(self) -> None:
        """One step of the proof, and a pause in which nothing but requests is worked on."""
        begun_s = time.monotonic()
        if self._prove_until(self._proof, begun_s, self._spread):
            self._proof = None
        ended_s = time.monotonic()
        self._step_due_s = ended_s + (ended_s - begun_s) * (1 / PROVING_SHARE - 1)

    def _prove_until(self, proof: Any, stop_s: float, tell: Callable[[Dict[str, Any]], None]) -> bool:
        """At least one step, and more until *stop_s*; whether that was the last. *tell* hears what is found."""
        try:
            for found in proof:
                if found is not None:
                    tell({"op": "proven", **found._asdict()})
                if time.monotonic() >= stop_s:
                    return False
        except Exception as problem:  # whatever it is, the plain way goes on
            traceback.print_exc()
            tell({"op": "proven", "path": "plain", "joins": False, "proof": f"the proof failed: {_sentence(problem)}"})
        return True

    # Loading: a thread that gives way reports through a socket pair, and the main thread passes it on.

    def _load(self, options: Dict[str, Any]) -> None:
        report: Callable[[Dict[str, Any]], None] = lambda news: self._news_write.sendall(  # noqa: E731
            json.dumps(news).encode() + b"\n"
        )
        try:
            self._modules["lifetime"].give_way(options["on_idle_cores"])
            if options.get("timecard"):
                self._timecard = self._modules["timecard"].Timecard(options["timecard"])
            self._loaded = load(self._modules, options, lambda: report({"op": "warming"}))
            proof = self._loaded.prove(self._modules, options["joins"], options["accelerates"])
            if not self._prove_until(proof, time.monotonic() + PROVING_AHEAD_S, report):
                self._proof = proof  # the main thread's from here on
            report({"op": "ready"})
        except SystemExit as end:
            os._exit(end.code if isinstance(end.code, int) else 1)
        except BaseException as problem:
            traceback.print_exc()
            report({"op": "failed", "message": _sentence(problem)})

    def _tell(self) -> None:
        for line in self._news.recv(NEWS_BYTES).splitlines():
            news = json.loads(line)
            if news["op"] == "ready":
                self._loader.join()  # a thread that gives way, and holds the interpreter, would hold up predictions
            self._spread(news)

    def _spread(self, news: Dict[str, Any]) -> None:
        """Tell the owner, and of a proof everybody, also those who come later."""
        is_proof = news["op"] == "proven"
        if is_proof:
            self._proven = news
        for peer in [each for each in self._peers if is_proof or each is self._owner]:
            try:
                peer.send(self._modules["frames"].encode(news))
            except (ConnectionError, BlockingIOError):
                self._part_with(peer)

    def _answer(self, peer: Any, header: Dict[str, Any], buffers: Tuple[memoryview, ...]) -> bytes:
        if self._timecard is None:
            return self._answer_to(peer, header, buffers)
        self._timecard.begin(peer.caller)
        try:
            return self._answer_to(peer, header, buffers)
        finally:
            self._timecard.end()

    def _answer_to(self, peer: Any, header: Dict[str, Any], buffers: Tuple[memoryview, ...]) -> bytes:
        encode: Callable[..., bytes] = self._modules["frames"].encode
        assert self._loaded is not None, "a prediction came before the model was ready"
        if time.monotonic() >= header["until"] or header["id"] in peer.given_up:
            return encode({"op": "dropped", "id": header["id"]})
        begun_ns = time.time_ns() if "timed" in header else 0
        try:
            meta, answer = self._loaded.answer(header["meta"], buffers)
            return encode({"op": "answer", "id": header["id"], "meta": meta, **_times(begun_ns)}, answer)
        except self._modules["tables"].Refused as refused:
            return encode({"op": "error", "id": header["id"], **_as_error(refused), **_times(begun_ns)})
        except MemoryError:
            print("out of memory during a prediction: this replica ends", file=sys.stderr, flush=True)
            os._exit(OUT_OF_MEMORY_STATUS)


class Loaded:
    """A model and the tables that turn payloads into what it eats."""

    def __init__(self, model: Any, modules: Dict[str, ModuleType]) -> None:
        self._model = model
        self._tables = modules["tables"]
        self._parts = modules["parts"]
        self._accelerate = modules["accelerate"]
        self._scorer = self._tables.Scorer(model.signature, modules["enforcement"])
        self._answerer = modules["trees"].Answerer(model)
        self._example: Any = None  # as (data, params), once it was read

    def prove(self, modules: Dict[str, ModuleType], joins: str, accelerates: bool) -> Iterator[Any]:
        """The steps of `accelerate.Prover`."""
        prover = self._accelerate.Prover(self._model, self._example, self._scorer, self._answerer, modules)
        steps: Iterator[Any] = prover.steps(joins, accelerates)
        return steps

    def answer(self, meta: Dict[str, Any], buffers: Sequence[Any]) -> Tuple[Dict[str, Any], List[Any]]:
        """The answer to one request, or to several that came as one. Raises `Refused`."""
        return self._answer_parts(meta, buffers) if "parts" in meta else self._answer_one(meta, buffers)

    def _answer_one(self, meta: Dict[str, Any], buffers: Sequence[Any]) -> Tuple[Dict[str, Any], List[Any]]:
        request = self._scorer.read(meta, buffers)
        answer: Tuple[Dict[str, Any], List[Any]] = self._scorer.write(self._predict(request), request)
        return answer

    def _answer_parts(self, meta: Dict[str, Any], buffers: Sequence[Any]) -> Tuple[Dict[str, Any], List[Any]]:
        """One call for all; where it fails, or its answer has not one entry a row, a call for each."""
        edges = list(itertools.accumulate(meta["parts"], initial=0))
        spans = list(zip(edges, edges[1:]))  # noqa: RUF007  # `pairwise` came after Python 3.9
        try:
            output = self._predict(self._scorer.read(meta, buffers))
            if self._accelerate.count_of(output) == edges[-1]:
                whole: Tuple[Dict[str, Any], List[Any]] = self._scorer.write(output)
                if whole[0]["kind"] == "tensor":
                    return whole
                return _in_parts([self._scorer.write(self._accelerate.rows_of(output, *span)) for span in spans])
        except self._tables.Refused:
            pass  # one of them is to blame, and hears so alone
        return _in_parts([self._attempt(*self._parts.part(meta, buffers, *span)) for span in spans])

    def _attempt(self, meta: Dict[str, Any], buffers: Sequence[Any]) -> Tuple[Dict[str, Any], List[Any]]:
        try:
            return self._answer_one(meta, buffers)
        except self._tables.Refused as refused:
            return {"kind": "error", **_as_error(refused)}, []

    def _predict(self, request: Any) -> Any:
        try:
            return self._answerer.predict(request.data, request.params)
        except MemoryError:
            raise
        except Exception as problem:
            traceback.print_exc()
            raise self._tables.model_failed(problem) from None

    def warm_up(self, enforcement: ModuleType) -> None:
        """Predict once on the input example, so that the first client does not pay for lazy set-up."""
        self._example = self._model.input_example()
        if self._example is None:
            return
        data, params = copy.deepcopy(self._example)  # models write into their input
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


def _in_parts(answers: List[Tuple[Dict[str, Any], List[Any]]]) -> Tuple[Dict[str, Any], List[Any]]:
    return {"kind": "parts", "parts": [meta for meta, _ in answers]}, [each for _, own in answers for each in own]


def _times(begun_ns: int) -> Dict[str, int]:
    """Of the call that ends here, for a request that asked for them."""
    return {"begun_ns": begun_ns, "ended_ns": time.time_ns()} if begun_ns else {}


def _as_error(refused: Any) -> Dict[str, Any]:
    return {"status": refused.status, "code": refused.error_code, "message": refused.message}


class WarmUpFailed(Exception):
    """The model loaded, and then could not predict on its own input example."""


def load(modules: Dict[str, ModuleType], options: Dict[str, Any], warming: Callable[[], None]) -> Loaded:
    """Limit memory, load, warm up. Whatever the model's code raises comes out of here."""
    modules["lifetime"].limit_memory(options["memory_limit_bytes"])
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        numpy.random.seed()  # or every replica would draw the numbers that its siblings draw
    model = modules["loader"].load(options["path"], options["mlmodel"])
    loaded = Loaded(model, modules)
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
