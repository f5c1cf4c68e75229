"""One prediction, from the endpoint's split to the model's answer: the whole data path."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import random
from time import perf_counter

from gateway.deadlines import Deadline
from gateway.endpoints import Endpoint
from gateway.errors import NoSuchEndpoint
from gateway.meters import outcome_of
from gateway.servable import Servable
from gateway.worker.frames import Payload

Decode = Callable[[Servable], Payload]


async def predict(
    endpoint: Endpoint, decode: Decode, version: str | None = None, own: Deadline | None = None
) -> tuple[Payload, Servable, str]:
    """Answer with whichever version the endpoint's split picks, or with the *version* asked for while it is warm.

    *decode* turns the request's body into a payload by the signature of the version that was picked. Gives
    the answer, the servable that gave it and its role. *own* is the caller's deadline, if it named one.
    """
    begun_s = endpoint.last_used_s = perf_counter()
    while (split := endpoint.split) is None:
        await _awake(endpoint, begun_s, own)
    servable, role = split.pick(random()) if version is None else _pinned(endpoint, version)
    meter = endpoint.meters.of(servable.resolved.label, role)
    # No await between reading the split and taking the lease: a swap cannot slip in between, so a leased
    # servable is never one that has been retired.
    try:
        with servable.lease():
            answer = await servable.predict(decode(servable), own)
    except BaseException as problem:
        meter.count(outcome_of(problem), perf_counter() - begun_s)
        raise
    meter.count("ok", perf_counter() - begun_s)
    return answer, servable, role


async def _awake(endpoint: Endpoint, begun_s: float, own: Deadline | None) -> None:
    try:
        await (endpoint.awakened() if own is None else _in_time(endpoint, own))
    except BaseException as problem:
        endpoint.meters.of("", "").count(outcome_of(problem), perf_counter() - begun_s)
        raise


async def _in_time(endpoint: Endpoint, own: Deadline) -> None:
    try:
        async with asyncio.timeout_at(own.at_s):
            await endpoint.awakened()
    except TimeoutError:
        raise own.exceeded(f"endpoint {endpoint.name!r} was not loaded") from None


async def warm_version(endpoint: Endpoint, version: str | None) -> Servable:
    """That version while it is warm, or the primary, loaded for this where it sleeps.

    Raises `NotReady`, or `NoSuchEndpoint` with those that there are.
    """
    while (split := endpoint.split) is None:
        await endpoint.awakened()
    return split.primary if version is None else _pinned(endpoint, version)[0]


def _pinned(endpoint: Endpoint, version: str) -> tuple[Servable, str]:
    assert endpoint.split is not None
    warm = {each.resolved.label: (each, role) for each, role, _ in endpoint.split.shares()}
    if version not in warm:
        raise NoSuchEndpoint(
            f"endpoint {endpoint.name!r} has no version {version[:200]!r} that is warm; it has: {', '.join(warm)}"
        )
    return warm[version]
