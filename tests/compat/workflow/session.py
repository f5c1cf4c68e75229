"""What every step of the workflow shares: the client, what earlier steps made, and how observations are written."""

import re
from dataclasses import dataclass, field
from pathlib import Path

BOTH_TIMES = [("creation_timestamp", "last_updated_timestamp"), ("creation_time", "last_update_time")]
TIMES = {"start_time", "end_time"}.union(*BOTH_TIMES)
IDENTIFIERS = re.compile(r"\b(?:m-)?[0-9a-f]{32}\b|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
STEPS = {}


@dataclass(frozen=True)
class Step:
    """One step: what it does, the client majors that know it, and whether it starts mlflow's own processes."""

    act: object
    majors: tuple
    starts_processes: bool

    @property
    def module(self):
        return self.act.__module__.rpartition(".")[2]


def step(act=None, *, majors=(2, 3), starts_processes=False):
    """Add a function to the workflow; `steps.py` puts the files in order."""
    if act is None:
        return lambda function: step(function, majors=majors, starts_processes=starts_processes)
    STEPS[act.__name__] = Step(act, majors, starts_processes)
    return act


@dataclass
class Session:
    """A client of one server, used as a training script would use it."""

    mlflow: object
    folder: Path
    uri: str = ""
    made: dict = field(default_factory=dict)

    @property
    def major(self):
        return int(self.mlflow.__version__.split(".")[0])

    @property
    def client(self):
        return self.mlflow.MlflowClient()

    def use(self, uri):
        """Talk to the server at *uri* from the next call on."""
        self.uri = uri
        self.mlflow.set_tracking_uri(uri)

    def refused(self, act, *arguments, **options):
        """How the client reports that the server refused."""
        try:
            answer = act(*arguments, **options)
        except self.mlflow.exceptions.MlflowException as problem:
            return {"error_code": problem.error_code, "status": problem.get_http_status_code(), "message": str(problem)}
        return {"accepted": answer}

    def verdict(self, act, *arguments, **options):
        """How the client reports that the server refused, or that it did not; what it made is not looked at."""
        answer = self.refused(act, *arguments, **options)
        return "taken" if "accepted" in answer else answer


def plain(value):
    """The value as JSON, without what differs from run to run.

    Identifiers are numbered; of times it says that they are there, and whether a thing was changed once made.
    """
    return _plain(value, {})


def _plain(value, numbers):
    if isinstance(value, str):
        return IDENTIFIERS.sub(lambda found: f"<{numbers.setdefault(found[0], len(numbers) + 1)}>", value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if hasattr(value, "tolist"):
        return _plain(value.tolist(), numbers)
    if not isinstance(value, dict) and not type(value).__module__.startswith("mlflow.entities"):
        return [_plain(item, numbers) for item in value]
    pairs = dict(value)
    told = {str(key): _time(pairs[key]) if key in TIMES else _plain(pairs[key], numbers) for key in sorted(pairs)}
    for made, changed in BOTH_TIMES:
        if changed in pairs:
            told["was_changed"] = pairs[changed] > pairs[made]
    return told


def _time(value):
    return "<time>" if isinstance(value, int) and value > 10**12 else value
