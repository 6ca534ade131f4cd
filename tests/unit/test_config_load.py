"""What a command line names becomes an app, or every mistake in it is told with file and line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from streamflow.config.load import load_app, load_file
from streamflow.errors import ConfigError
from streamflow.handlers.lambda_function import load_function
from streamflow.http_options import HttpOptions
from streamflow.pipeline import AwsOptions, DynamoDBStream, LambdaFunction
from streamflow.plugins import names as names_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CODE = """\
from streamflow import App, DynamoDBStream, Pipeline

async def deliver(batch): ...
def two(event, context): ...
def is_test_order(record): return False
async def own_layer(batch, call_next): ...
def factory(size, name="x"): return own_layer
def failing_factory(): raise RuntimeError("no network")
def no_layer(): return 3
class Handler: ...
pipeline = Pipeline(name="orders", source=DynamoDBStream(table="orders"), handler=deliver)
app = App(pipelines=(pipeline,), store="memory:")
"""

MINIMAL = '[pipelines.orders]\ntable = "orders"\nhandler = "CODE:deliver"\n'


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a fresh module in the current directory; modules and search path are restored afterwards."""
    name = f"code_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield name
    for module in set(sys.modules) - before:
        if name in module:
            del sys.modules[module]


def problems(tmp_path: Path, code: str, text: str, **variables: str) -> list[str]:
    file = tmp_path / "orders.toml"
    file.write_text(text.replace("CODE", code))
    with pytest.raises(ConfigError) as raised:
        load_file(file, variables)
    return [problem.replace(code, "CODE") for problem in raised.value.problems]


# --- files that are right --------------------------------------------------------------------------------------------


def test_a_file_becomes_an_app(tmp_path: Path, code: str) -> None:
    text = """
        store = "${STORE:-memory:}"
        worker_id = "orders-0"
        lease_duration_s = 20
        [aws]
        region = "eu-west-1"
        [http]
        port = "${PORT}"
        [pipelines.orders]
        table = "orders"
        handler = "CODE:deliver"
        batch_size = 7
        middleware = [{ type = "timeout", seconds = 3 }, { type = "log_batches" }]
    """
    file = tmp_path / "orders.toml"
    file.write_text(text.replace("CODE", code))
    app = load_file(file, {"PORT": "9102"})
    assert (app.store, app.worker_id, app.lease_duration_s) == ("memory:", "orders-0", 20)
    assert app.aws == AwsOptions(region="eu-west-1")
    assert app.http == HttpOptions(port=9102)
    [pipeline] = app.pipelines
    assert (pipeline.name, pipeline.batch_size, len(pipeline.middleware)) == ("orders", 7, 2)
    assert pipeline.source == DynamoDBStream(table="orders")
    assert pipeline.handler is sys.modules[code].deliver


def test_every_built_in_layer_is_made(tmp_path: Path, code: str) -> None:
    layers = """
        { type = "timeout", seconds = 3 }, { type = "log_batches", logger = "orders" },
        { type = "drop", predicate = "CODE:is_test_order", reason = "test" }, { type = "dedupe", capacity = 10 },
        { type = "concurrency_limit", limit = 2 }, { type = "CODE:own_layer" }, { type = "CODE:factory", size = 3 },
    """
    file = tmp_path / "orders.toml"
    file.write_text(f"{MINIMAL}middleware = [{layers}]\n".replace("CODE", code))
    [pipeline] = load_file(file, {}).pipelines
    own = sys.modules[code].own_layer
    assert [callable(layer) for layer in pipeline.middleware] == [True] * 7
    assert pipeline.middleware[5:] == (own, own)


@pytest.mark.parametrize("written", ['"CODE:two"', '{ target = "CODE.py:two", timeout_s = 3 }'])
def test_a_lambda_function_is_named_by_its_module(tmp_path: Path, code: str, written: str) -> None:
    file = tmp_path / "orders.toml"
    file.write_text(f'[pipelines.orders]\ntable = "orders"\nlambda = {written}\n'.replace("CODE", code))
    [pipeline] = load_file(file, {}).pipelines
    assert pipeline.handler == LambdaFunction(target=f"{code}:two")


def test_files_of_one_name_are_two_functions(tmp_path: Path, code: str) -> None:
    text = ""
    for folder in ("orders", "invoices"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"lambda_{code}.py").write_text(f"def handler(event, context): return {folder!r}\n")
        text += f'[pipelines.{folder}]\ntable = "orders"\nlambda = "{folder}/lambda_{code}.py:handler"\n'
    file = tmp_path / "both.toml"
    file.write_text(text)
    declared = [pipeline.handler for pipeline in load_file(file, {}).pipelines]
    assert [load_function(each.target)({}, None) for each in declared] == ["orders", "invoices"]  # type: ignore[arg-type]


def test_modules_are_found_beside_the_file(tmp_path: Path, code: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / f"beside_{code}.py").write_text("async def deliver(batch): ...\n")
    file = folder / "orders.toml"
    file.write_text(MINIMAL.replace("CODE", f"beside_{code}"))
    assert load_file(file, {}).pipelines[0].name == "orders"


@pytest.mark.parametrize("target", ["CODE:app", "CODE:pipeline", "CODE.py:app", "./CODE.py:pipeline"])
def test_an_app_or_a_pipeline_is_loaded_from_code(code: str, target: str) -> None:
    app = load_app(target.replace("CODE", code))
    assert [pipeline.name for pipeline in app.pipelines] == ["orders"]


def test_a_file_inside_a_package_keeps_its_relative_imports(tmp_path: Path, code: str) -> None:
    package = tmp_path / f"package_{code}"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "inner.py").write_text(CODE)
    (package / "outer.py").write_text("from .inner import app\n")
    assert load_app(f"{package}/outer.py:app").store == "memory:"


# --- files that are wrong --------------------------------------------------------------------------------------------


@pytest.mark.fault("F1")
def test_all_mistakes_are_told_at_once_in_the_order_of_the_file(tmp_path: Path, code: str) -> None:
    text = """\
store = "sqlit:///orders.db"
woker_id = "x"
[aws]
regoin = "eu"
external_id = "${UNSET}"
[http]
port = true
[pipelines.orders]
table = "orders"
stream_arn = "arn:aws:dynamodb:eu-west-1:123456789012:table/orders/stream/2026"
handler = "CODE:delivr"
batch_size = 25000
[[pipelines.orders.middleware]]
type = "timeot"
[[pipelines.orders.middleware]]
type = "timeout"
second = 3
[pipelines."b d"]
table = "x"
lambda.target = "CODE:deliver"
"""
    names = "timeout, log_batches, drop, dedupe, concurrency_limit, or module:name for your own"
    name_pattern = "'^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$'"
    assert problems(tmp_path, code, text) == [
        f"orders.toml:1: store: no store is called 'sqlit', did you mean sqlite?; there are {', '.join(names_of('stores'))}",
        "orders.toml:2: woker_id: unknown key, did you mean worker_id?",
        "orders.toml:4: aws.regoin: unknown key, did you mean region?",
        "orders.toml:5: aws.external_id: the environment variable UNSET is not set: set it or write ${UNSET:-default}",
        "orders.toml:7: http.port: should be a number, not true",
        "orders.toml:10: pipelines.orders.stream_arn: give either table or stream_arn",
        "orders.toml:11: pipelines.orders.handler: CODE has no 'delivr', did you mean deliver?",
        (
            "orders.toml:12: pipelines.orders.batch_size: Value '25000' at 'batchSize' failed to satisfy constraint: "
            "Member must have value less than or equal to 10000"
        ),
        (
            "orders.toml:14: pipelines.orders.middleware[0].type: no layer is called 'timeot', did you mean timeout?; "
            f"a layer is one of {names}"
        ),
        "orders.toml:15: pipelines.orders.middleware[1].seconds: required, but not given",
        "orders.toml:17: pipelines.orders.middleware[1].second: unknown key, did you mean seconds?",
        f'orders.toml:18: pipelines."b d": should match pattern {name_pattern}',
        "orders.toml:19: pipelines.\"b d\".table: should match pattern '^[A-Za-z0-9_.-]{3,255}$' (found 'x')",
        'orders.toml:20: pipelines."b d".lambda.target: CODE:deliver(batch) cannot be called with event and context',
    ]


@pytest.mark.fault("F1")
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "orders.toml:1: pipelines: required, but not given"),
        ("pipelines = {}", "orders.toml:1: pipelines: should have at least 1 item after validation, not 0"),
        (
            '[pipelines.orders]\nhandler = "CODE:deliver"',
            "orders.toml:1: pipelines.orders: give either table or stream_arn",
        ),
        (
            '[pipelines.orders]\ntable = "orders"',
            "orders.toml:1: pipelines.orders: give either handler, lambda, sink or fan_out",
        ),
        (
            '[pipelines.orders]\nstream_arn = "arn:x"\nhandler = "CODE:deliver"',
            (
                "orders.toml:2: pipelines.orders.stream_arn: stream_arn is no stream of a table: it looks like "
                "arn:aws:dynamodb:REGION:ACCOUNT:table/NAME/stream/LABEL"
            ),
        ),
        (
            MINIMAL + 'aws.external_id = "x"',
            "orders.toml:4: pipelines.orders.aws.external_id: external_id goes with role_arn",
        ),
        (
            MINIMAL.replace("deliver", "Handler"),
            "orders.toml:3: pipelines.orders.handler: CODE:Handler is the class Handler, not a function",
        ),
        (
            MINIMAL.replace("deliver", "two"),
            "orders.toml:3: pipelines.orders.handler: CODE:two(event, context) cannot be called with a batch",
        ),
        (
            MINIMAL.replace("CODE:", "CODE"),
            (
                "orders.toml:3: pipelines.orders.handler: 'CODEdeliver' is no target: "
                "write module:name or path/file.py:name"
            ),
        ),
        (
            MINIMAL + 'middleware = [{ type = "CODE:factory", sise = 3 }]',
            "orders.toml:4: pipelines.orders.middleware[0]: factory: no parameter sise, did you mean size?",
        ),
        (
            MINIMAL + 'middleware = [{ type = "CODE:factory" }]',
            "orders.toml:4: pipelines.orders.middleware[0]: factory: missing a required argument: 'size'",
        ),
        (
            MINIMAL + 'middleware = [{ type = "CODE:failing_factory" }]',
            "orders.toml:4: pipelines.orders.middleware[0]: failing_factory failed: RuntimeError: no network",
        ),
        (
            MINIMAL + 'middleware = [{ type = "CODE:no_layer" }]',
            (
                "orders.toml:4: pipelines.orders.middleware[0]: no_layer gave no layer: "
                "a layer is an async function of batch and call_next"
            ),
        ),
        (
            MINIMAL + 'middleware = [{ type = "CODE:own_layer", size = 3 }]',
            "orders.toml:4: pipelines.orders.middleware[0]: own_layer is a layer and not a factory: it takes no size",
        ),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, code: str, text: str, expected: str) -> None:
    assert problems(tmp_path, code, text) == [expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1\nb = \n", "orders.toml:2:5: Invalid value"),
        ("a = 1\na = 2\n", "orders.toml:2:6: Cannot overwrite a value"),
        ('a = """\n\nb', "orders.toml:3:2: Unterminated string"),
    ],
)
def test_wrong_syntax_is_told_with_line_and_column(tmp_path: Path, code: str, text: str, expected: str) -> None:
    assert problems(tmp_path, code, text) == [expected]


@pytest.mark.fault("F2")
def test_the_value_of_a_variable_is_never_shown(tmp_path: Path, code: str) -> None:
    text = 'store = "${SECRET}"\n' + MINIMAL
    [problem] = problems(tmp_path, code, text, SECRET="hunter2")
    assert "${SECRET}" in problem
    assert "hunter2" not in problem


@pytest.mark.parametrize("text", ["hunter2", "${SECRET}"])
def test_a_token_that_is_refused_is_not_shown(tmp_path: Path, code: str, text: str) -> None:
    [problem] = problems(tmp_path, code, MINIMAL + f'[http]\ntoken = "{text}"', SECRET="hunter2")
    assert problem.startswith("orders.toml:5: http.token: a token is 16 to 512 letters")
    assert "hunter2" not in problem


def test_a_token_that_is_no_text_is_not_shown(tmp_path: Path, code: str) -> None:
    told = problems(tmp_path, code, MINIMAL + "[http]\ntoken = 4111111111111111")
    assert told == ["orders.toml:5: http.token: should be a valid string"]


def test_an_admin_server_beyond_loopback_needs_a_word_about_its_token(tmp_path: Path, code: str) -> None:
    [problem] = problems(tmp_path, code, MINIMAL + '[http]\nport = 9102\nhost = "${HOST}"', HOST="0.0.0.0")
    assert problem.startswith("orders.toml:6: http.host: host is beyond loopback: set token")


def test_an_unset_variable_is_one_mistake_whatever_it_would_fill(tmp_path: Path, code: str) -> None:
    [problem] = problems(tmp_path, code, MINIMAL + 'batch_size = "${UNSET}"')
    assert problem.startswith("orders.toml:4: pipelines.orders.batch_size: the environment variable UNSET is not set")


@pytest.mark.fault("F2")
def test_a_variable_cannot_add_a_key(tmp_path: Path, code: str) -> None:
    [problem] = problems(tmp_path, code, 'store = "${EVIL}"\n' + MINIMAL, EVIL='memory:"\nworker_id = "x')
    assert problem.startswith("orders.toml:1: store: should match pattern")


def test_a_file_that_is_not_there_or_not_text_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"a = 1\n\xff")
    with pytest.raises(ConfigError, match=r"^nope\.toml: cannot be read: No such file or directory$"):
        load_app("nope.toml")
    with pytest.raises(ConfigError, match=r"^binary\.toml: not UTF-8, at byte 6$"):
        load_app("binary.toml")


# --- code that is wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import os\nimport nosuch_module\n", "broken.py:2: ModuleNotFoundError: No module named 'nosuch_module'"),
        ("from os import nosuch\n", "broken.py:1: ImportError: cannot import name 'nosuch' from 'os'"),
        ("x = 1\ny = = 2\n", "broken.py:2: SyntaxError: invalid syntax"),
        ("import json\n\njson.loads('{')\n", "broken.py:3: JSONDecodeError: Expecting property name"),
        ("raise SystemExit\n", "broken.py:1: SystemExit"),
        (
            "from streamflow import DynamoDBStream\n\nDynamoDBStream()\n",
            "broken.py:3: DynamoDBStream: declaration: give either table or stream_arn",
        ),
    ],
)
def test_code_that_does_not_import_is_told_with_its_own_line(
    tmp_path: Path, code: str, source: str, expected: str
) -> None:
    name = f"broken_{code}"
    (tmp_path / f"{name}.py").write_text(source)
    with pytest.raises(ConfigError) as raised:
        load_app(f"{name}:app")
    [problem] = raised.value.problems
    assert problem.replace(name, "broken").startswith(expected)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("nosuch_module:app", "no module named 'nosuch_module': looked in"),
        ("nosuch.py:app", "there is no file nosuch.py"),
        ("CODE:ap", "CODE has no 'ap', did you mean app?"),
        ("CODE:deliver", "CODE:deliver is a function: name an App or a Pipeline"),
        ("CODE.py", "'CODE.py' is neither a .toml file nor a target"),
        ("CODE:", "'CODE:' is no target"),
    ],
)
def test_a_target_that_names_nothing_is_told(code: str, target: str, expected: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load_app(target.replace("CODE", code))
    assert str(raised.value).replace(code, "CODE").startswith(expected)


def test_a_file_whose_name_is_taken_is_told(tmp_path: Path, code: str) -> None:
    (tmp_path / "json.py").write_text(CODE)
    with pytest.raises(ConfigError, match=r"the name json is taken by .*; rename it"):
        load_app("json.py:app")
