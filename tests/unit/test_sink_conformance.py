"""What runs of the sinks' contract suite proved: the file, however the tests were run, and the table made of it."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from streamflow.plugins import names, sink_plugin
from streamflow.testing.sink_contract.conformance import PROPERTY, Conformance, rows_of
from streamflow.testing.sink_contract.table import BEGIN, END, render, replace_table

ROOT = Path(__file__).resolve().parents[2]

CAPABILITIES = {
    "order": "key",
    "idempotence": "versioned",
    "idempotence_key": "item key",
    "idempotence_window_s": None,
    "partial_failures": True,
    "deletes": True,
    "request_records_max": 1_000,
    "request_bytes_max": 1_048_576,
}


def row(name: str, mode: str = "", **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "mode": mode,
        "kind": "state",
        "server": "Server 1",
        "distribution": "streamflow-engine-postgres",
        "version": "0.1.0",
        "capabilities": CAPABILITIES,
        **changes,
    }


def note(conformance: Conformance, where: str, declared: dict[str, Any], **scenarios: str) -> None:
    for name, outcome in scenarios.items():
        skipped = None if outcome in {"passed", "failed"} else f"Skipped: {outcome}"
        properties = [(PROPERTY, json.dumps(declared))]
        conformance.note(f"{where}::test_{name}", "skipped" if skipped else outcome, properties, skipped)


def test_a_run_is_written_by_sink_and_mode(tmp_path: Path) -> None:
    file = tmp_path / "conformance.json"
    first = Conformance()
    note(first, "b.py::TestB", row("sqs", "standard"), it_works="passed")
    note(first, "b.py::TestF", row("sqs", "fifo"), it_works="failed", it_rests="not run: there is no kill()")
    first.write(file)
    second = Conformance()
    note(second, "a.py::TestA", row("jsonl"), it_works="passed")
    note(second, "b.py::TestF", row("sqs", "fifo"), it_works="passed")
    second.write(file)
    found = {(each["name"], each["mode"]): each["scenarios"] for each in rows_of(file)}
    assert found == {
        ("jsonl", ""): {"it works": "passed"},
        ("sqs", "fifo"): {"it works": "passed"},
        ("sqs", "standard"): {"it works": "passed"},
    }
    assert list(found) == sorted(found)


def test_a_test_that_broke_before_it_knew_its_sink_has_failed(tmp_path: Path) -> None:
    conformance = Conformance()
    conformance.note("a.py::TestA::test_it_opens", "failed", [])
    note(conformance, "a.py::TestA", row("jsonl"), it_works="passed")
    conformance.write(tmp_path / "c.json")
    assert rows_of(tmp_path / "c.json")[0]["scenarios"] == {"it opens": "failed", "it works": "passed"}


def test_a_run_without_sinks_writes_nothing(tmp_path: Path) -> None:
    conformance = Conformance()
    conformance.note("a.py::test_other", "passed", [])
    conformance.write(tmp_path / "c.json")
    assert not (tmp_path / "c.json").exists()


def test_the_table_says_what_was_proved_and_what_was_not() -> None:
    scenarios = {
        "a": "passed",
        "b": "failed",
        "c": "not promised: it keeps no order",
        "d": "not run: there is no kill()",
        "e": "not run: there is no kill()",
    }
    window = {**CAPABILITIES, "idempotence": "window", "idempotence_window_s": 300.0, "request_records_max": 10}
    none = {
        **CAPABILITIES,
        "order": "none",
        "idempotence": "none",
        "request_records_max": None,
        "request_bytes_max": None,
    }
    text = render(
        [
            {**row("postgres", "upsert"), "scenarios": scenarios},
            {**row("sqs", "fifo", capabilities=window), "scenarios": {"a": "passed"}},
            {**row("own", distribution=None, capabilities=none), "scenarios": {"a": "passed"}},
        ]
    )
    assert text.splitlines()[2:] == [
        (
            "| `postgres` (upsert) | `streamflow-engine-postgres` 0.1.0 | per item | by item key, versioned | yes | yes | "
            "1,000 records, 1,048,576 bytes | Server 1: 1 of 4 |"
        ),
        (
            "| `sqs` (fifo) | `streamflow-engine-postgres` 0.1.0 | per item | by item key for 300 s | yes | yes | "
            "10 records, 1,048,576 bytes | Server 1: 1 of 1 |"
        ),
        "| `own` | - | none | none | yes | yes | - | Server 1: 1 of 1 |",
        "",
        "- `postgres` (upsert) fails: b.",
        "- `postgres` (upsert), not run: there is no kill() (2).",
    ]


def test_the_table_takes_its_place_in_a_page() -> None:
    rows = [{**row("jsonl"), "scenarios": {}}]
    page = f"# Sinks\n\n{BEGIN}\nold\n{END}\n\nafter\n"
    assert replace_table(page, rows) == f"# Sinks\n\n{BEGIN}\n{render(rows)}\n{END}\n\nafter\n"
    assert replace_table(replace_table(page, rows), rows) == replace_table(page, rows)
    with pytest.raises(ValueError, match="has no marks"):
        replace_table("# Sinks\n", rows)


def test_the_table_is_written_from_the_command_line(tmp_path: Path) -> None:
    conformance = Conformance()
    note(conformance, "a.py::TestA", row("jsonl"), it_works="passed")
    conformance.write(tmp_path / "c.json")
    (tmp_path / "sinks.md").write_text(f"{BEGIN}\n{END}\n")
    program = [sys.executable, "-m", "streamflow.testing.sink_contract.table", "c.json", "sinks.md"]
    subprocess.run(program, cwd=tmp_path, check=True)
    assert "| `jsonl` |" in (tmp_path / "sinks.md").read_text()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_option_writes_the_same_file_with_and_without_workers(workers: str, tmp_path: Path) -> None:
    (tmp_path / "test_two.py").write_text(_TESTS)
    program = [sys.executable, "-m", "pytest", "-q", "-n", workers, "-p", "no:cacheprovider"]
    scenarios = "one_record or a_value_arrives_as_it_was or server_that_is_killed or the_same_batch_again"
    finished = subprocess.run(
        [*program, "-k", scenarios, "--sink-conformance", "c.json", "test_two.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT / "tests" / "contract"), "PATH": ""},
    )
    assert finished.returncode == 1, finished.stdout + finished.stderr
    (good, wrong) = rows_of(tmp_path / "c.json")
    assert (good["name"], good["mode"], good["server"]) == ("memory_log", "good", "memory")
    assert good["scenarios"]["one record is written"] == "passed"
    assert good["scenarios"]["a value arrives as it was[digits 38]"] == "passed"
    assert good["scenarios"]["the same batch again changes nothing"] == "not promised: it has no idempotence"
    assert good["scenarios"]["a server that is killed and comes back costs nothing"] == "not run: there is no kill()"
    assert wrong["scenarios"]["one record is written"] == "failed"
    assert "tmp" not in (tmp_path / "c.json").read_text()


_TESTS = """
import secrets
import pytest
from reference_sinks import memory_log, seen_messages
from streamflow.testing.sink_contract import SinkContract

class TestGood(SinkContract):
    kind, mode, server = "log", "good", "memory"

    @pytest.fixture
    def sink(self):
        return memory_log(target=secrets.token_hex(4))

    async def read_back(self, sink):
        return seen_messages(sink)

class TestWrong(TestGood):
    mode = "wrong"

    async def read_back(self, sink):
        return []
"""


# --- what the documentation says -------------------------------------------------------------------------------------

DOCS = ROOT / "docs"
# They are made of others.
_COMPOSED = frozenset({"fallback", "route"})


def test_the_table_of_the_documentation_is_that_of_the_report() -> None:
    page = (DOCS / "sinks.md").read_text("utf-8")
    assert replace_table(page, rows_of(DOCS / "conformance.json")) == page, "run: make conformance"


def test_every_sink_is_in_the_report_and_none_has_failed() -> None:
    rows = rows_of(DOCS / "conformance.json")
    assert {row["name"] for row in rows} == set(names("sinks")) - _COMPOSED
    scenarios = [(row["name"], row["mode"], *each) for row in rows for each in row["scenarios"].items()]
    assert [each for each in scenarios if each[-1] == "failed"] == []


def test_the_report_is_of_the_sinks_as_they_are() -> None:
    for row in rows_of(DOCS / "conformance.json"):
        plugin = sink_plugin(row["name"])
        promised = [asdict(plugin.capabilities_of(plugin.configured(example))) for example in plugin.examples.values()]
        orders = {each["order"] for each in promised}
        assert row["capabilities"]["order"] in orders, f"{row['name']} ({row['mode']}): run: make conformance"
