"""Sinks, branches and plugins in a pipeline file: built with their settings, and every mistake told with its line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streamflow.config.load import load_file
from streamflow.errors import ConfigError
from streamflow.pipeline import Branch, FanOut
from streamflow.sdk.declarations import SinkDeclaration
from streamflow.sinks.jsonl import JsonlSettings
from streamflow.sinks.route import RouteSettings

if TYPE_CHECKING:
    from pathlib import Path

    from streamflow.pipeline import App


def loaded(folder: Path, text: str, **variables: str) -> App:
    file = folder / "orders.toml"
    file.write_text(text)
    return load_file(file, variables)


def problems(folder: Path, text: str, **variables: str) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        loaded(folder, text, **variables)
    return [problem.replace(f"{folder}/", "") for problem in raised.value.problems]


LINES = """
[pipelines.orders]
table = "orders"
[pipelines.orders.sink]
type = "jsonl"
path = "${FOLDER}/orders.jsonl"
"""


def test_a_sink_is_declared_with_its_settings(tmp_path: Path) -> None:
    (pipeline,) = loaded(tmp_path, LINES, FOLDER="exports").pipelines
    assert isinstance(pipeline.handler, SinkDeclaration)
    assert pipeline.handler.name == "jsonl"
    assert isinstance(pipeline.handler.settings, JsonlSettings)
    assert str(pipeline.handler.settings.path) == "exports/orders.jsonl"


def test_sinks_stand_inside_sinks(tmp_path: Path) -> None:
    text = """
        [pipelines.orders]
        table = "orders"
        [pipelines.orders.sink]
        type = "route"
        [[pipelines.orders.sink.routes]]
        when = '{"eventName": ["REMOVE"]}'
        drop = "deletes"
        [[pipelines.orders.sink.routes]]
        sink = { type = "fallback", sinks = [{ type = "console" }, { type = "json:dumps" }] }
    """
    (pipeline,) = loaded(tmp_path, text).pipelines
    assert isinstance(pipeline.handler, SinkDeclaration)
    assert isinstance(pipeline.handler.settings, RouteSettings)
    inner = pipeline.handler.settings.routes[1].sink
    assert isinstance(inner, SinkDeclaration)
    assert inner.name == "fallback"


def test_branches_have_options_of_their_own_and_the_rest_from_the_pipeline(tmp_path: Path) -> None:
    text = """
        [pipelines.orders]
        table = "orders"
        batch_size = 50
        maximum_retry_attempts = 3
        middleware = [{ type = "timeout", seconds = 9 }]
        [pipelines.orders.fan_out.lines]
        batch_size = 500
        sink = { type = "jsonl", path = "orders.jsonl" }
        [pipelines.orders.fan_out.screen]
        middleware = [{ type = "dedupe" }]
        sink = { type = "console" }
    """
    app = loaded(tmp_path, text)
    (pipeline,) = app.pipelines
    assert isinstance(pipeline.handler, FanOut)
    assert all(isinstance(branch, Branch) for branch in pipeline.handler.branches.values())
    lines, screen = app.flows
    assert (lines.name, lines.batch_size, lines.maximum_retry_attempts) == ("orders/lines", 500, 3)
    assert (screen.name, screen.batch_size, screen.maximum_retry_attempts) == ("orders/screen", 50, 3)
    assert (len(lines.middleware), len(screen.middleware)) == (1, 2)


@pytest.mark.fault("F1")
def test_every_mistake_in_a_sink_is_told_with_its_line(tmp_path: Path) -> None:
    text = """[pipelines.orders]
table = "orders"
[pipelines.orders.sink]
type = "jsonl"
pth = "orders.jsonl"
fsync = "sometimes"
rotate_bytes = 7
[pipelines.other]
table = "other"
sink = { type = "jsonll" }
[pipelines.third]
table = "third"
sink = { path = "x" }
[pipelines.fourth]
table = "fourth"
sink = "jsonl"
"""
    found = problems(tmp_path, text)
    assert found[:4] == [
        "orders.toml:3: pipelines.orders.sink.path: required, but not given",
        "orders.toml:5: pipelines.orders.sink.pth: unknown key, did you mean path?",
        "orders.toml:6: pipelines.orders.sink.fsync: should be 'batch', 'rotation' or 'never' (found 'sometimes')",
        "orders.toml:7: pipelines.orders.sink.rotate_bytes: should be greater than or equal to 1024 (found 7)",
    ]
    assert found[4].startswith(
        "orders.toml:10: pipelines.other.sink.type: type = 'jsonll': there is no plugin 'jsonll' among the sinks, did you "
        "mean jsonl? (installed: "
    )
    assert found[5:] == [
        "orders.toml:13: pipelines.third.sink: type is required: the name of a sink, or module:name of a handler of your own",
        'orders.toml:16: pipelines.fourth.sink: should be a table with type = "…", the name of a sink',
    ]


def test_a_mistake_deep_inside_is_told_where_it_stands(tmp_path: Path) -> None:
    text = """[pipelines.orders]
table = "orders"
[pipelines.orders.sink]
type = "route"
[[pipelines.orders.sink.routes]]
when = "{"
drop = "x"
[[pipelines.orders.sink.routes]]
[pipelines.orders.sink.routes.sink]
type = "jsonl"
payload = "xml"
"""
    found = problems(tmp_path, text)
    assert found[0].startswith(
        "orders.toml:6: pipelines.orders.sink.routes[0].when: Invalid filter pattern definition."
    )
    assert found[1:] == [
        "orders.toml:9: pipelines.orders.sink.routes[1].sink.path: required, but not given",
        "orders.toml:11: pipelines.orders.sink.routes[1].sink.payload: should be 'lambda', 'image' or 'change' (found 'xml')",
    ]


@pytest.mark.parametrize(
    "handlers",
    [
        "",
        'sink = { type = "console" }\nhandler = "json:dumps"',
        'sink = { type = "console" }\nfan_out = { a = { handler = "json:dumps" }, b = { handler = "json:dumps" } }',
    ],
)
def test_exactly_one_handler_is_given(tmp_path: Path, handlers: str) -> None:
    (problem,) = problems(tmp_path, f'[pipelines.orders]\ntable = "orders"\n{handlers}\n')
    assert "give either handler, lambda, sink or fan_out" in problem


@pytest.mark.parametrize("handlers", ["", 'sink = { type = "console" }\nhandler = "json:dumps"'])
def test_a_branch_has_exactly_one_handler(tmp_path: Path, handlers: str) -> None:
    other = '[pipelines.orders.fan_out.b]\nhandler = "json:dumps"\n'
    branch = f"[pipelines.orders.fan_out.a]\n{handlers}\n"
    found = problems(tmp_path, f'[pipelines.orders]\ntable = "orders"\n{branch}{other}')
    assert any("pipelines.orders.fan_out.a" in each and "give either handler, lambda or sink" in each for each in found)


def test_options_of_a_branch_that_do_not_fit_the_pipeline_are_told(tmp_path: Path) -> None:
    text = """
        [pipelines.orders]
        table = "orders"
        parallelization_factor = 4
        [pipelines.orders.fan_out]
        a = { handler = "json:dumps", tumbling_window_s = 60 }
        b = { handler = "json:dumps" }
    """
    (problem,) = problems(tmp_path, text)
    assert "orders/a" in problem
    assert "Parallelization factor must be equal to 1" in problem


def test_no_message_shows_a_secret(tmp_path: Path) -> None:
    text = """
        [pipelines.orders]
        table = "orders"
        [pipelines.orders.sink]
        type = "http"
        url = "https://example.com/hook"
        signing_secrets = ["geheim-und-zu-kurz", 7]
        headers = { authorization = "geheim\\n" }
    """
    found = problems(tmp_path, text)
    assert found
    assert "geheim" not in " ".join(found)


def test_an_unknown_layer_names_those_of_plugins_too(tmp_path: Path) -> None:
    text = '[pipelines.orders]\ntable = "orders"\nhandler = "json:dumps"\nmiddleware = [{ type = "timout" }]\n'
    (problem,) = problems(tmp_path, text)
    assert "no layer is called 'timout', did you mean timeout?" in problem


def test_a_destination_of_no_plugin_is_told(tmp_path: Path) -> None:
    text = '[pipelines.orders]\ntable = "orders"\nhandler = "json:dumps"\non_failure = { type = "pigeon" }\n'
    (problem,) = problems(tmp_path, text)
    assert "there is no plugin 'pigeon' among the destinations" in problem
