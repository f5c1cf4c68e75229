"""`models:/` references: what a user writes to name a model. Pure: parse and print."""

from __future__ import annotations

from dataclasses import dataclass

from registry.errors import InvalidParameter, InvalidUri
from registry.names import check_alias, check_model_id, check_model_name, check_version, is_model_id, shown

PREFIX = "models:/"


@dataclass(frozen=True, slots=True)
class ModelUri:
    """One of `models:/name@alias`, `models:/name/3`, `models:/name/latest`, `models:/m-<id>`.

    With a name and neither version nor alias it means the latest version. Raises `InvalidUri` for anything
    that can name nothing.
    """

    name: str | None = None
    version: int | None = None
    alias: str | None = None
    model_id: str | None = None

    def __post_init__(self) -> None:
        if (self.name is None) == (self.model_id is None):
            raise InvalidUri("a models:/ reference names either a registered model or a logged model")
        if self.version is not None and (self.alias is not None or self.name is None):
            raise InvalidUri("a models:/ reference has a version or an alias of a registered model, not both")
        try:
            if self.model_id is not None:
                check_model_id(self.model_id)
            if self.name is not None:
                check_model_name(self.name)
            if self.alias is not None:
                check_alias(self.alias)
            if self.version is not None:
                check_version(self.version)
        except InvalidParameter as problem:
            raise InvalidUri(str(problem)) from None

    @classmethod
    def parse(cls, text: str) -> ModelUri:
        """Read a reference as a user writes it; `01` is version 1, and `@latest` is `/latest`."""
        if not isinstance(text, str) or not text.startswith(PREFIX):
            raise InvalidUri(f"{shown(text)} does not start with 'models:/'")
        rest = text[len(PREFIX) :]
        if rest.startswith("/"):
            raise InvalidUri(f"{shown(text)} names a host; a models:/ reference has one slash and no host")
        if is_model_id(rest):
            return cls(model_id=rest)
        name, slash, last = rest.rpartition("/")
        if not slash:
            return cls._with_alias(text, rest)
        if last.lower() == "latest":
            return cls(name)
        if not (last.isascii() and last.isdecimal()):
            raise InvalidUri(
                f"{shown(text)} names neither an alias nor a version; write models:/name@alias, models:/name/3 "
                "or models:/name/latest"
            )
        try:
            return cls(name, version=check_version(last))
        except InvalidParameter as problem:
            raise InvalidUri(f"{shown(text)}: {problem}") from None

    @classmethod
    def _with_alias(cls, text: str, rest: str) -> ModelUri:
        name, at, alias = rest.rpartition("@")
        if not at:
            raise InvalidUri(
                f"{shown(text)} names neither an alias nor a version; write models:/name@alias, models:/name/3 "
                "or models:/name/latest"
            )
        return cls(name) if alias.lower() == "latest" else cls(name, alias=alias)

    def __str__(self) -> str:
        if self.model_id is not None:
            return f"{PREFIX}{self.model_id}"
        if self.alias is not None:
            return f"{PREFIX}{self.name}@{self.alias}"
        return f"{PREFIX}{self.name}/{'latest' if self.version is None else self.version}"
