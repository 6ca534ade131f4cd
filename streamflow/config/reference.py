"""The reference of the pipeline file: its JSON schema, and the tables of `docs/configuration.md`.

`python -m streamflow.config.reference docs/configuration.md` writes the tables between the two marks of that page.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic.json_schema import GenerateJsonSchema

from streamflow.config.document import AwsTable, BranchTable, Document, HttpTable, LambdaTable, PipelineTable
from streamflow.config.layers import BUILT_IN, OwnLayer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

    from streamflow.config.table import Table

BEGIN, END = "<!-- begin of the generated tables -->", "<!-- end of the generated tables -->"

_TABLES: tuple[tuple[str, type[Table]], ...] = (
    ("The top of the file", Document),
    ("`[aws]` and `[pipelines.NAME.aws]`", AwsTable),
    ("`[http]`", HttpTable),
    ("`[pipelines.NAME]`", PipelineTable),
    ("`[pipelines.NAME.fan_out.BRANCH]`", BranchTable),
    ("`[pipelines.NAME.lambda]`", LambdaTable),
    *((f'`[[pipelines.NAME.middleware]]` with `type = "{name}"`', layer) for name, layer in BUILT_IN.items()),
    ('`[[pipelines.NAME.middleware]]` with `type = "module:name"`', OwnLayer),
)
_LIMITS = (("exclusiveMinimum", "more than {}"), ("minimum", "from {}"), ("maximum", "to {}"))


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of a pipeline file, for editors."""
    return {"$schema": GenerateJsonSchema.schema_dialect, **Document.model_json_schema()}


def render() -> str:
    """The tables in Markdown: every key with its type and range, default, meaning and an example."""
    return "\n".join(line for title, model in _TABLES for line in _table(title, model))


def replace_tables(page: str) -> str:
    """`page` with what stands between its marks replaced by `render()`."""
    before, _, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{render()}\n{END}{after}"


def _table(title: str, model: type[Table]) -> Iterator[str]:
    yield from ("", f"### {title}", "", (model.__doc__ or "").replace("\n    ", " "), "")
    yield from settings_rows(model)


def settings_rows(model: type[BaseModel]) -> Iterator[str]:
    """A table with a row for each key of the model, required ones first."""
    yield from ("| key | type | default | meaning | example |", "|---|---|---|---|---|")
    for each in settings(model):
        yield f"| `{each.name}` | {each.type} | {each.default} | {each.meaning} | {each.example} |"


class Setting(NamedTuple):
    """One key, with everything about it as Markdown; `default` is `required` where there is none."""

    name: str
    type: str
    default: str
    meaning: str
    example: str


def settings(model: type[BaseModel]) -> Iterator[Setting]:
    """The keys of the model, required ones first."""
    schema = model.model_json_schema()
    definitions = schema.get("$defs", {})
    required = schema.get("required", [])
    for name, field in sorted(schema.get("properties", {}).items(), key=lambda item: item[0] not in required):
        yield Setting(
            name=name,
            type=_type(field, definitions),
            default="required" if name in required else _default(field.get("default")),
            meaning=field.get("description", "").replace("\n", " "),
            example=_code(field["examples"][0]) if field.get("examples") else "",
        )


def _type(field: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "anyOf" in field:
        return " or ".join(_type(each, definitions) for each in field["anyOf"] if each.get("type") != "null")
    if field.get("format") == "password":
        return "secret string"
    if "$ref" in field or "oneOf" in field:
        return _type(_resolved(field, definitions), definitions)
    if "patternProperties" in field:
        return "tables by name"
    if "const" in field or "enum" in field:
        return " or ".join(_code(each) for each in field.get("enum", [field.get("const")]))
    if field.get("type") == "object":
        return "table"
    if field.get("type") == "array":
        most = f"up to {field['maxItems']} " if "maxItems" in field else ""
        return f"array of {most}{_type(field['items'], definitions)}s"
    limits = " ".join(text.format(f"{field[key]:,}") for key, text in _LIMITS if key in field)
    return f"{field.get('type', 'any')}{' ' if limits else ''}{limits}"


def _resolved(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    found = definitions.get(field.get("$ref", "").rpartition("/")[2], {})
    return found if "enum" in found else {"type": "object"}


def _default(value: object) -> str:
    """Keys that may be left out without anything in their place, and whole tables, have no default worth showing."""
    return "-" if value in (None, [], ()) or isinstance(value, dict) else _code(value)


def _code(value: object) -> str:
    return f"`{json.dumps(value)}`"


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.write_text(replace_tables(target.read_text(encoding="utf-8")), encoding="utf-8")
