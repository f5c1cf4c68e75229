"""Opening a bucket with the credentials of the environment, and saying what went wrong without showing them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from obstore.exceptions import BaseError
from obstore.store import from_url

from registry.errors import InvalidParameter, NotFound, Unavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig  # which are there for type checkers only

STORE_ERRORS = (BaseError, OSError)

RETRIES: RetryConfig = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=5), "base": 2},
}
# The whole of one request, with its body: no body is larger than a block or a part.
REQUEST_TIMEOUT = timedelta(minutes=10)
SILENCE_TIMEOUT = timedelta(seconds=30)
CONNECT_TIMEOUT = timedelta(seconds=5)

# By scheme: who keeps it, the variables of its address, and those of its credentials.
_AMAZON = (
    ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"),
    "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION",
)
_GOOGLE = ("GOOGLE_BASE_URL",), "GOOGLE_APPLICATION_CREDENTIALS"
_AZURE = ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"), "AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY"
_CLOUDS = {"s3": _AMAZON, "s3a": _AMAZON, "gs": _GOOGLE}

_STATUS = re.compile(r"status code: (\d{3})")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_NO_BUCKET = {"NoSuchBucket", "ContainerNotFound"}


def open_bucket(address: str, environment: Mapping[str, str]) -> Any:
    """The store at an address, which nobody has asked anything yet.

    Plain HTTP is used only where the environment gives an endpoint with `http://`. Raises `InvalidParameter`
    when what the environment says is incomplete.
    """
    endpoints, credentials = _CLOUDS.get(address.partition("://")[0], _AZURE)
    endpoint = next((environment[each] for each in endpoints if environment.get(each)), "")
    options: ClientConfig = {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": CONNECT_TIMEOUT,
        "read_timeout": SILENCE_TIMEOUT,
        "timeout": REQUEST_TIMEOUT,
    }
    try:
        return from_url(address, client_options=options, retry_config=RETRIES)
    except STORE_ERRORS:
        # Its own words could repeat a variable's value.
        raise InvalidParameter(
            f"the artifact store {address} cannot be opened with what the environment says: check {credentials}"
        ) from None


@contextmanager
def explain(address: str, path: str) -> Iterator[None]:
    """Turn what the library raises into one sentence: its own texts show requests, and hosts, and answers."""
    try:
        yield
    except STORE_ERRORS as problem:
        raise _explained(problem, str(problem), address, path) from None


def _explained(problem: Exception, text: str, address: str, path: str) -> NotFound | Unavailable:
    status = found[1] if (found := _STATUS.search(text)) else None
    code = found[1] if (found := _CODE.search(text)) else None
    if code in _NO_BUCKET:
        return Unavailable(f"the artifact store {address} has no such bucket or container: make it first")
    if isinstance(problem, FileNotFoundError):
        return NotFound(f"there is no file {path!r} in the artifact store")
    if status in {"401", "403"} or isinstance(problem, PermissionError):
        return Unavailable(
            f"the artifact store {address} refused access to {path!r} ({code or status}): check the credentials in "
            "the environment of this process"
        )
    if status == "412":
        return Unavailable(f"the file {path!r} was replaced while it was read: read it again")
    told = " ".join(each for each in (status, code) if each)
    return Unavailable(f"the artifact store {address} failed at {path!r}: {told or 'no answer'}; try again")
