"""What can go wrong in a gateway, each with the code and the status that its clients see.

GatewayError
├── InvalidSettings        wrong usage at the start: exit code 2, no request sees it
├── CannotListen           the address is taken or not ours: exit code 1
├── LoadFailed             a version could not be brought up: `/status` and the log show it
├── BatchFailed            a batch prediction that cannot begin, or cannot go on: exit code 1
│   ├── BadRow             something in the input that cannot be read, or that the model refuses
│   └── BatchInterrupted   Ctrl-C or SIGTERM: exit code 130
├── BadRequest             400 BAD_REQUEST: a body that cannot be read
│   ├── PayloadTooLarge    413: over `max_body`
│   ├── BodyStalled        the client stopped sending, or sends too slowly
│   ├── HeadTooLarge       431: request line and headers, or trailers, over 64 KiB
│   ├── NotHttp            what comes is no HTTP/1.1 request, or its body is not as its headers say
│   └── UnsupportedMediaType  415: a content type that the scoring protocol does not know
├── ModelError             as the replica says: what the model raised (400), or refused
├── NoSuchEndpoint         404 RESOURCE_DOES_NOT_EXIST: no such endpoint, or no such warm version
├── Overloaded             429 REQUEST_LIMIT_EXCEEDED: the line is full, or too long for the request; Retry-After
├── NotReady               503 TEMPORARILY_UNAVAILABLE: nothing to serve at this moment; Retry-After
├── ReplicaDied            503 TEMPORARILY_UNAVAILABLE: the process that worked on it ended; Retry-After
├── DeadlineExceeded       504 DEADLINE_EXCEEDED: no answer within `predict_timeout`, or the request's own time
└── ClientGone             nobody is left to be answered
"""

from __future__ import annotations

from math import ceil


class GatewayError(Exception):
    """The root: `str(error)` is one sentence that says what was asked, what was found and what to do."""

    error_code = "INTERNAL_ERROR"
    http_status = 500
    retry_after_s: int | None = None
    closes_connection = False  # because the rest of the request is not read


class InvalidSettings(GatewayError):
    pass


class CannotListen(GatewayError):
    pass


class LoadFailed(GatewayError):
    pass


class BatchFailed(GatewayError):
    pass


class BadRow(BatchFailed):
    pass


class BatchInterrupted(BatchFailed):
    pass


class BadRequest(GatewayError):
    error_code = "BAD_REQUEST"
    http_status = 400


class PayloadTooLarge(BadRequest):
    http_status = 413
    closes_connection = True


class BodyStalled(BadRequest):
    closes_connection = True


class HeadTooLarge(BadRequest):
    http_status = 431
    closes_connection = True


class NotHttp(BadRequest):
    closes_connection = True


class UnsupportedMediaType(BadRequest):
    http_status = 415


class ModelError(GatewayError):
    """What the replica answered instead of a prediction."""

    def __init__(self, message: str, error_code: str, http_status: int) -> None:
        super().__init__(message)
        self.error_code = error_code
        self.http_status = http_status


class NoSuchEndpoint(GatewayError):
    error_code = "RESOURCE_DOES_NOT_EXIST"
    http_status = 404


class Overloaded(GatewayError):
    error_code = "REQUEST_LIMIT_EXCEEDED"
    http_status = 429

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = max(1, ceil(wait_s))


class NotReady(GatewayError):
    error_code = "TEMPORARILY_UNAVAILABLE"
    http_status = 503
    retry_after_s = 1


class ReplicaDied(GatewayError):
    """The replica ended before it answered; `started` tells whether it can have begun the request."""

    error_code = "TEMPORARILY_UNAVAILABLE"
    http_status = 503
    retry_after_s = 1

    def __init__(self, message: str, *, started: bool) -> None:
        super().__init__(message)
        self.started = started


class DeadlineExceeded(GatewayError):
    error_code = "DEADLINE_EXCEEDED"
    http_status = 504


class ClientGone(GatewayError):
    pass
