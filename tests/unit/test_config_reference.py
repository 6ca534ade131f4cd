"""The reference page and the schema say what the models say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from streamflow.config import describing
from streamflow.config.document import AwsTable, Document, HttpTable, LambdaTable, PipelineTable
from streamflow.config.layers import BUILT_IN, OwnLayer
from streamflow.config.reference import json_schema, replace_tables
from streamflow.http_options import HttpOptions
from streamflow.pipeline import App, AwsOptions, LambdaFunction, PipelineOptions
from streamflow.plugins import sink_plugin
from streamflow.sinks.route import RouteSettings

if TYPE_CHECKING:
    from pydantic import BaseModel

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "configuration.md"


def test_the_page_is_up_to_date() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == replace_tables(page), f"run: python -m streamflow.config.reference {PAGE.name}"


def test_every_key_has_a_description() -> None:
    tables: list[type[BaseModel]] = [Document, AwsTable, HttpTable, LambdaTable, PipelineTable, OwnLayer]
    bare = [
        f"{table.__name__}.{name}"
        for table in [*tables, *BUILT_IN.values()]
        for name, field in table.model_fields.items()
        if not field.description
    ]
    assert bare == []


def test_every_declared_option_is_a_key() -> None:
    pairs: list[tuple[type[BaseModel], type[BaseModel]]] = [
        (App, Document),
        (AwsOptions, AwsTable),
        (HttpOptions, HttpTable),
        (LambdaFunction, LambdaTable),
        (PipelineOptions, PipelineTable),
    ]
    for declared, table in pairs:
        assert declared.model_fields.keys() <= table.model_fields.keys()


def test_the_schema_knows_ranges_and_layers() -> None:
    schema: dict[str, Any] = json_schema()
    pipeline = schema["$defs"]["PipelineTable"]
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["required"] == ["pipelines"]
    assert pipeline["properties"]["batch_size"]["maximum"] == 10_000
    assert pipeline["additionalProperties"] is False
    assert len(pipeline["properties"]["middleware"]["items"]["oneOf"]) == len(BUILT_IN) + 2


def test_the_reference_of_the_sinks_is_up_to_date() -> None:
    page = (DOCS / "sink-settings.md").read_text("utf-8")
    assert describing.replace_reference(page) == page, (
        "run: python -m streamflow.config.describing docs/sink-settings.md"
    )


def test_the_reference_shows_tables_inside_settings() -> None:
    assert [name for name, _ in describing.inner_tables(RouteSettings)] == ["routes"]
    assert "| `when` |" in describing.as_markdown(sink_plugin("route"))
