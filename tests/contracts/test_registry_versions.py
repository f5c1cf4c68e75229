"""Model versions, on every implementation of `Registry`."""

from __future__ import annotations

import shutil
import threading

import pytest

from registry.artifacts import Manifest
from registry.errors import InvalidParameter, NotFound, RegistryError


@pytest.fixture(autouse=True)
def model(registry):
    """A model named wine."""
    return registry.create_registered_model("wine")


def test_create_and_get(registry, make_version):
    """A new version has a number, its source, its actor, the digest of its files, and is ready."""
    made = make_version(tags={"a": 1}, run_link="http://x/y", description="first")

    assert registry.get_model_version("wine", "1") == made == registry.get_model_version("wine", 1)
    assert (made.version, made.status, made.current_stage, made.user_id) == ("1", "READY", "None", "ana")
    assert made.creation_timestamp == made.last_updated_timestamp
    assert made.source == f"models:/{made.model_id}"
    assert (made.run_link, made.description) == ("http://x/y", "first")
    assert made.tags == {"a": "1", "turnout.digest": made.digest}
    manifest = registry.get_model_version_manifest("wine", 1)
    assert [each.path for each in manifest.files] == ["MLmodel"]
    assert manifest.digest == made.digest
    model = registry.get_registered_model("wine")
    assert model.last_updated_timestamp >= made.creation_timestamp
    assert [each.version for each in model.latest_versions] == ["1"]


def test_numbers_are_never_used_again(registry, make_version):
    """Deleting the newest version does not free its number."""
    make_version()
    make_version()

    registry.delete_model_version("wine", 2)

    assert make_version().version == "3"


def test_description_is_empty_by_default(registry, make_version):
    """A version made without a description has an empty one, and an update without one clears it."""
    assert make_version().description == ""

    assert registry.update_model_version("wine", 1, "text").description == "text"
    assert registry.update_model_version("wine", 1, "").description == ""
    assert registry.update_model_version("wine", 1).description is None


@pytest.mark.parametrize(
    "version", ["-1", -1, "1e3", "٣", "", " 1", "1.0", None, True, 1.5, "9" * 19, 10**30, "latest"]
)
def test_tf075_odd_version_numbers(registry, make_version, version):
    """Only ASCII decimals in a sane range name a version."""
    make_version()

    for call in (
        lambda: registry.get_model_version("wine", version),
        lambda: registry.delete_model_version("wine", version),
        lambda: registry.set_registered_model_alias("wine", "champion", version),
    ):
        with pytest.raises(InvalidParameter):
            call()


def test_leading_zeros_are_accepted(registry, make_version):
    """`01` is version 1, as in MLflow."""
    make_version()

    assert registry.get_model_version("wine", "01").version == "1"


def test_unknown_version(registry, make_version):
    """Every method that names a version says NotFound when there is none."""
    make_version()

    for call in (
        lambda: registry.get_model_version("wine", 7),
        lambda: registry.get_model_version("wine", 0),
        lambda: registry.get_model_version("wine", 2**31 - 1),
        lambda: registry.update_model_version("wine", 7, "x"),
        lambda: registry.delete_model_version("wine", 7),
        lambda: registry.get_model_version_download_uri("wine", 7),
        lambda: registry.get_model_version_manifest("wine", 7),
        lambda: registry.transition_model_version_stage("wine", 7, "Staging"),
        lambda: registry.set_model_version_tag("wine", 7, "a", "b"),
        lambda: registry.delete_model_version_tag("wine", 7, "a"),
        lambda: registry.set_registered_model_alias("wine", "champion", 7),
        lambda: registry.copy_model_version("models:/wine/7", "grape"),
    ):
        with pytest.raises(NotFound):
            call()


def test_delete_removes_aliases_and_keeps_their_history(registry, make_version):
    """Deleting a version removes the aliases on it; the history says so; a second delete finds nothing."""
    make_version()
    make_version()
    registry.set_registered_model_alias("wine", "champion", 2)
    before = registry.get_registered_model("wine")

    registry.delete_model_version("wine", 2)

    after = registry.get_registered_model("wine")
    assert after.aliases == {}
    assert after.last_updated_timestamp >= before.last_updated_timestamp
    last = registry.get_alias_history("wine", "champion")[0]
    assert (last.from_version, last.to_version, last.by) == ("2", None, "ana")
    with pytest.raises(NotFound):
        registry.delete_model_version("wine", 2)


def test_latest_versions_one_for_each_stage(registry, make_version):
    """`latest_versions` has the newest of each stage without aliases, get_latest_versions has them with."""
    for _ in range(4):
        make_version()
    registry.transition_model_version_stage("wine", 1, "production")
    registry.transition_model_version_stage("wine", 2, "PRODUCTION")
    registry.set_registered_model_alias("wine", "champion", 2)

    nested = registry.get_registered_model("wine").latest_versions
    assert {each.current_stage: (each.version, list(each.aliases)) for each in nested} == {
        "None": ("4", []),
        "Production": ("2", []),
    }
    assert [(each.version, list(each.aliases)) for each in registry.get_latest_versions("wine", ["Production"])] == [
        ("2", ["champion"])
    ]
    assert {each.version for each in registry.get_latest_versions("wine")} == {"2", "4"}
    assert registry.get_latest_versions("wine", ["archived"]) == []


def test_latest_versions_of_a_stage_named_twice(registry, make_version):
    """A stage that is named twice is answered once, and one that is no list is refused."""
    make_version()
    registry.transition_model_version_stage("wine", 1, "Staging")

    assert len(registry.get_latest_versions("wine", ["Staging", "staging"])) == 1
    for stages in ("Staging", b"Staging", 3):
        with pytest.raises(InvalidParameter, match="must be a list"):
            registry.get_latest_versions("wine", stages)


def test_archiving_is_asked_for_by_a_bool(registry, make_version):
    """The text 'false' does not archive: it is refused."""
    make_version()

    with pytest.raises(InvalidParameter, match="True or False"):
        registry.transition_model_version_stage("wine", 1, "Staging", archive_existing_versions="false")


def test_transition_archives_others_if_asked(registry, make_version):
    """Moving to a stage archives its other versions when asked to, for Staging and Production only."""
    for _ in range(3):
        make_version()
    registry.transition_model_version_stage("wine", 1, "Production")

    registry.transition_model_version_stage("wine", 2, "Production", archive_existing_versions=True)

    assert [registry.get_model_version("wine", each).current_stage for each in (1, 2, 3)] == [
        "Archived",
        "Production",
        "None",
    ]
    for stage in ("None", "Archived"):
        with pytest.raises(InvalidParameter):
            registry.transition_model_version_stage("wine", 3, stage, archive_existing_versions=True)
    with pytest.raises(InvalidParameter):
        registry.transition_model_version_stage("wine", 3, "bogus")


def test_tags_by_number_or_stage(registry, make_version):
    """A version's tag is set by its number, or by a stage whose newest version is meant."""
    made = make_version()
    make_version()
    registry.transition_model_version_stage("wine", 1, "Staging")

    registry.set_model_version_tag("wine", "1", "a", "b")
    registry.set_model_version_tag("wine", key="c", value="d", stage="staging")
    registry.delete_model_version_tag("wine", "1", "absent")

    found = registry.get_model_version("wine", 1)
    assert {key: found.tags[key] for key in ("a", "c")} == {"a": "b", "c": "d"}
    registry.delete_model_version_tag("wine", key="a", stage="Staging")
    assert "a" not in registry.get_model_version("wine", 1).tags
    assert registry.get_model_version("wine", 1).creation_timestamp == made.creation_timestamp
    with pytest.raises(InvalidParameter):
        registry.set_model_version_tag("wine", 1, "a", "b", stage="Staging")
    with pytest.raises(InvalidParameter):
        registry.set_model_version_tag("wine", key="a", value="b")
    with pytest.raises(NotFound):
        registry.set_model_version_tag("wine", key="a", value="b", stage="Archived")


def test_tf101_digest_is_the_registrys_own(registry, make_version):
    """A client cannot give, set or delete the digest of a version's files."""
    made = make_version(tags={"turnout.digest": "sha256:forged"})

    assert made.digest == registry.get_model_version_manifest("wine", 1).digest
    with pytest.raises(InvalidParameter):
        registry.set_model_version_tag("wine", 1, "turnout.digest", "sha256:forged")
    with pytest.raises(InvalidParameter):
        registry.delete_model_version_tag("wine", 1, "turnout.digest")
    assert registry.get_model_version("wine", 1).digest == made.digest


def test_copy(registry, make_version):
    """A copy has the tags, run, link, description, files and digest of its source, and no aliases."""
    source = make_version(tags={"a": "b"}, description="text", run_link="http://x", run_id="r1")
    registry.set_registered_model_alias("wine", "champion", 1)

    made = registry.copy_model_version("models:/wine@champion", "prod")

    assert (made.name, made.version, made.source) == ("prod", "1", "models:/wine/1")
    assert (made.tags, made.description, made.run_link) == (source.tags, "text", "http://x")
    assert (made.run_id, made.digest, list(made.aliases)) == ("r1", source.digest, [])
    again = registry.copy_model_version("models:/prod/latest", "prod")
    assert (again.version, again.source) == ("2", "models:/prod/1")


def test_copies_survive_their_source(registry, make_version):
    """A copy of a copy has files, location and manifest after everything it came from is gone."""
    source = make_version()
    place = registry.get_model_version_download_uri("wine", 1)
    manifest = registry.get_model_version_manifest("wine", 1)
    registry.copy_model_version("models:/wine/1", "stage")
    registry.copy_model_version("models:/stage/1", "prod")

    registry.delete_registered_model("wine")
    registry.rename_registered_model("stage", "gone")
    registry.delete_model_version("gone", 1)

    assert place == f"mlflow-artifacts:/0/models/{source.model_id}/artifacts"
    assert registry.get_model_version_download_uri("prod", 1) == place
    assert registry.get_model_version_manifest("prod", 1) == manifest
    assert registry.get_model_version("prod", 1).source == "models:/stage/1"


def test_copy_of_nothing_makes_no_model(registry):
    """A refused copy leaves no destination model behind."""
    for source in (
        "models:/wine/7",
        "models:/wine@champion",
        "models:/wine/latest",
        f"models:/m-{'0' * 32}",
        "runs:/a/b",
    ):
        with pytest.raises(RegistryError):
            registry.copy_model_version(source, "prod")

    with pytest.raises(NotFound):
        registry.get_registered_model("prod")


def test_movable_sources_are_stored_concrete(registry, make_version):
    """`models:/name/latest` and `models:/name@alias` as a source become the version that they name now."""
    make_version()
    registry.set_registered_model_alias("wine", "champion", 1)

    assert registry.create_model_version("wine", "models:/wine@champion").source == "models:/wine/1"
    assert registry.create_model_version("wine", "models:/wine/latest").source == "models:/wine/2"


def test_run_id_comes_from_the_source_and_cannot_differ(registry, make_version):
    """A version has its source's run; another run or model id with it is refused."""
    source = make_version(run_id="r1")

    assert registry.create_model_version("wine", "models:/wine/1").run_id == "r1"
    assert registry.create_model_version("wine", source.source, model_id=source.model_id).run_id is None
    for arguments in ({"run_id": "r2"}, {"model_id": f"m-{'0' * 32}"}, {"model_id": "x"}):
        with pytest.raises(InvalidParameter):
            registry.create_model_version("wine", "models:/wine/1", **arguments)


# Not over HTTP: nobody can change registered files over HTTP.
@pytest.mark.parametrize("registry", ["sqlite", "postgresql"], indirect=True)
def test_manifest_tells_changed_files(registry, make_version):
    """The recorded manifest stays what it was when a file changes or goes."""
    made = make_version()
    prefix = f"0/models/{made.model_id}/artifacts"
    recorded = registry.get_model_version_manifest("wine", 1)
    assert registry.artifacts.manifest(prefix) == recorded

    shutil.copy("/dev/null", f"{registry.artifacts.root}/{prefix}/MLmodel")

    assert registry.get_model_version_manifest("wine", 1) == recorded
    assert isinstance(registry.artifacts.manifest(prefix), Manifest)
    assert registry.artifacts.manifest(prefix) != recorded


def test_tf132_concurrent_creation_gives_dense_numbers(registry, make_version):
    """Eight threads that create versions at once get different numbers without gaps."""
    source = make_version().source
    made: list[int] = []

    def create() -> None:
        for _ in range(5):
            made.append(int(registry.create_model_version("wine", source).version))

    threads = [threading.Thread(target=create) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()

    assert sorted(made) == list(range(2, 42))
