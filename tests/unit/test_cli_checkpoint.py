"""`streamflow checkpoint` shows every change before, and wants to be told that records may repeat or be lost."""

from __future__ import annotations

import io
import json
import logging
import sys
from typing import TYPE_CHECKING

import anyio
import pytest

from leased_rows import FROM_STORE, STORE, STREAM_ARN, Leased, command, json_lines, leased, row, worker
from streamflow.cli import resetting, rewinding
from streamflow.cli.checkpoint import parsed_position
from streamflow.cli.rewinding import parsed_target
from streamflow.errors import ConfigError
from streamflow.leases import STREAM_ROW, LeaseState, WindowState
from streamflow.positions import SHARD_END, TRIM_HORIZON, Position

if TYPE_CHECKING:
    from kept import Command

__all__ = ["command", "leased"]

WINDOW = WindowState(0, 60, b'{"seen":3}')
NOW_S = 1_764_000_000.0
BACK = ("--allow-repeat", "--yes")


# --- show, export ----------------------------------------------------------------------------------------------------


def test_show_has_a_line_for_each_shard(leased: Leased, command: Command) -> None:
    leased.keep_lineage()
    out, _ = command("checkpoint", "show", *FROM_STORE)
    assert [line.split() for line in out.splitlines()] == [
        ["pipeline", "shard", "state", "checkpoint", "owner"],
        ["orders", "a", "ended", "SHARD_END", "-"],
        ["orders", "b", "active", "AFTER_SEQUENCE_NUMBER:80", "w1"],
        ["orders", "c", "active", "TRIM_HORIZON", "-"],
    ]
    assert json_lines(command("checkpoint", "show", "app.py:one", "--json")[0])[0] == {
        "pipeline": "orders", "shard": "a", "state": "ended", "checkpoint": "SHARD_END", "owner": None,
    }  # fmt: skip


def test_show_of_nothing_says_so(leased: Leased, command: Command) -> None:
    leased.keep(row("a", pipeline="audit"))
    assert command("checkpoint", "show", *FROM_STORE) == ("", "there are no checkpoints\n")


def test_show_says_that_a_sink_keeps_the_checkpoint(leased: Leased, command: Command) -> None:
    leased.keep_lineage()
    assert "orders: its sink sqlite keeps the checkpoint itself" in command("checkpoint", "show", "app.py:kept")[1]


def test_what_was_exported_comes_back_in_another_store(leased: Leased, command: Command) -> None:
    leased.keep_lineage()
    leased.keep(row("w", Position.after("5"), window=WINDOW))
    assert (
        command("checkpoint", "export", *FROM_STORE, "--output", "kept.jsonl")[1] == "5 lines written to kept.jsonl\n"
    )
    assert command("checkpoint", "export", *FROM_STORE)[0] == (leased.folder / "kept.jsonl").read_text()
    leased.keep(row("other", pipeline="audit"), store="sqlite:///new.db")
    out, _ = command("checkpoint", "import", "app.py:new", "kept.jsonl", "--yes")
    assert out.splitlines()[-1].split(maxsplit=4) == ["orders", "stream", "-", "TRIM_HORIZON", "a new lease"]
    found, before = leased.rows("sqlite:///new.db"), leased.rows()
    assert found.keys() == before.keys()
    for shard_id, each in found.items():
        kept = before[shard_id]
        assert (each.checkpoint, each.state, each.parents, each.children, each.window) == (
            kept.checkpoint, kept.state, kept.parents, kept.children, kept.window,
        )  # fmt: skip
        assert each.owner is None
        assert each.epoch == each.version - 1 > 1_000_000_000_000
    assert command("checkpoint", "import", "app.py:new", "kept.jsonl", "--yes") == ("", "nothing changes\n")


def test_an_exported_line_says_its_format(leased: Leased, command: Command) -> None:
    leased.keep(row("w", Position.after("5"), "p", window=WINDOW))
    assert json_lines(command("checkpoint", "export", *FROM_STORE)[0]) == [
        {
            "format": 1,
            "pipeline": "orders",
            "stream_arn": STREAM_ARN,
            "shard_id": "w",
            "state": "active",
            "checkpoint": "AFTER_SEQUENCE_NUMBER:5",
            "parents": ["p"],
            "children": [],
            "window": {"start_s": 0, "end_s": 60, "state": {"seen": 3}},
        }
    ]


# --- import ----------------------------------------------------------------------------------------------------------


def exported(leased: Leased, command: Command, **changes: object) -> str:
    """A file with the one row `b`, changed."""
    (line,) = (each for each in json_lines(command("checkpoint", "export", *FROM_STORE)[0]) if each["shard_id"] == "b")
    (leased.folder / "b.jsonl").write_text(json.dumps({**line, **changes}) + "\n\n")
    return "b.jsonl"


def test_import_moves_what_is_there_with_its_window(leased: Leased, command: Command) -> None:
    leased.keep_lineage()
    window = {"start_s": 0, "end_s": 60, "state": {"seen": 3}}
    path = exported(leased, command, checkpoint="AFTER_SEQUENCE_NUMBER:70", window=window)
    command("checkpoint", "import", *FROM_STORE, path, *BACK)
    found = leased.rows()["b"]
    assert (found.checkpoint, found.window, found.owner) == (Position.after("70"), WINDOW, None)


def test_import_makes_a_store_that_is_not_there_yet(leased: Leased, command: Command) -> None:
    """So a pipeline moves to another store."""
    leased.keep_lineage()
    (leased.folder / "all.jsonl").write_text(command("checkpoint", "export", *FROM_STORE)[0])
    target = f"sqlite:///{leased.folder}/new.db"
    at = [word if word != STORE else target for word in FROM_STORE]
    command("checkpoint", "import", *at, "all.jsonl", "--yes")
    moved, kept = leased.rows(target), leased.rows()
    assert {name: each.checkpoint for name, each in moved.items()} == {
        name: each.checkpoint for name, each in kept.items()
    }
    assert all(each.owner is None for each in moved.values())


def test_import_of_an_older_lineage_takes_the_newer_shards_back(leased: Leased, command: Command) -> None:
    leased.keep(row("b", Position.after("70"), "a"))
    path = exported(leased, command)
    leased.write("b", state=LeaseState.ENDED, checkpoint=SHARD_END)
    leased.keep(row("d", Position.after("90"), "b"))
    command("checkpoint", "import", *FROM_STORE, path, *BACK)
    assert leased.positions() == {"b": "AFTER_SEQUENCE_NUMBER:70", "d": "TRIM_HORIZON"}


def test_import_of_a_window_reads_stdin(leased: Leased, command: Command) -> None:
    leased.keep_lineage()
    text = command("checkpoint", "export", *FROM_STORE)[0].replace(":80", ":90")
    command("checkpoint", "import", *FROM_STORE, "-", "--allow-skip", "--yes", answer=text)
    assert leased.positions()["b"] == "AFTER_SEQUENCE_NUMBER:90"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"format": 2}, "b.jsonl:1: its format is not 1: it was written by another version of streamflow"),
        ({"checkpoint": "SOMEWHERE"}, "b.jsonl:1: checkpoint: "),
        ({"more": 1}, "b.jsonl:1: more: Extra inputs are not permitted"),
        ({"pipeline": "audit"}, "it has checkpoints of pipeline 'audit', and this is orders"),
        (
            {"stream_arn": f"{STREAM_ARN}1"},
            f"it has checkpoints of {STREAM_ARN}1, and pipeline 'orders' reads {STREAM_ARN}",
        ),
    ],
)
def test_import_refuses_what_means_nothing_here(
    leased: Leased, command: Command, changes: dict[str, object], told: str
) -> None:
    leased.keep_lineage()
    path = exported(leased, command, **changes)
    before = leased.rows()
    assert told in command("checkpoint", "import", *FROM_STORE, path, "--yes", code=2)[1]
    assert leased.rows() == before


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no json", "x.jsonl:1: it is no line of `streamflow checkpoint export`"),
        ("", "x.jsonl: there are no checkpoints in it"),
        (None, "x.jsonl cannot be read"),
    ],
)
def test_import_of_no_such_file_is_told(leased: Leased, command: Command, text: str | None, told: str) -> None:
    leased.keep_lineage()
    if text is not None:
        (leased.folder / "x.jsonl").write_text(text)
    assert told in command("checkpoint", "import", *FROM_STORE, "x.jsonl", code=2)[1]


def test_import_of_a_shard_that_is_there_twice_is_refused(leased: Leased, command: Command) -> None:
    leased.keep_lineage()
    path = exported(leased, command)
    text = (leased.folder / path).read_text()
    (leased.folder / path).write_text(text + text)
    assert "b.jsonl:3: b of orders is there twice" in command("checkpoint", "import", *FROM_STORE, path, code=2)[1]


# --- set -------------------------------------------------------------------------------------------------------------


def test_set_back_is_shown_written_noted_and_logged(
    leased: Leased, command: Command, caplog: pytest.LogCaptureFixture
) -> None:
    leased.keep(row("b", Position.after("80"), owner="gone", window=WINDOW))
    with caplog.at_level(logging.INFO, "streamflow"):
        out, err = command("checkpoint", "set", *FROM_STORE, "b", "70", *BACK)
    assert "AFTER_SEQUENCE_NUMBER:80  AFTER_SEQUENCE_NUMBER:70  what comes after TO is delivered again" in out
    assert "the state of open tumbling windows goes with the checkpoint" in err
    found = leased.rows()["b"]
    assert (str(found.checkpoint), found.window, found.owner) == ("AFTER_SEQUENCE_NUMBER:70", None, None)
    assert [gap.cause for gap in found.gaps] == ["moved back to AFTER_SEQUENCE_NUMBER:70 by ann"]
    assert [record.getMessage() for record in caplog.records if record.name == "streamflow.checkpoint"] == [
        "checkpoint changed pipeline=orders shard=b from=AFTER_SEQUENCE_NUMBER:80 to=AFTER_SEQUENCE_NUMBER:70 user=ann"
    ]


def test_set_ahead_leaves_a_note_of_what_is_lost(leased: Leased, command: Command) -> None:
    leased.keep(row("b", Position.after("80")))
    out, _ = command("checkpoint", "set", *FROM_STORE, "b", "90", "--allow-skip", "--yes", "--json")
    assert json_lines(out) == [
        {
            "pipeline": "orders",
            "shard_id": "b",
            "from": "AFTER_SEQUENCE_NUMBER:80",
            "to": "AFTER_SEQUENCE_NUMBER:90",
            "meaning": "what comes after FROM, up to TO, is never delivered",
            "direction": "ahead",
            "state": "active",
        }
    ]
    entry = json_lines(command("leases", "list", *FROM_STORE, "--json")[0])[0]
    assert entry["gaps"] == [
        {"lost_from": "AFTER_SEQUENCE_NUMBER:80", "cause": "moved ahead to AFTER_SEQUENCE_NUMBER:90 by ann"}
    ]


def test_set_of_an_ended_shard_brings_it_back_and_its_begun_children_to_their_start(
    leased: Leased, command: Command
) -> None:
    leased.keep_lineage()
    leased.write("b", owner=None)
    _, err = command("checkpoint", "set", *FROM_STORE, "a", "40", *BACK)
    assert "shards that ended are read again; their children wait for that" in err
    assert leased.positions() == {"a": "AFTER_SEQUENCE_NUMBER:40", "b": "TRIM_HORIZON", "c": "TRIM_HORIZON"}
    assert leased.rows()["a"].state is LeaseState.ACTIVE
    assert leased.rows()["c"].version == 1  # it was not begun


@pytest.mark.parametrize(
    ("position", "flag", "told"),
    [
        ("70", "--allow-skip", "records of 1 shard would be delivered again: --allow-repeat"),
        ("90", "--allow-repeat", "records of 1 shard would be lost: --allow-skip"),
        ("AT_TIMESTAMP:5", "--allow-repeat", "records of 1 shard would be lost: --allow-skip"),
        ("AT_TIMESTAMP:5", "--allow-skip", "records of 1 shard would be delivered again: --allow-repeat"),
    ],
)
def test_a_direction_that_was_not_allowed_is_refused_and_shown(
    leased: Leased, command: Command, position: str, flag: str, told: str
) -> None:
    leased.keep(row("b", Position.after("80")))
    out, err = command("checkpoint", "set", *FROM_STORE, "b", position, flag, "--yes", code=2)
    assert told in err
    assert "AFTER_SEQUENCE_NUMBER:80" in out
    assert leased.rows()["b"].version == 1


def test_a_living_owner_is_refused_unless_forced(leased: Leased, command: Command) -> None:
    leased.keep_lineage()
    leased.keep(worker("w1"))
    _, err = command("checkpoint", "set", *FROM_STORE, "b", "70", *BACK, code=2)
    assert "w1 seems to be alive, and has b" in err
    command("checkpoint", "set", *FROM_STORE, "b", "70", *BACK, "--force")
    assert (leased.rows()["b"].owner, leased.positions()["b"]) == (None, "AFTER_SEQUENCE_NUMBER:70")


def test_a_living_owner_of_a_child_is_refused_too(leased: Leased, command: Command) -> None:
    leased.keep(row("a", SHARD_END), row("c", TRIM_HORIZON, "a", owner="w1"), worker("w1"))
    out, err = command("checkpoint", "set", *FROM_STORE, "a", "40", *BACK, code=2)
    assert "its owner lets go: it waits for its parent" in out
    assert "w1 seems to be alive, and has c" in err
    command("checkpoint", "set", *FROM_STORE, "a", "40", *BACK, "--force")
    assert leased.rows()["c"].owner is None


def test_an_owner_that_was_silent_is_no_obstacle(
    leased: Leased, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    leased.keep_lineage()
    leased.keep(worker("w1"))
    monkeypatch.setattr("streamflow.cli.looking.anyio.sleep", lambda _: anyio.lowlevel.checkpoint())
    assert "seems to be alive" in command("checkpoint", "set", *FROM_STORE, "b", "70", *BACK, "--watch", "9", code=2)[1]
    command("checkpoint", "set", *FROM_STORE, "b", "70", *BACK, "--watch", "10")
    assert leased.positions()["b"] == "AFTER_SEQUENCE_NUMBER:70"


def test_without_a_terminal_it_must_be_agreed_to(leased: Leased, command: Command) -> None:
    leased.keep(row("b", Position.after("80")))
    _, err = command("checkpoint", "set", *FROM_STORE, "b", "70", "--allow-repeat", code=2, answer="y\n")
    assert "There is no terminal to ask on: --yes agrees" in err
    assert leased.rows()["b"].version == 1


@pytest.mark.parametrize(("answer", "stored"), [("y\n", "70"), ("n\n", "80"), ("\n", "80")])
def test_on_a_terminal_it_asks(leased: Leased, monkeypatch: pytest.MonkeyPatch, answer: str, stored: str) -> None:
    from streamflow.cli.main import invoke

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    leased.keep(row("b", Position.after("80")))
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    assert invoke(("checkpoint", "set", *FROM_STORE, "b", "70", "--allow-repeat")) == 0
    assert leased.positions()["b"] == f"AFTER_SEQUENCE_NUMBER:{stored}"


def test_a_sink_that_keeps_the_checkpoint_is_told(leased: Leased, command: Command) -> None:
    leased.keep(row("b", Position.after("80")))
    _, err = command("checkpoint", "set", "app.py:kept", "b", "70", *BACK, code=2)
    assert "pipeline 'orders': its sink sqlite keeps the checkpoint beside the data" in err
    assert leased.rows()["b"].version == 1
    command("checkpoint", "set", "app.py:kept", "b", "70", *BACK, "--force")
    assert leased.positions()["b"] == "AFTER_SEQUENCE_NUMBER:70"


def test_nothing_is_written_behind_a_lease_that_somebody_overtook(
    leased: Leased, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    leased.keep_lineage()
    leased.write("b", owner=None)
    confirmed = resetting._confirmed

    def overtaken(number: int, *, yes: bool) -> bool:
        leased.write("a", owner="w2")
        return confirmed(number, yes=yes)

    monkeypatch.setattr(resetting, "_confirmed", overtaken)
    _, err = command("checkpoint", "set", *FROM_STORE, "a", "40", *BACK, code=1)
    assert "error: 0 of 2 were changed" in err
    assert leased.positions() == {"a": "SHARD_END", "b": "AFTER_SEQUENCE_NUMBER:80", "c": "TRIM_HORIZON"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("b",), "Expected SHARD POSITION, got b."),
        (("b", "x"), "'x' is no position"),
        (("z", "5"), "there is no lease of 'z'"),
    ],
)
def test_set_must_be_told_what(leased: Leased, command: Command, arguments: tuple[str, ...], told: str) -> None:
    leased.keep_lineage()
    assert told in command("checkpoint", "set", *FROM_STORE, *arguments, code=2)[1]


def test_set_needs_one_pipeline(leased: Leased, command: Command) -> None:
    leased.keep(row("b", Position.after("80")), row("b", Position.after("60"), pipeline="audit"))
    err = command("checkpoint", "set", "app.py:two", "b", "70", *BACK, code=2)[1]
    assert "name one of orders, audit by --pipeline" in err
    command("checkpoint", "set", "app.py:two", "b", "70", "--pipeline", "audit", "--allow-skip", "--yes")
    assert str(leased.rows(pipeline="audit")["b"].checkpoint) == "AFTER_SEQUENCE_NUMBER:70"
    assert leased.positions()["b"] == "AFTER_SEQUENCE_NUMBER:80"


def test_setting_what_is_set_changes_nothing(leased: Leased, command: Command) -> None:
    leased.keep_lineage()
    assert command("checkpoint", "set", *FROM_STORE, "b", "80") == ("", "nothing changes\n")


# --- what the words mean ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("42", Position.after("42")),
        ("AT_SEQUENCE_NUMBER:42", Position.at("42")),
        ("AT_TIMESTAMP:1764000000", Position.at_timestamp(NOW_S)),
        ("SHARD_END", SHARD_END),
    ],
)
def test_a_position_is_a_number_or_a_position(text: str, position: Position) -> None:
    assert parsed_position(text) == position


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("TRIM_HORIZON", TRIM_HORIZON),
        ("42", Position.at("42")),
        ("-90s", NOW_S - 90),
        ("-2h", NOW_S - 7_200),
        ("-1d", NOW_S - 86_400),
        ("2025-11-24T16:00:00Z", NOW_S),
        ("2025-11-24T17:00:00+01:00", NOW_S),
        ("2025-11-24T16:00:00", NOW_S),
    ],
)
def test_a_target_is_a_horizon_a_number_or_a_time(text: str, found: object) -> None:
    assert parsed_target(text, now_s=NOW_S) == found


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("yesterday", "is none of"),
        ("2h", "is none of"),
        ("LATEST", "is none of"),
        ("2025-11-24T16:00:01Z", "still to come"),
    ],
)
def test_a_target_that_is_none_is_told(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parsed_target(text, now_s=NOW_S)


def test_a_sequence_number_is_that_of_one_shard(leased: Leased, command: Command) -> None:
    leased.keep_lineage()
    assert "name it" in command("checkpoint", "rewind", *FROM_STORE, "--to", "42", code=2)[1]


def test_rewind_never_goes_ahead() -> None:
    from streamflow.rules.resets import reset

    with pytest.raises(ConfigError, match="`streamflow checkpoint set` goes ahead"):
        rewinding._back([reset(row("b", Position.after("80")), Position.at("90"))])


def test_the_streams_own_row_cannot_be_moved(leased: Leased, command: Command) -> None:
    leased.keep(row(STREAM_ROW))
    assert "there is no lease of" in command("checkpoint", "set", *FROM_STORE, STREAM_ROW, "5", *BACK, code=2)[1]
