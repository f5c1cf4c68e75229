"""Where everything has its page. Templates and handlers write no address by hand."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from registry.server.ui.assets import Assets


class Links:
    """Addresses below the prefix that the server stands under. Names may hold anything: each is percent-encoded."""

    def __init__(self, prefix: str, assets: Assets) -> None:
        self._prefix = prefix
        self._assets = assets

    def asset(self, path: str) -> str:
        return self._prefix + self._assets.address(path)

    def models(self, **query: object) -> str:
        return self._at((), query)

    def model(self, name: str, *more: str, **query: object) -> str:
        return self._at(("models", name, *more), query)

    def version(self, name: str, version: str, *more: str, **query: object) -> str:
        return self._at(("models", name, "versions", version, *more), query)

    def new_model(self, **query: object) -> str:
        return self._at(("models",), query)

    def experiments(self, **query: object) -> str:
        return self._at(("experiments",), query)

    def experiment(self, experiment_id: str, **query: object) -> str:
        return self._at(("experiments", experiment_id), query)

    def run(self, run_id: str, *more: str, **query: object) -> str:
        return self._at(("runs", run_id, *more), query)

    def compare_runs(self) -> str:
        return self._at(("compare-runs",), {})

    def logged_model(self, model_id: str, **query: object) -> str:
        return self._at(("logged-models", model_id), query)

    def deployments(self, **query: object) -> str:
        return self._at(("deployments",), query)

    def stream(self) -> str:
        return self._at(("deployments", "events"), {})

    def endpoint(self, gateway: str, endpoint: str, **query: object) -> str:
        return self._at(("deployments", gateway, endpoint), query)

    def trial(self, gateway: str, endpoint: str, **query: object) -> str:
        return self._at(("deployments", gateway, endpoint, "try"), query)

    def rollback(self, name: str, alias: str) -> str:
        """The question whether to roll back, which leads back to the deployments."""
        return self.model(name, "aliases", alias, "rollback", back="deployments")

    def names(self) -> str:
        return self._at(("names",), {})

    def register(self, *more: str, **query: object) -> str:
        return self._at(("register", *more), query)

    def file(self, path: str) -> str:
        """The file itself, to be saved: browsers are told never to show it."""
        return self._at(("api", "2.0", "mlflow-artifacts", "artifacts", *path.split("/")), {})

    def _at(self, parts: tuple[str, ...], query: dict[str, object]) -> str:
        path = "/" + "/".join(quote(each, safe="@") for each in parts)
        given = {key: value for key, value in query.items() if value not in (None, "")}
        return self._prefix + path + (f"?{urlencode(given)}" if given else "")
