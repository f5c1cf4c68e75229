"""Sends what a stock client once sent to a stock server to another server, and tells how the answers differ.

A recording holds one exchange a line, in the order they happened. Ids that a server makes up (runs, logged
models, webhooks, names of runs, page tokens) are learnt from each answer and put into later requests.
"""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlencode

MADE_UP = {"run_id", "run_uuid", "model_id", "webhook_id", "run_name", "next_page_token"}
# Compared by type only: what a clock says, and sentences for people.
FREE = re.compile(r"(_time|_timestamp|_timestamp_ms|time|timestamp|message|_token)$")
UNORDERED = {"tags", "params", "metrics", "aliases", "files"}
BYTES = re.compile(r"<(\d+) bytes>")
REPEATED = re.compile(r"<(\d+) times (.)>")
ARTIFACT = "/mlflow-artifacts/artifacts/"


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request, and how the stock server answered it."""

    number: int
    method: str
    path: str
    query: str
    request: Any
    status: int
    response: Any

    def __str__(self) -> str:
        return f"{self.number} {self.method} {self.path.partition('/api/')[2]} {self.query}"


@dataclass(frozen=True, slots=True)
class Deliberate:
    """A difference that is meant: which requests, which values (a pattern of their places), and why."""

    request: str
    place: str
    reason: str

    def covers(self, request: str, place: str) -> bool:
        return bool(re.search(self.request, request) and re.search(self.place, place))


def read(recording: Path) -> list[Exchange]:
    lines = [json.loads(line) for line in recording.read_text(encoding="utf-8").splitlines()]
    return [
        Exchange(
            number=number,
            method=line["method"],
            path=line["path"],
            query=line.get("query", ""),
            request=line.get("request"),
            status=line["status"],
            response=line["response"],
        )
        for number, line in enumerate(lines, 1)
    ]


@dataclass(slots=True)
class Replay:
    """One pass over a recording. `prefix` replaces `/api` at the head of each path; `own_tags` are not compared."""

    host: str
    port: int
    prefix: str = "/api"
    deliberate: Sequence[Deliberate] = ()
    own_tags: Set[str] = frozenset()
    ids: dict[str, str] = field(default_factory=dict)

    def differences(self, exchanges: Sequence[Exchange]) -> list[str]:
        """Send everything; one line for each difference that nobody meant."""
        found: list[str] = []
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        try:
            self._make_room(connection, exchanges)
            for each in exchanges:
                status, answer = self._send(connection, each)
                _learn(each.response, answer, self.ids)
                for place, problem in self._compare(each, status, answer):
                    if not any(known.covers(str(each), place) for known in self.deliberate):
                        found.append(f"{each}\n    {place}: {problem}")
        finally:
            connection.close()
        return found

    def _make_room(self, connection: http.client.HTTPConnection, exchanges: Sequence[Exchange]) -> None:
        """Use up experiment ids that other workflows had, so that this one is given the recorded id."""
        recorded = [int(each.response["experiment_id"]) for each in exchanges if _makes_experiment(each)]
        for number in range(1, min(recorded, default=1)):
            made = self._post(connection, "experiments/create", {"name": f"of another workflow {number}"})
            self._post(connection, "experiments/delete", made)

    def _post(self, connection: http.client.HTTPConnection, path: str, body: dict[str, Any]) -> dict[str, Any]:
        target = f"{self.prefix}/2.0/mlflow/{path}"
        connection.request("POST", target, json.dumps(body), {"Content-Type": "application/json"})
        answered: dict[str, Any] = json.loads(connection.getresponse().read())
        return answered

    def _send(self, connection: http.client.HTTPConnection, each: Exchange) -> tuple[int, Any]:
        target = self._translate(each.path).replace("/api/", f"{self.prefix}/", 1)
        if each.query:
            pairs = parse_qsl(each.query, keep_blank_values=True)
            target += "?" + urlencode([(key, self._translate(value)) for key, value in pairs])
        body, headers = self._body(each)
        connection.request(each.method, target, body, headers)
        response = connection.getresponse()
        return response.status, _decoded(response.read(), ARTIFACT in each.path)

    def _body(self, each: Exchange) -> tuple[bytes | None, dict[str, str]]:
        if each.method == "PUT":
            return _expanded(self._translate(each.request or "")).encode(), {"Content-Type": "text/plain"}
        if each.method == "GET":
            return None, {}
        body = _expanded_all(each.request or {})
        return self._translate(json.dumps(body)).encode(), {"Content-Type": "application/json"}

    def _translate(self, text: str) -> str:
        for recorded, ours in self.ids.items():
            text = text.replace(recorded, ours)
        return text

    def _compare(self, each: Exchange, status: int, answer: Any) -> Iterator[tuple[str, str]]:
        if status != each.status:
            yield "status", f"recorded {each.status}, got {status} {_short(answer)}"
            return
        if ARTIFACT in each.path:
            expected = _expanded(self._translate(each.response or ""))
            if each.method == "GET" and len(expected) != len(answer):
                yield "body", f"recorded {len(expected)} characters, got {len(answer)}"
            return
        expected = json.loads(self._translate(json.dumps(each.response or {})))
        yield from _compare(expected, _without_tags(answer or {}, self.own_tags), "$")


def _makes_experiment(each: Exchange) -> bool:
    return each.path.endswith("/experiments/create") and each.status == 200


def _decoded(body: bytes, is_file: bool) -> Any:
    text = body.decode("utf-8", "replace")
    if is_file or not text:
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _expanded(text: str) -> str:
    """What a placeholder of the recording stands for."""
    if found := BYTES.fullmatch(text):
        return "x" * int(found[1])
    if found := REPEATED.fullmatch(text):
        return found[2] * int(found[1])
    return text


def _expanded_all(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _expanded_all(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_expanded_all(each) for each in value]
    return _expanded(value) if isinstance(value, str) else value


def _without_tags(value: Any, keys: Set[str]) -> Any:
    """The answer as if it had no such tags; a list of tags that gets empty is left out."""
    if isinstance(value, list):
        return [_without_tags(each, keys) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {name: _without_tags(each, keys) for name, each in value.items()}
    if isinstance(tags := kept.get("tags"), list):
        kept["tags"] = [each for each in tags if each["key"] not in keys]
        if not kept["tags"]:
            del kept["tags"]
    return kept


def _learn(recorded: Any, answer: Any, ids: dict[str, str]) -> None:
    """Note which id of the answer stands where the recording has another."""
    if isinstance(recorded, dict) and isinstance(answer, dict):
        for key in recorded.keys() & answer.keys():
            ours, theirs = answer[key], recorded[key]
            if key in MADE_UP and isinstance(theirs, str) and isinstance(ours, str):
                if theirs and theirs != ours and theirs not in ids.values():
                    ids.setdefault(theirs, ours)
            else:
                _learn(theirs, ours, ids)
    elif isinstance(recorded, list) and isinstance(answer, list) and len(recorded) == len(answer):
        for theirs, ours in zip(recorded, answer, strict=True):
            _learn(theirs, ours, ids)


def _compare(expected: Any, found: Any, place: str) -> Iterator[tuple[str, str]]:
    if isinstance(expected, dict) and isinstance(found, dict):
        yield from _compare_objects(expected, found, place)
    elif isinstance(expected, list) and isinstance(found, list):
        yield from _compare_lists(expected, found, place)
    elif FREE.search(place):
        if type(expected) is not type(found):
            yield place, f"recorded {_short(expected)}, got {_short(found)}"
    elif expected != found or type(expected) is not type(found):
        yield place, f"recorded {_short(expected)}, got {_short(found)}"


def _compare_objects(expected: dict[str, Any], found: dict[str, Any], place: str) -> Iterator[tuple[str, str]]:
    for key in expected.keys() | found.keys():
        here = f"{place}.{key}"
        if key not in found:
            yield here, f"recorded {_short(expected[key])}, got no such field"
        elif key not in expected:
            yield here, f"got {_short(found[key])}, recorded no such field"
        else:
            yield from _compare(_ordered(key, expected[key]), _ordered(key, found[key]), here)


def _compare_lists(expected: list[Any], found: list[Any], place: str) -> Iterator[tuple[str, str]]:
    if len(expected) != len(found):
        yield place, f"recorded {len(expected)} entries {_short(expected)}, got {len(found)} {_short(found)}"
        return
    for number, (theirs, ours) in enumerate(zip(expected, found, strict=True)):
        yield from _compare(theirs, ours, f"{place}[{number}]")


def _ordered(key: str, value: Any) -> Any:
    if key in UNORDERED and isinstance(value, list):
        return sorted(value, key=lambda each: json.dumps(each, sort_keys=True))
    return value


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else text[:300] + "…"
