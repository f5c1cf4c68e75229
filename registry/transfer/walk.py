"""Everything that a registry has, page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

from registry.core import ModelVersion, RegisteredModel, Registry
from registry.errors import NotFound
from registry.page import Page

T = TypeVar("T")

IS_PROMPT_TAG = "mlflow.prompt.is_prompt"
PROMPT_SOURCE = "dummy-source"
_PROMPTS = f"tag.`{IS_PROMPT_TAG}` = 'true'"


def every(page_after: Callable[[str | None], Page[T]]) -> Iterator[T]:
    """All rows of all pages."""
    token: str | None = None
    while True:
        page = page_after(token)
        yield from page
        token = page.token
        if token is None:
            return


def models_of(registry: Registry) -> list[RegisteredModel]:
    """Every registered model, and every prompt."""
    search = registry.search_registered_models
    models = [
        *every(lambda token: search(page_token=token)),
        *every(lambda token: search(_PROMPTS, page_token=token)),
    ]
    return list({each.name: each for each in models}.values())


def versions_of(registry: Registry, model: RegisteredModel) -> list[ModelVersion]:
    """Every version of a model in the order of their numbers, whatever quotes its name has."""
    quote = '"' if "'" in model.name else "'"
    if quote in model.name or IS_PROMPT_TAG in model.tags:  # a search cannot name the one, and leaves out the other
        return list(_one_by_one(registry, model.name))
    search = registry.search_model_versions
    found = every(lambda token: search(f"name = {quote}{model.name}{quote}", page_token=token))
    return sorted(found, key=lambda each: int(each.version))


def _one_by_one(registry: Registry, name: str) -> Iterator[ModelVersion]:
    newest = max((int(each.version) for each in registry.get_latest_versions(name)), default=0)
    for number in range(1, newest + 1):
        try:
            yield registry.get_model_version(name, number)
        except NotFound:
            continue
