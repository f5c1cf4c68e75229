"""MLflow's routes of registered models, versions and aliases, over HTTP on a real socket."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from registry.connection import connect
from registry.server.transport import acting
from tests.registry.serving import served

SOURCE = "s3://bucket/model"


@dataclass(frozen=True, slots=True)
class Api:
    """Calls of MLflow's routes; every refusal is an answer too."""

    host: str
    port: int
    prefix: str = "/api/2.0/mlflow"

    def call(self, method: str, path: str, **fields: Any) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        try:
            if method == "GET":
                query = f"?{urlencode(fields, doseq=True)}" if fields else ""
                connection.request(method, f"{self.prefix}/{path}{query}")
            else:
                headers = {"Content-Type": "application/json"}
                connection.request(method, f"{self.prefix}/{path}", json.dumps(fields), headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        finally:
            connection.close()

    def ok(self, method: str, path: str, **fields: Any) -> Any:
        status, answer = self.call(method, path, **fields)
        assert status == 200, answer
        return answer

    def refused(self, method: str, path: str, **fields: Any) -> tuple[int, str, str]:
        status, answer = self.call(method, path, **fields)
        assert status != 200, answer
        return status, answer["error_code"], answer["message"]


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    uri = f"sqlite:///{tmp_path / 'r.db'}"
    with connect(uri, allowed_sources=["s3://bucket"], actor=acting.get) as registry, served(registry) as at:
        yield Api(*at)


@pytest.fixture
def wine(api: Api) -> Api:
    """With a model `wine` of two versions."""
    api.ok("POST", "registered-models/create", name="wine", description="d", tags=[{"key": "a", "value": "1"}])
    for _ in range(2):
        api.ok("POST", "model-versions/create", name="wine", source=SOURCE)
    return api


def test_model_as_created(api: Api) -> None:
    """A new model has both times equal, and neither versions nor aliases."""
    made = api.ok("POST", "registered-models/create", name="wine", tags=[{"key": "a", "value": "1"}])[
        "registered_model"
    ]
    assert made["creation_timestamp"] == made["last_updated_timestamp"]
    assert made == {
        "name": "wine",
        "creation_timestamp": made["creation_timestamp"],
        "last_updated_timestamp": made["creation_timestamp"],
        "tags": [{"key": "a", "value": "1"}],
    }
    assert api.ok("GET", "registered-models/get", name="wine")["registered_model"] == made


def test_version_as_created(wine: Api) -> None:
    """A version has every field that MLflow's has, as a string, a number or empty as there."""
    made = wine.ok("POST", "model-versions/create", name="wine", source=SOURCE, run_id="r", tags=[{"key": "k"}])
    version = made["model_version"]
    assert version == {
        "name": "wine",
        "version": "3",
        "creation_timestamp": version["creation_timestamp"],
        "last_updated_timestamp": version["creation_timestamp"],
        "current_stage": "None",
        "description": "",
        "source": SOURCE,
        "run_id": "r",
        "status": "READY",
        "tags": [{"key": "k", "value": ""}],
        "run_link": "",
    }
    assert isinstance(version["creation_timestamp"], int)
    assert wine.ok("GET", "model-versions/get", name="wine", version="3") == made
    assert wine.ok("GET", "model-versions/get-download-uri", name="wine", version="3") == {"artifact_uri": SOURCE}


def test_where_aliases_are_told(wine: Api) -> None:
    """With a version and with a model, but neither in a search of versions nor inside of a model."""
    for alias in ("champion", "best"):
        assert wine.ok("POST", "registered-models/alias", name="wine", alias=alias, version="1") == {}
    by_alias = wine.ok("GET", "registered-models/alias", name="wine", alias="champion")
    assert by_alias["model_version"]["aliases"] == ["best", "champion"]
    assert wine.ok("GET", "model-versions/get", name="wine", version="1") == by_alias
    model = wine.ok("GET", "registered-models/get", name="wine")["registered_model"]
    assert model["aliases"] == [{"alias": "best", "version": "1"}, {"alias": "champion", "version": "1"}]
    found = wine.ok("GET", "model-versions/search", filter="name='wine'")["model_versions"]
    assert not any("aliases" in each for each in [*found, *model["latest_versions"]])
    assert wine.ok("DELETE", "registered-models/alias", name="wine", alias="best") == {}
    assert wine.ok("DELETE", "registered-models/alias", name="wine", alias="best") == {}


def test_descriptions(wine: Api) -> None:
    """Without the field a description is taken away; a version tells an empty one and a model does not."""
    update = {"name": "wine", "version": "1"}
    for given, told in (({"description": "x"}, "x"), ({"description": ""}, ""), ({}, None)):
        version = wine.ok("PATCH", "model-versions/update", **update, **given)["model_version"]
        model = wine.ok("PATCH", "registered-models/update", name="wine", **given)["registered_model"]
        assert (version.get("description"), model.get("description")) == (told, told or None)


def test_tags(wine: Api) -> None:
    """Tags are set, replaced and deleted, and deleting an absent one is no error."""
    for kind, fields in (("registered-models", {"name": "wine"}), ("model-versions", {"name": "wine", "version": "1"})):
        for value in ({"value": "1"}, {"value": "2"}, {}):
            assert wine.ok("POST", f"{kind}/set-tag", **fields, key="k", **value) == {}
        found = wine.ok("GET", f"{kind}/get", **fields)
        (thing,) = found.values()
        assert {"key": "k", "value": ""} in thing["tags"]
        for _ in range(2):
            assert wine.ok("DELETE", f"{kind}/delete-tag", **fields, key="k") == {}
    assert "tags" not in wine.ok("GET", "model-versions/get", name="wine", version="1")["model_version"]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_latest_versions(wine: Api, method: str) -> None:
    """By both methods, the newest of every stage or of those named."""
    wine.ok("POST", "model-versions/transition-stage", name="wine", version="1", stage="staging")
    found = wine.ok(method, "registered-models/get-latest-versions", name="wine")["model_versions"]
    assert {each["version"]: each["current_stage"] for each in found} == {"1": "Staging", "2": "None"}
    of_stage = wine.ok(method, "registered-models/get-latest-versions", name="wine", stages=["Staging"])
    assert [each["version"] for each in of_stage["model_versions"]] == ["1"]
    assert wine.ok(method, "registered-models/get-latest-versions", name="wine", stages=["Archived"]) == {}


def test_stages(wine: Api) -> None:
    """A version that moves to a stage can send the others there to the archive."""
    wine.ok("POST", "model-versions/transition-stage", name="wine", version="1", stage="Staging")
    moved = wine.ok(
        "POST", "model-versions/transition-stage",
        name="wine", version="2", stage="STAGING", archive_existing_versions=True,
    )  # fmt: skip
    assert moved["model_version"]["current_stage"] == "Staging"
    first = wine.ok("GET", "model-versions/get", name="wine", version="1")["model_version"]
    assert first["current_stage"] == "Archived"


def test_searches_and_pages(wine: Api) -> None:
    """A page has a token only if there is more; nothing found is an empty object."""
    wine.ok("POST", "registered-models/create", name="beer")
    first = wine.ok("GET", "registered-models/search", max_results=1, order_by=["name DESC"])
    assert [each["name"] for each in first["registered_models"]] == ["wine"]
    assert [each["version"] for each in first["registered_models"][0]["latest_versions"]] == ["2"]
    token = first["next_page_token"]
    rest = wine.ok("GET", "registered-models/search", max_results=1, order_by=["name DESC"], page_token=token)
    assert [each["name"] for each in rest["registered_models"]] == ["beer"]
    assert "next_page_token" not in rest
    assert wine.ok("GET", "registered-models/search", filter="name='x'", page_token="") == {}
    assert wine.ok("GET", "model-versions/search", filter="name='x'") == {}
    versions = wine.ok("GET", "model-versions/search", filter="name='wine'", order_by=["version_number ASC"])
    assert [each["version"] for each in versions["model_versions"]] == ["1", "2"]


def test_rename_and_delete(wine: Api) -> None:
    """A renamed model takes its versions along; what is deleted is gone."""
    renamed = wine.ok("POST", "registered-models/rename", name="wine", new_name="vin")["registered_model"]
    assert [each["name"] for each in renamed["latest_versions"]] == ["vin"]
    assert wine.refused("GET", "registered-models/get", name="wine")[:2] == (404, "RESOURCE_DOES_NOT_EXIST")
    assert wine.ok("DELETE", "model-versions/delete", name="vin", version="2") == {}
    assert wine.refused("DELETE", "model-versions/delete", name="vin", version="2")[0] == 404
    assert wine.ok("DELETE", "registered-models/delete", name="vin") == {}
    assert wine.ok("GET", "registered-models/search") == {}


BAD = (400, "INVALID_PARAMETER_VALUE")
ABSENT = (404, "RESOURCE_DOES_NOT_EXIST")
TAKEN = (400, "RESOURCE_ALREADY_EXISTS")


@pytest.mark.parametrize(
    ("method", "path", "fields", "code", "said"),
    [
        ("GET", "registered-models/get", {"name": "x"}, ABSENT, "Registered Model with name=x not found"),
        ("POST", "registered-models/create", {"name": "wine"}, TAKEN, "Registered Model (name=wine) already exists"),
        ("POST", "registered-models/create", {}, BAD, "Missing value for required parameter 'name'"),
        ("POST", "registered-models/create", {"name": 5}, BAD, "Invalid value 5 for parameter 'name'"),
        ("POST", "registered-models/create", {"name": "a/b"}, BAD, "a/b"),
        ("POST", "registered-models/rename", {"name": "wine"}, BAD, "'new_name'"),
        ("GET", "model-versions/get", {"name": "wine", "version": "9"}, ABSENT, "(name=wine, version=9) not found"),
        ("GET", "model-versions/get", {"name": "wine", "version": "abc"}, BAD, "must be an integer, got 'abc'."),
        ("GET", "model-versions/get", {"name": "wine", "version": "9" * 50}, BAD, "version"),
        ("PATCH", "model-versions/update", {"name": "wine", "version": 1}, BAD, "'version'"),
        ("POST", "model-versions/create", {"name": "wine"}, BAD, "'source'"),
        ("POST", "model-versions/create", {"name": "x", "source": SOURCE}, ABSENT, "name=x"),
        ("POST", "model-versions/create", {"name": "wine", "source": "mlruns/0/a/artifacts/model"}, BAD, "mlruns"),
        ("GET", "registered-models/alias", {"name": "wine", "alias": "x"}, BAD, "x"),
        ("GET", "registered-models/alias", {"name": "x", "alias": "x"}, ABSENT, "name=x"),
        ("POST", "registered-models/alias", {"name": "wine", "alias": "latest", "version": "1"}, BAD, "latest"),
        ("POST", "model-versions/transition-stage", {"name": "wine", "version": "1", "stage": "bogus"}, BAD, "bogus"),
        ("GET", "registered-models/search", {"max_results": "0"}, BAD, "max_results"),
        ("GET", "registered-models/search", {"max_results": "abc"}, BAD, "max_results"),
        ("GET", "registered-models/search", {"filter": "nme='x'"}, BAD, "nme"),
        ("GET", "model-versions/search", {"max_results": "200001"}, BAD, "max_results"),
        ("GET", "model-versions/search", {"page_token": "zz"}, BAD, "token"),
    ],
)  # fmt: skip
def test_refusals(wine: Api, method: str, path: str, fields: dict[str, Any], code: tuple[int, str], said: str) -> None:
    """A refusal has MLflow's status and code, and says what was asked."""
    found = wine.refused(method, path, **fields)
    assert found[:2] == code
    assert said in found[2]
