"""Each rule of the house catches a planted violation, and lets its neighbour pass."""

from __future__ import annotations

import house_rules
import pytest

MODULES = frozenset(
    {"streamflow.errors", "streamflow.events", "streamflow.engine.reader", "streamflow.aws.session", "streamflow.rules"}
)


def edges(path: str, source: str) -> list[tuple[str, int]]:
    return [(edge.imported, edge.line) for edge in house_rules.imports(path, source, MODULES)]


def wrong(path: str, source: str) -> list[str]:
    return house_rules.wrong_imports(house_rules.imports(path, source, MODULES))


@pytest.mark.parametrize(
    ("source", "imported"),
    [
        ("import streamflow.errors", "streamflow.errors"),
        ("import streamflow.errors as e", "streamflow.errors"),
        ("from streamflow.errors import ConfigError", "streamflow.errors"),
        ("from streamflow import events", "streamflow.events"),
        ("from streamflow import Batch", "streamflow.Batch"),
        ("from streamflow.engine import reader", "streamflow.engine.reader"),
        ("from . import events", "streamflow.events"),
        ("from .engine.reader import read", "streamflow.engine.reader"),
        ("if TYPE_CHECKING:\n    from streamflow.events import Event", "streamflow.events"),
        ("def late():\n    import streamflow.aws.session", "streamflow.aws.session"),
        ("importlib.import_module('streamflow.aws.session')", "streamflow.aws.session"),
        ("import_module('streamflow.aws.session')", "streamflow.aws.session"),
        ("import streamflow\nstreamflow.launch", "streamflow.launch"),
        ("import streamflow as face", "streamflow"),
    ],
)
def test_every_way_to_import_is_seen(source: str, imported: str) -> None:
    assert [name for name, _ in edges("streamflow/records.py", source)] == [imported]


@pytest.mark.parametrize(
    "source",
    [
        "import json, anyio",
        "from streamflow import __version__",
        "import streamflow\nprint(streamflow.__version__, streamflow.__file__)",
    ],
)
def test_imports_of_others_and_of_the_version_are_not_edges(source: str) -> None:
    assert not edges("streamflow/records.py", source)


def test_relative_imports_count_from_the_package() -> None:
    assert edges("streamflow/engine/worker.py", "from .reader import read") == [("streamflow.engine.reader", 1)]
    assert edges("streamflow/engine/__init__.py", "from .reader import read") == [("streamflow.engine.reader", 1)]
    assert edges("streamflow/engine/worker.py", "from ..errors import X") == [("streamflow.errors", 1)]


@pytest.mark.parametrize(
    ("path", "source", "why"),
    [
        ("streamflow/records.py", "from streamflow.events import Event", "level 0 must not know level 1"),
        ("streamflow/rules/lineage.py", "import streamflow.engine.reader", "level 2 must not know level 4"),
        ("streamflow/rules/lineage.py", "def f():\n  import streamflow.cli.main", "level 2 must not know level 10"),
        ("streamflow/sinks/sqlite.py", "from streamflow.aws import session", "rooms of level 3 do not know each"),
        ("streamflow/aws/session.py", "import streamflow.sources.dynamodb", "rooms of level 3 do not know each"),
        ("streamflow/plugins.py", "import streamflow.config", "level 5 must not know level 6"),
        ("streamflow/engine/reader.py", "import streamflow.aws.session", "engine receives this through a protocol"),
        ("streamflow/rules/lineage.py", "import streamflow\nstreamflow.launch.run", "level 2 must not know level 8"),
        ("streamflow/launch.py", "from streamflow import Batch", "import a public name from the module it lives in"),
        ("streamflow/launch.py", "import streamflow as face", "the package's face is for users"),
        ("streamflow/attic/old.py", "import streamflow.errors", "this room has no level"),
    ],
)
def test_imports_that_point_up_or_sideways_are_caught(path: str, source: str, why: str) -> None:
    (finding,) = wrong(path, source)
    assert why in finding
    assert finding.startswith(house_rules.module_name(path))


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("streamflow/launch.py", "from streamflow.engine.reader import read"),
        ("streamflow/batches.py", "from streamflow.records import Record"),
        ("streamflow/protocols.py", "from streamflow.events import Event"),
        ("streamflow/engine/worker.py", "from streamflow.engine.reader import read"),
        ("streamflow/engine/reader.py", "from streamflow.rules.pacing import PollPace"),
        ("streamflow/sources/dynamodb.py", "import streamflow.aws.session"),
        ("streamflow/__init__.py", "from streamflow.launch import run"),
    ],
)
def test_imports_that_point_down_pass(path: str, source: str) -> None:
    assert wrong(path, source) == []


def test_a_cycle_is_shown_once_as_a_path() -> None:
    edge = house_rules.Import
    found = house_rules.cycles(
        [
            edge("streamflow.batches", "streamflow.records", 1),
            edge("streamflow.records", "streamflow.positions", 1),
            edge("streamflow.positions", "streamflow.batches", 1),
            edge("streamflow.batches", "streamflow.errors", 1),
        ]
    )
    assert found == ["streamflow.batches -> streamflow.records -> streamflow.positions -> streamflow.batches"]


def test_diamonds_are_no_cycles() -> None:
    edge = house_rules.Import
    pairs = [("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")]
    assert not house_rules.cycles([edge(f"streamflow.{above}", f"streamflow.{below}", 1) for above, below in pairs])


@pytest.mark.parametrize("name", sorted(house_rules.MODULE_NAMES_BANNED))
def test_drawers_are_caught(name: str) -> None:
    assert house_rules.wrong_names(f"streamflow/{name}.py", "")
    assert house_rules.wrong_names(f"streamflow/{name}/records.py", "")
    assert house_rules.wrong_names(f"streamflow/_{name}.py", "")


@pytest.mark.parametrize("ending", house_rules.CLASS_ENDINGS_BANNED)
def test_class_names_that_say_nothing_are_caught(ending: str) -> None:
    (finding,) = house_rules.wrong_names("streamflow/records.py", f"class Shard{ending}:\n    pass")
    assert finding.startswith("streamflow/records.py:1: class Shard")


def test_names_of_things_pass() -> None:
    source = "class StreamInfo: ...\nclass Database: ...\nclass Manager2: ...\ndef load_data(): ..."
    assert house_rules.wrong_names("streamflow/database.py", source) == []


@pytest.mark.parametrize("source", ["", "import json", "# a comment\n", '""" """'])
def test_a_module_without_docstring_is_caught(source: str) -> None:
    assert house_rules.without_docstring("streamflow/records.py", source)


def test_a_module_with_docstring_passes() -> None:
    assert house_rules.without_docstring("streamflow/records.py", '"""Records."""\nimport json') == []


@pytest.mark.parametrize("word", ["TO" + "DO", "FIX" + "ME", "XX" + "X"])
def test_promised_work_is_caught(word: str) -> None:
    assert house_rules.unfinished("streamflow/records.py", f"x = 1\ny = 2  # {word}: later") == [
        f"streamflow/records.py:2: y = 2  # {word}: later"
    ]


@pytest.mark.parametrize(
    "line",
    [
        "see https://py" + "pi.org/simple",
        "https://files.python" + "hosted.org/packages/x.whl",
        "--index" + "-url https://example.com",
        "--extra-index" + "-url=https://example.com",
        "--find" + "-links ./wheels",
        "https://arti" + "factory.example.com/api",
    ],
)
def test_registries_are_caught(line: str) -> None:
    (finding,) = house_rules.ties_to_a_machine("docs/operations.md", line)
    assert finding.startswith("docs/operations.md:1: ")


def test_a_lock_file_names_no_host_at_all() -> None:
    line = "anyio @ https://example.com/anyio.whl"
    assert house_rules.ties_to_a_machine("requirements/dev.txt", line)
    assert not house_rules.ties_to_a_machine("README.md", line)


@pytest.mark.parametrize("path", ["/ro" + "ot/.aws", "/wo" + "rk/main", "/tm" + "p/x.db", "/ho" + "me/ann/x"])
def test_paths_of_one_machine_are_caught(path: str) -> None:
    for text in (path, f'open("{path}")', f"cd {path} && make", f"sqlite:///{path}"):
        assert house_rules.ties_to_a_machine("Makefile", text), text


@pytest.mark.parametrize("text", ["tests/work/x", "https://example.com/work/x", "$HOME/tmp/x", "/var/lib/orders.db"])
def test_other_paths_pass(text: str) -> None:
    assert house_rules.ties_to_a_machine("Makefile", text) == []


def test_the_module_list_is_compared_both_ways() -> None:
    listed = house_rules.listed_modules(
        "## Modules\n- `records.py`: records and shards.\n- `rules/gone.py`: not there.\n- `records.py`: again.\ntext `x.py`"
    )
    assert listed == ["records.py", "rules/gone.py", "records.py"]
    assert house_rules.differences(listed, frozenset({"records.py", "rules/new.py"})) == [
        "rules/new.py exists and is not listed",
        "rules/gone.py is listed and does not exist",
        "records.py is listed twice",
    ]


def test_a_folder_stands_for_all_modules_in_it() -> None:
    tree = frozenset({"rules/frontier.py", "rules/lanes.py", "records.py"})
    assert house_rules.differences(["rules/", "records.py"], tree) == []
    assert house_rules.differences(["rules/", "gone/", "rules/lanes.py"], tree) == [
        "records.py exists and is not listed",
        "gone/ is listed and does not exist",
        "rules/lanes.py is listed twice",
    ]


def test_a_module_without_a_sentence_is_not_listed() -> None:
    assert house_rules.listed_modules("- `records.py`\n- `leases.py`:\n- `clock.py`: no full stop") == []


def test_dead_links_are_caught() -> None:
    text = "[here](glossary.md#lane), [up](../README.md), [web](https://example.com), [gone](lost.md), `[x](code.md)`"
    files = frozenset({"README.md", "docs", "docs/glossary.md"})
    assert house_rules.dead_links("docs/operations.md", text, files) == [
        "docs/operations.md: the link to lost.md leads nowhere"
    ]


def test_links_inside_code_are_code() -> None:
    assert house_rules.dead_links("a.md", "```python\nx[1](y)\n```\n", frozenset()) == []


def test_decisions_are_numbered_and_have_three_sections() -> None:
    good = "# 001. Title\n\n## Context\n\n## Decision\n\n## Consequences\n"
    assert house_rules.wrong_decisions({"001-title.md": good}) == []
    assert house_rules.wrong_decisions({"002-title.md": good}) == ["002-title.md: expected 001-title.md"]
    assert house_rules.wrong_decisions({"001-title.md": good.replace("## Decision\n", "")}) == [
        "001-title.md: has no Decision"
    ]
    assert house_rules.wrong_decisions({"001-title.md": good.replace("001", "003")}) == [
        "001-title.md: its first line is not `# 001. Title`"
    ]
