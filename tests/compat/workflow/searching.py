"""Lists and searches: filters, order and pages of models and versions."""

from .organizing import registered
from .session import step

MODEL_FILTERS = [
    "name = 'find-a'",
    "name != 'find-a'",
    "name LIKE 'find-%'",
    "name ILIKE 'FIND-%'",
    "name IN ('find-a', 'find-c')",
    "tags.team = 'red'",
    "tags.team != 'red' AND name LIKE 'find-%'",
    "tags.`team` LIKE 'r%' AND tags.size = '2'",
    "tag.team ILIKE 'RED'",
    "",
]
BAD_MODEL_FILTERS = ["name = find-a", "name > 'a'", "description = 'x'", "name = 'a' OR name = 'b'", "nonsense", "  "]
VERSION_FILTERS = [
    "name = 'find-a'",
    "name LIKE 'find-%' AND version_number > 1",
    "name = 'find-a' AND version_number >= 1 AND version_number <= 2",
    "name = 'find-a' AND version_number != 2",
    "name = 'find-a' AND tags.kind = 'good'",
    "name IN ('find-a', 'find-b') AND version_number = 1",
    "source_path LIKE 'mlflow-artifacts:/nowhere%'",
    "run_id = '00000000000000000000000000000000'",
    "run_id IN ('00000000000000000000000000000000')",
]
BAD_VERSION_FILTERS = ["version = 1", "version_number = 1.5", "name > 'a'", "current_stage = 'None'", "name = 'a' OR 1"]
ORDERS = [["name DESC"], ["timestamp ASC"], ["last_updated_timestamp DESC"], ["name"], ["bogus"], ["name SIDEWAYS"]]
VERSION_ORDERS = [["version_number ASC"], ["name ASC", "version_number DESC"], ["creation_timestamp DESC"], ["bogus"]]


def found_names(session, **query):
    query.setdefault("filter_string", "name LIKE 'find-%'")
    answer = session.refused(session.client.search_registered_models, **query)
    return [model.name for model in answer["accepted"]] if "accepted" in answer else answer


def found_versions(session, filter_string, **query):
    answer = session.refused(session.client.search_model_versions, filter_string, **query)
    return [[found.name, found.version] for found in answer["accepted"]] if "accepted" in answer else answer


@step
def list_and_search_models(session):
    """Every comparison on names and tags, every order, and what is refused."""
    client = session.client
    for name, team in (("find-c", "red"), ("find-a", "red"), ("find-B", "blue"), ("find-b", None)):
        client.create_registered_model(name, tags={"team": team, "size": "2"} if team else None, description=name)
    registered(session, "find-versions", 2)
    client.set_registered_model_alias("find-versions", "champion", "1")
    whole = client.search_registered_models("name = 'find-versions'")
    return {
        "whole": list(whole),
        "filters": {text: found_names(session, filter_string=text) for text in MODEL_FILTERS},
        "refused": {
            text: session.verdict(client.search_registered_models, filter_string=text) for text in BAD_MODEL_FILTERS
        },
        "orders": {str(order): found_names(session, order_by=order) for order in ORDERS},
        "too many": found_names(session, max_results=1001),
        "too few": session.verdict(client.search_registered_models, max_results=-1),
        "bad token": found_names(session, page_token="bogus"),
    }


@step
def pages_of_models(session):
    """Pages of two follow one another without overlap, and the last has no token."""
    pages, token = [], None
    while token or not pages:
        page = session.client.search_registered_models("name LIKE 'find-%'", max_results=2, page_token=token)
        pages.append([model.name for model in page])
        token = page.token
    return {"pages": pages, "end": token}


@step
def search_model_versions(session):
    """Every comparison on versions, every order, pages, and what is refused."""
    client, run_id = session.client, session.made["forest_run"]
    for name, count in (("find-a", 3), ("find-b", 2)):
        for _ in range(count):
            session.mlflow.register_model(f"runs:/{run_id}/sklearn-model", name)
    client.set_model_version_tag("find-a", "2", "kind", "good")
    both = "name IN ('find-a', 'find-b')"
    pages, token = [], None
    while token or not pages:
        page = client.search_model_versions(both, max_results=2, order_by=["name", "version_number"], page_token=token)
        pages.append([[found.name, found.version] for found in page])
        token = page.token
    return {
        "whole": list(client.search_model_versions("name = 'find-b'", order_by=["version_number ASC"])),
        "filters": {text: sorted(found_versions(session, text)) for text in VERSION_FILTERS},
        "of the run": len(client.search_model_versions(f"run_id = '{run_id}' and name LIKE 'find-%'")),
        "refused": {text: found_versions(session, text) for text in BAD_VERSION_FILTERS},
        "orders": {str(order): found_versions(session, both, order_by=order) for order in VERSION_ORDERS},
        "default order": found_versions(session, "name = 'find-a'"),
        "pages": pages,
        "too many": found_versions(session, both, max_results=200001),
        "too few": found_versions(session, both, max_results=0),
    }
