"""The documents tell the truth: their Python is run as it stands, their pipeline files are loaded.

A block runs like a script in a directory of its own, against a local table `orders` whose stream has ended, so that
`streamflow.run` returns. A block fenced as "python no-run" is not run; there are at most two of them.
"""

from __future__ import annotations

import inspect
import re
import runpy
import sys
import tomllib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

from streamflow.config.load import load_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streamflow.testing.pytest_plugin import LocalStreamsFactory

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs" / "sinks").glob("*.md")),
]
NOT_RUN_MAX = 2

_FENCE = re.compile(r"^```(?P<kind>[^\n`]*)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL)
_TARGET = re.compile(r"^(?P<module>[A-Za-z_]\w*):(?P<name>[A-Za-z_]\w*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A fenced block; `line` is the one its code starts on."""

    page: str
    line: int
    kind: str
    code: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: str, text: str) -> list[Block]:
    return [
        Block(
            page=page,
            line=text.count("\n", 0, found.start("code")) + 1,
            kind=found["kind"].strip(),
            code=found["code"],
        )
        for found in _FENCE.finditer(text)
    ]


BLOCKS = [block for page in PAGES for block in blocks_of(str(page.relative_to(ROOT)), page.read_text("utf-8"))]


def blocks(kind: str) -> list[Block]:
    return [block for block in BLOCKS if block.kind == kind]


def declares_pipelines(block: Block) -> bool:
    """An excerpt of a pipeline file shows no table to read."""
    pipelines = tomllib.loads(block.code).get("pipelines", {})
    return any({"table", "stream_arn"} & pipeline.keys() for pipeline in pipelines.values())


def targets(value: object) -> Iterator[tuple[str, str]]:
    """What a pipeline file names as `module:name`, at any depth."""
    if isinstance(value, dict):
        for member in value.values():
            yield from targets(member)
    elif isinstance(value, list):
        for member in value:
            yield from targets(member)
    elif isinstance(value, str) and (found := _TARGET.match(value)):
        yield found["module"], found["name"]


def write_modules(directory: Path, document: dict[str, Any]) -> set[str]:
    """Make the user's modules that a pipeline file names, with functions that accept anything."""
    names: dict[str, set[str]] = {}
    for module, name in targets(document):
        names.setdefault(module, set()).add(name)
    for module, functions in names.items():
        code = "\n".join(f"def {name}(*arguments, **options): return {name}" for name in sorted(functions))
        (directory / f"{module}.py").write_text(code)
    return set(names)


@pytest.fixture
def ended_orders(local_streams_factory: LocalStreamsFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table `orders` with changes of each kind, whose stream is read to its end by `run`: where the environment points.

    Blocks that start servers of their own name them.
    """
    local_streams = local_streams_factory()
    local_streams.create_table("orders")
    for number in range(20):
        local_streams.put("orders", {"id": {"S": f"order-{number}"}, "total": {"N": "12.50"}})
    local_streams.put("orders", {"id": {"S": "order-1"}, "total": {"N": "13.00"}})
    local_streams.delete("orders", {"id": {"S": "order-2"}})
    local_streams.disable_stream("orders")
    monkeypatch.setenv("AWS_ENDPOINT_URL", local_streams.endpoint_url)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "local")
    monkeypatch.delenv("AWS_PROFILE", raising=False)


def test_documents_have_code() -> None:
    assert len(blocks("python")) >= 1
    assert any(map(declares_pipelines, blocks("toml")))


def test_at_most_two_blocks_are_not_run() -> None:
    assert len(blocks("python no-run")) <= NOT_RUN_MAX


def test_every_block_says_what_it_is() -> None:
    known = {"python", "python no-run", "toml", "sh", "console", "json", "yaml", "promql", "text", ""}
    assert [f"{block}: {block.kind}" for block in BLOCKS if block.kind not in known] == []


@pytest.mark.timeout(20)
@pytest.mark.parametrize("block", blocks("python"), ids=str)
def test_python_runs(
    block: Block,
    ended_orders: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    script = tmp_path / f"{Path(block.page).stem}_line_{block.line}.py"
    script.write_text("\n" * (block.line - 1) + block.code)
    names = runpy.run_path(str(script), run_name="__main__")
    for name, test in names.items():
        if name.startswith("test_"):
            run_test(test, request)


def run_test(test: Callable[..., Any], request: pytest.FixtureRequest) -> None:
    """Call a test that a document shows, with the fixtures that it asks for."""
    fixtures = {name: request.getfixturevalue(name) for name in inspect.signature(test).parameters}
    if inspect.iscoroutinefunction(test):
        anyio.run(partial(test, **fixtures))
    else:
        test(**fixtures)


def test_a_test_in_a_document_gets_its_fixtures(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    called: list[Path] = []

    def plain(tmp_path: Path) -> None:
        called.append(tmp_path)

    async def waits(tmp_path: Path) -> None:
        await anyio.lowlevel.checkpoint()
        called.append(tmp_path)

    run_test(plain, request)
    run_test(waits, request)
    assert called == [tmp_path, tmp_path]


@pytest.mark.parametrize("block", blocks("toml"), ids=str)
def test_toml_parses(block: Block) -> None:
    assert tomllib.loads(block.code)


@pytest.mark.parametrize("block", [b for b in blocks("toml") if declares_pipelines(b)], ids=str)
def test_pipeline_files_load(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    document = tomllib.loads(block.code)
    modules = write_modules(tmp_path, document)
    file = tmp_path / "pipelines.toml"
    file.write_text(block.code)
    try:
        app = load_file(file, {})
    finally:
        for module in modules:
            sys.modules.pop(module, None)
    assert {pipeline.name for pipeline in app.pipelines} == document["pipelines"].keys()


def test_blocks_are_found_with_their_lines() -> None:
    text = "# Page\n\n```python\nx = 1\n```\n\n```toml\na = 1\nb = 2\n```\n```\nplain\n```\n"
    found = blocks_of("page.md", text)
    assert [(block.kind, block.line, block.code) for block in found] == [
        ("python", 4, "x = 1\n"),
        ("toml", 8, "a = 1\nb = 2\n"),
        ("", 12, "plain\n"),
    ]


def test_targets_are_found_at_any_depth() -> None:
    document = tomllib.loads('a = "m:f"\n[[b.c]]\nd = "n:g"\ne = "http://x"\nh = "sqlite:///x.db"\ni = "dir/x.py:y"')
    assert list(targets(document)) == [("m", "f"), ("n", "g")]
