"""Where Turnout's server answers otherwise than a stock one, on purpose."""

from dataclasses import dataclass

DIGEST = "turnout.digest"  # the digest of a version's files, a tag on every version whose files the server keeps


@dataclass(frozen=True)
class Difference:
    """One value of one step, by its path in what the step observed."""

    step: str
    path: str
    stock: object
    ours: object
    reason: str
    majors: tuple[int, ...] = (2, 3)


NOTHING = "nothing there"


def otherwise(step, path, ours, stock, reason, majors=(2, 3)):
    """The differences when each side's verdict is "taken", or an error code and an HTTP status."""
    both = [leaves(path, verdict) for verdict in (stock, ours)]
    places = both[0] | both[1]
    return [Difference(step, at, *(side.get(at, NOTHING) for side in both), reason, majors) for at in places]


def leaves(path, verdict):
    if verdict == "taken":
        return {path: verdict}
    code, status = verdict
    return {f"{path}/error_code": code, f"{path}/status": status}


INVALID = ("INVALID_PARAMETER_VALUE", 400)
ABSENT = ("RESOURCE_DOES_NOT_EXIST", 404)

DIFFERENCES = [
    Difference("files_of_a_run", "/listing/given/2/2", None, 0, "an empty file has a size, as every other"),
    *otherwise(
        "register_model_of_a_run",
        "/missing",
        INVALID,
        "taken",
        "a version has files from the start; mlflow 3's client looks for them itself",
        majors=(2,),
    ),
    *otherwise(
        "sources_that_are_refused",
        "/bucket",
        INVALID,
        "taken",
        "a bucket is a source only where the server's operator named it: its files are read with the server's rights",
    ),
    *otherwise(
        "register_logged_model",
        "/unknown",
        ABSENT,
        ("INTERNAL_ERROR", 500),
        "a client's mistake is never a server error",
        majors=(3,),
    ),
    *otherwise(
        "list_and_search_models",
        "/refused/  ",
        INVALID,
        "taken",
        "the client sends `   AND tag…`, and a filter that begins with AND is a mistake",
    ),
    *otherwise(
        "list_and_search_models",
        "/too few",
        INVALID,
        "taken",
        "a page of less than one row is a mistake; the stock server answers with none, and no token",
    ),
    *otherwise(
        "what_is_not_allowed",
        "/versions/-1",
        INVALID,
        ABSENT,
        "no version has such a number, as with any text that is no number",
    ),
    Difference(
        "aliases_that_differ_by_case",
        "/warning",
        None,
        "model 'example-model' has an alias 'champion' already: 'Champion' was set as another one, "
        "because aliases are case-sensitive",
        "setting Champion for champion is a slip of the document itself",
    ),
]
