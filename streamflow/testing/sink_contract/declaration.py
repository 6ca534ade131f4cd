"""Scenarios about the declaration: what is known of a sink before it is opened."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, SecretBytes, SecretStr

from streamflow.errors import ConfigError, error_text
from streamflow.sdk.settings import is_secret
from streamflow.testing.sink_contract.changes import Changes
from streamflow.testing.sink_contract.hooks import SinkHooks
from streamflow.testing.sink_contract.imports import import_module_apart
from streamflow.testing.sink_contract.verdicts import not_promised, not_run

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamflow.sdk.declarations import SinkDeclaration

IMPORT_S_MAX = 0.5
"""Processor time to import a plugin's module: the command line loads it to validate a file."""


class DeclarationScenarios(SinkHooks):
    def test_its_settings_have_a_schema_that_describes_every_key(self, sink: SinkDeclaration) -> None:
        schema = sink.plugin.settings.model_json_schema()
        json.dumps(schema)
        tables = {"": schema, **schema.get("$defs", {})}
        silent = [
            f"{table}.{name}".lstrip(".")
            for table, part in tables.items()
            for name, key in part.get("properties", {}).items()
            if not key.get("description", "").strip()
        ]
        assert not silent, f"keys without a description: {silent}"
        assert schema.get("additionalProperties") is False, "its settings take unknown keys"

    def test_an_unknown_key_is_refused(self, sink: SinkDeclaration) -> None:
        known = sink.settings.model_dump()
        with pytest.raises(ConfigError, match="no_such_key"):
            sink.plugin(**known, no_such_key=1)

    async def test_a_secret_is_shown_nowhere(
        self,
        sink: SinkDeclaration,
        wrong_credentials: SinkDeclaration | None,
        missing_target: SinkDeclaration | None,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        declarations = [each for each in (sink, wrong_credentials, missing_target) if each is not None]
        secrets = [secret for each in declarations for secret in _secrets(each.settings)]
        if not _has_secrets(type(sink.settings)):
            not_promised("it has no secret settings")
        if not secrets:
            not_run("no secret setting is set in `sink`")
        caplog.set_level(logging.INFO)
        shown = [repr(sink), str(sink.settings), sink.settings.model_dump_json(), _mistake(sink)]
        changes = Changes()
        for declared in declarations[1:]:
            shown += [repr(declared), _mistake(declared), *await self._failure(declared, changes)]
        async with self.opened(changes) as opened:
            shown.append(repr(opened.writer))
            await opened.write(changes.batch(changes.put("told")))
        shown += [f"{record.getMessage()} {record.exc_info}" for record in caplog.records]
        leaks = [text for text in shown for secret in secrets if secret in text]
        assert not leaks, f"a secret is shown: {[_hidden(text, secrets) for text in leaks]}"

    async def _failure(self, declared: SinkDeclaration, changes: Changes) -> list[str]:
        """What opening says, with everything behind it."""
        try:
            async with self.opened(changes, declared):
                return []
        except Exception as error:  # noqa: BLE001 - another scenario is about its kind
            texts = []
            cause: BaseException | None = error
            while cause is not None:
                texts += [error_text(cause), repr(cause)]
                cause = cause.__cause__ or cause.__context__
            return texts

    def test_its_module_is_imported_quickly_and_without_any_effect(self, sink: SinkDeclaration) -> None:
        imported = import_module_apart(sink, cpu_s_max=IMPORT_S_MAX)
        assert not imported.effects, f"importing {imported.module} does more than define: {imported.effects}"
        assert imported.cpu_s < IMPORT_S_MAX, f"importing {imported.module} takes {imported.cpu_s:.2f} s"


def _secrets(settings: BaseModel) -> Iterator[str]:
    """What is in the secret fields, at any depth."""
    for name in type(settings).model_fields:
        yield from _secrets_in(getattr(settings, name))


def _secrets_in(value: Any) -> Iterator[str]:
    match value:
        case SecretStr():
            if text := value.get_secret_value():
                yield text
        case SecretBytes():
            if content := value.get_secret_value():
                yield content.decode("utf-8", "replace")
        case BaseModel():
            yield from _secrets(value)
        case list() | tuple() | set() | frozenset():
            for each in value:
                yield from _secrets_in(each)
        case dict():
            for each in value.values():
                yield from _secrets_in(each)


def _has_secrets(model: type[BaseModel]) -> bool:
    return any(is_secret(model, name) for name in model.model_fields)


def _mistake(sink: SinkDeclaration) -> str:
    """What is said of settings with mistakes, the secrets among them."""
    wrong: dict[str, Any] = {}
    for name in type(sink.settings).model_fields:
        value = getattr(sink.settings, name)
        wrong[name] = {"not": value.get_secret_value() if isinstance(value, SecretStr) else value}
    try:
        sink.plugin(**wrong)
    except ConfigError as error:
        return str(error)
    return ""


def _hidden(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, "<the secret>")
    return text[:500]
