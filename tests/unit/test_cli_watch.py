"""`streamflow leases watch` looks at a fleet and takes no part in it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import anyio
import pytest

from leased_rows import FROM_STORE, STREAM_ARN, Leased, command, json_lines, leased, row, worker
from streamflow.cli import looking, watching
from streamflow.cli.watching import Telling, told
from streamflow.errors import StoreError
from streamflow.leases import LeaseState
from streamflow.observe.fleet import Figures, PipelineFigures
from streamflow.positions import Position

if TYPE_CHECKING:
    from kept import Command
    from streamflow.cli.looking import Look

__all__ = ["command", "leased"]

ONCE = (*FROM_STORE, "--once", "--lag-shards", "0")


def figures(**changes: object) -> Figures:
    values = {
        "pipeline": "orders",
        "shards": {LeaseState.ACTIVE: 3},
        "held": {"w1": 2, "w2": 1},
        "unowned": 1,
        "workers": 1,
        "lag_s": {},
        "headroom_s": None,
        **changes,
    }
    return Figures(
        at_s=1_764_000_000.0,
        pipelines=(PipelineFigures(**values),),  # type: ignore[arg-type]
        silence_s={"w1": 0.0, "w2": 12.0, "gone": 99.0},
        silent=frozenset({"w2", "gone"}),
    )


# --- one look --------------------------------------------------------------------------------------------------------


def test_one_look_as_json(leased: Leased, command: Command) -> None:
    leased.keep_lineage()
    leased.keep(worker("w1"), worker("w2"), row("d", Position.after("5"), owner="gone"))
    out, err = command("leases", "watch", *ONCE, "--json")
    (look,) = json_lines(out)
    assert err == ""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", look.pop("at"))
    assert look == {
        "problem": None,
        "pipelines": [
            {
                "pipeline": "orders",
                "shards": {"active": 3, "awaiting_children": 0, "ended": 1},
                "leases": {"gone": 1, "w1": 1},
                "unowned": 2,
                "workers": 2,
                "lag_s": {},
                "headroom_s": None,
            }
        ],
        "owners": [
            {"owner": "gone", "silence_s": 0.0, "silent": True},
            {"owner": "w1", "silence_s": 0.0, "silent": False},
            {"owner": "w2", "silence_s": 0.0, "silent": False},
        ],
    }


def test_one_look_of_a_file_is_a_line_for_each_pipeline_and_changes_no_row(leased: Leased, command: Command) -> None:
    leased.keep_lineage()
    leased.keep(worker("w1"))
    before = leased.rows()
    out, _ = command("leases", "watch", "app.py:two", "--once", "--lag-shards", "0")
    assert [line.partition(" ")[2] for line in out.splitlines()] == [
        "orders: 2 unfinished, 1 unowned, 1 worker",
        "audit: 0 unfinished, 0 unowned, 0 workers",
    ]
    assert leased.rows() == before


def test_looks_go_on_until_nobody_reads_them(leased: Leased, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    leased.keep(row("a", owner="w1"), worker("w1"))
    looks = []

    def write(lines: list[str]) -> None:
        looks.append(lines)
        if len(looks) == 3:
            raise BrokenPipeError

    monkeypatch.setattr(watching, "_write", write)
    command("leases", "watch", *FROM_STORE, "--lag-shards", "0", "--every", "0.1")
    assert len(looks) == 3


def test_a_look_that_fails_is_told_once_and_the_next_one_that_succeeds_too(
    leased: Leased, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    leased.keep(row("a", owner="w1"), worker("w1"))
    look, looks = looking.look, []
    outcomes = iter([None, StoreError("locked"), StoreError("locked"), StoreError("full"), None])

    async def failing(*arguments: object, **options: object) -> Look:
        if (error := next(outcomes)) is not None:
            raise error
        return await look(*arguments, **options)  # type: ignore[arg-type]

    def write(lines: list[str]) -> None:
        looks.extend(json_lines("\n".join(lines)))
        if len(looks) == 5:
            raise BrokenPipeError

    monkeypatch.setattr(looking, "look", failing)
    monkeypatch.setattr(watching, "_write", write)
    _, err = command("leases", "watch", *FROM_STORE, "--lag-shards", "0", "--every", "0.1", "--json")
    assert err.splitlines() == ["error: locked", "error: full", "looking works again"]
    assert [look["problem"] for look in looks] == [None, "locked", "locked", "full", None]
    assert [len(look["pipelines"]) for look in looks] == [1, 0, 0, 0, 1]


def test_a_single_look_that_fails_is_a_failure(
    leased: Leased, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    leased.keep(row("a"))

    async def failing(*_: object, **__: object) -> Look:
        raise StoreError("locked")

    monkeypatch.setattr(looking, "look", failing)
    assert command("leases", "watch", *ONCE, code=1) == ("", "error: locked\n")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--store", "sqlite:///new.db", "--pipeline", "orders", "--stream", STREAM_ARN), "new.db"),
        ((*FROM_STORE, "--http", "here"), "--http: 'here' is no address"),
        ((*FROM_STORE, "--every", "0"), "--every"),
        (("app.py:one", "more"), "Got unexpected extra argument (more)"),
    ],
)
def test_what_cannot_be_watched_is_told(
    leased: Leased, command: Command, arguments: tuple[str, ...], told: str
) -> None:
    leased.keep(row("a"))
    assert told in command("leases", "watch", *arguments, code=2)[1]


# --- how it is told --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lag_s", "said"),
    [({}, ""), ({"a": 0.0, "b": 0.0}, ", no lag"), ({"a": 3.0, "b": 61.6}, ", lag up to 62 s (b)")],
)
def test_a_line_has_the_worst_lag_and_the_owners_that_are_silent(lag_s: dict[str, float], said: str) -> None:
    (line,) = told(figures(lag_s=lag_s))
    assert line == f"16:00:00 orders: 3 unfinished, 1 unowned, 1 worker{said}, w2 silent for 12 s"


def test_it_is_ready_while_the_last_look_succeeded() -> None:
    telling = Telling(as_json=False)
    assert telling.ready().reasons == ("there was no look yet",)
    anyio.run(lambda: telling.tell(figures(), None, at_s=0.0))
    assert telling.ready().ok
    anyio.run(lambda: telling.tell(None, "locked", at_s=0.0))
    assert telling.ready().reasons == ("locked",)
    assert telling.live().ok
