"""`streamflow leases` shows who owns what, lets leases go, and asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest

from leased_rows import FROM_STORE, STORE, Leased, command, json_lines, leased, row, worker
from streamflow.cli import looking
from streamflow.cli.looking import Look, silent
from streamflow.leases import STREAM_ROW, Gap, Lease, LeaseLayout, WindowState
from streamflow.positions import SHARD_END, TRIM_HORIZON, Position

if TYPE_CHECKING:
    from kept import Command

__all__ = ["command", "leased"]

WINDOW = WindowState(0, 60, b'{"seen":3}')


def shared(at: Leased) -> None:
    at.keep_lineage()
    at.keep(row("d", Position.after("5"), owner="gone", window=WINDOW), worker("w1"), worker("w2"))


# --- list ------------------------------------------------------------------------------------------------------------


def test_list_has_a_row_for_each_lease_and_one_for_each_worker(leased: Leased, command: Command) -> None:
    shared(leased)
    out, _ = command("leases", "list", *FROM_STORE)
    table, _, workers = out.partition("\n\n")
    titles, *rows = (line.split() for line in table.splitlines())
    assert titles[:5] == ["pipeline", "shard", "state", "owner", "epoch"]
    assert [found[1] for found in rows] == ["a", "b", "c", "d", "stream"]
    assert rows[0][2:] == ["ended", "-", "0", "1", "SHARD_END", "-", "0", "2", "0"]
    assert "gone (no worker row)" in table.splitlines()[4]
    assert [line.split() for line in workers.splitlines()[1:]] == [
        ["w1", "10", "s", "1", "1", "orders"],
        ["w2", "10", "s", "1", "0", "orders"],
    ]


def test_list_as_json_has_everything_and_says_what_it_cannot_know(leased: Leased, command: Command) -> None:
    leased.keep(
        row("b", Position.after("80"), "a", owner="w1", claimant="w2", epoch=3, children=("c",)),
        row("e", gaps=(Gap(lost_from=TRIM_HORIZON, found_at_s=0.0, cause="trimmed"),)),
        worker("w1"),
    )
    lease, unowned, known = json_lines(command("leases", "list", "app.py:one", "--json")[0])
    assert lease == {
        "kind": "lease",
        "pipeline": "orders",
        "stream_arn": row("b").stream_arn,
        "shard_id": "b",
        "state": "active",
        "owner": "w1",
        "owner_has_row": True,
        "owner_silent": None,
        "epoch": 3,
        "version": 1,
        "checkpoint": "AFTER_SEQUENCE_NUMBER:80",
        "claimant": "w2",
        "parents": ["a"],
        "children": ["c"],
        "gaps": [],
    }
    assert (unowned["owner_has_row"], unowned["gaps"]) == (None, [{"lost_from": "TRIM_HORIZON", "cause": "trimmed"}])
    assert known == {
        "kind": "worker",
        "worker": "w1",
        "pipelines": ["orders"],
        "lease_duration_s": 10.0,
        "version": 1,
        "leases": 1,
        "silent": None,
    }


def test_watching_tells_who_was_silent(leased: Leased, command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    shared(leased)
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await anyio.to_thread.run_sync(leased.write, "d")

    monkeypatch.setattr("streamflow.cli.looking.anyio.sleep", sleep)
    entries = json_lines(command("leases", "list", *FROM_STORE, "--watch", "12", "--json")[0])
    assert waits == [12.0]
    assert {e["owner"]: e["owner_silent"] for e in entries if e["kind"] == "lease"} == {
        None: None, "w1": True, "gone": False,
    }  # fmt: skip
    out, _ = command("leases", "list", *FROM_STORE, "--watch", "12")
    assert "w1 (silent)" in out


def test_list_of_several_pipelines_has_them_all(leased: Leased, command: Command) -> None:
    leased.keep(row("a"), row("a", pipeline="audit"))
    entries = json_lines(command("leases", "list", "app.py:two", "--json")[0])
    assert [entry["pipeline"] for entry in entries] == ["audit", "orders"]
    assert len(json_lines(command("leases", "list", "app.py:two", "--pipeline", "audit", "--json")[0])) == 1


def test_list_of_nothing_says_so(leased: Leased, command: Command) -> None:
    leased.keep(row("a", pipeline="audit"))
    assert command("leases", "list", *FROM_STORE) == (
        "",
        "there are no leases: no worker has started such a pipeline with this store\n",
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "Name a FILE, or the store"),
        (("--store", STORE), "--store goes with --pipeline NAME"),
        (("--store", STORE, "--pipeline", "orders"), "--store goes with --stream TABLE or ARN"),
        (("app.py:two", "--pipeline", "order"), "--pipeline: app.py:two has no 'order', but orders, audit"),
        (("app.py:new",), "there is no file new.db"),
        (("app.py:one", "more"), "unexpected extra argument (more)"),
    ],
)
def test_a_place_that_is_none_is_told(leased: Leased, command: Command, arguments: tuple[str, ...], told: str) -> None:
    leased.keep(row("a"))
    assert told in command("leases", "list", *arguments, code=2)[1]
    assert not (leased.folder / "new.db").exists()


# --- silence ---------------------------------------------------------------------------------------------------------


def looked(*rows: Lease, layout: LeaseLayout = LeaseLayout.NATIVE, workers: tuple[Lease, ...] = ()) -> Look:
    return Look(layout=layout, rows=rows, workers={each.shard_id: each for each in workers})


def test_an_owner_is_silent_if_nothing_of_it_was_written() -> None:
    first = looked(row("a", owner="w1", version=1), row("b", owner="w2", version=1), workers=(worker("w1"),))
    assert silent(first, first) == {"w1", "w2"}
    second = looked(row("a", owner="w1", version=2), row("b", owner="w2", version=1), workers=(worker("w1"),))
    assert silent(first, second) == {"w2"}


def test_a_new_owner_is_not_silent() -> None:
    first, second = looked(row("a", version=1)), looked(row("a", owner="w1", version=2))
    assert silent(first, second) == set()


@pytest.mark.parametrize(
    ("watched_s", "duration_s", "alive"),
    [(9.0, 10.0, True), (10.0, 10.0, False), (10.0, 30.0, True), (10.0, None, False)],
)
def test_silence_counts_after_a_lease_duration(watched_s: float, duration_s: float | None, alive: bool) -> None:
    look = Look(
        layout=LeaseLayout.NATIVE,
        rows=(row("a", owner="w1"),),
        workers={"w1": worker("w1", duration_s)},
        silent=frozenset({"w1"}),
        watched_s=watched_s,
    )
    assert look.seems_alive("w1") is alive


def test_without_worker_rows_an_owner_seems_alive_until_it_was_silent() -> None:
    look = looked(row("a", owner="w1"), layout=LeaseLayout.KCL)
    assert look.seems_alive("w1")
    assert not looked(row("a", owner="w1")).seems_alive("w1")


# --- release ---------------------------------------------------------------------------------------------------------


def test_release_frees_the_lease_of_an_owner_that_is_gone_and_keeps_the_rest(leased: Leased, command: Command) -> None:
    shared(leased)
    out, _ = command("leases", "release", "app.py:one", "d")
    assert out == "d: gone has it no more, and any worker may take it\n"
    released = leased.rows()["d"]
    assert (released.owner, released.checkpoint, released.window, released.epoch) == (
        None,
        Position.after("5"),
        WINDOW,
        0,
    )
    assert leased.rows()["b"].owner == "w1"


def test_release_of_a_living_owner_is_refused_unless_forced(leased: Leased, command: Command) -> None:
    shared(leased)
    _, err = command("leases", "release", *FROM_STORE, "b", "d", code=2)
    assert "error: w1 seems to be alive, and has b" in err
    assert "stop w1 with SIGTERM" in err
    assert leased.rows()["d"].owner == "gone"  # all or nothing
    command("leases", "release", *FROM_STORE, "b", "--force")
    assert leased.rows()["b"].owner is None


def test_an_owner_of_many_shards_is_told_in_one_line(leased: Leased, command: Command) -> None:
    leased.keep(*(row(f"s{number}", owner="w1") for number in range(5)), worker("w1"))
    _, err = command("leases", "release", *FROM_STORE, "--all", code=2)
    assert err.splitlines()[0] == "error: w1 seems to be alive, and has s0, s1, s2 and 2 more"


def test_release_of_all_takes_every_owned_lease(
    leased: Leased, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared(leased)
    monkeypatch.setattr("streamflow.cli.looking.anyio.sleep", lambda _: anyio.lowlevel.checkpoint())
    out, _ = command("leases", "release", *FROM_STORE, "--all", "--watch", "12")
    assert len(out.splitlines()) == 3
    assert {each.owner for each in leased.rows().values()} == {None}


def test_release_says_what_has_no_owner(leased: Leased, command: Command) -> None:
    shared(leased)
    assert command("leases", "release", *FROM_STORE, "c") == ("", "c has no owner\n")
    assert leased.rows()["c"].version == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "Name the shards, or say --all."),
        (("--all", "a"), "Name the shards, or say --all."),
        (("shard",), "there is no lease of 'shard'"),
        (("strem",), "did you mean stream?"),
    ],
)
def test_release_must_be_told_what(leased: Leased, command: Command, arguments: tuple[str, ...], told: str) -> None:
    shared(leased)
    assert told in command("leases", "release", *FROM_STORE, *arguments, code=2)[1]


def test_release_that_somebody_overtook_changes_nothing(
    leased: Leased, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared(leased)
    look = looking.look

    async def overtaken(*arguments: object, **options: object) -> Look:
        found = await look(*arguments, **options)  # type: ignore[arg-type]
        await anyio.to_thread.run_sync(lambda: leased.write("d", owner="w2"))
        return found

    monkeypatch.setattr(looking, "look", overtaken)
    out, err = command("leases", "release", *FROM_STORE, "d", code=1)
    assert (out, "d was written by somebody else meanwhile" in err) == ("", True)
    assert leased.rows()["d"].owner == "w2"


# --- take ------------------------------------------------------------------------------------------------------------


def test_take_asks_the_owner(leased: Leased, command: Command) -> None:
    shared(leased)
    out, _ = command("leases", "take", "app.py:one", "b", "--for", "w2")
    assert out == "b: w1 was asked to pass it on to w2\n"
    asked = leased.rows()["b"]
    assert (asked.owner, asked.claimant, asked.version) == ("w1", "w2", 2)


def test_take_keeps_the_window(leased: Leased, command: Command) -> None:
    leased.keep(row("b", owner="w1", window=WINDOW), worker("w1"), worker("w2"))
    command("leases", "take", *FROM_STORE, "b", "--for", "w2")
    assert leased.rows()["b"].window == WINDOW


@pytest.mark.parametrize(
    ("shard_id", "who", "told"),
    [
        ("b", "w3", "--for: no worker 'w3' works on orders"),
        ("b", "w8", "--for: no worker 'w8' works on orders"),
        ("a", "w2", "a is read to its end"),
        ("c", "w2", "c has no owner to ask"),
        ("b", "w1", "b belongs to w1 already"),
        ("e", "w2", "e is about to go to w9 already"),
    ],
)
def test_take_refuses_what_cannot_be_passed_on(
    leased: Leased, command: Command, shard_id: str, who: str, told: str
) -> None:
    shared(leased)
    leased.keep(row("e", owner="w1", claimant="w9"), worker("w8", pipelines=("audit",)))
    before = leased.rows()
    assert told in command("leases", "take", *FROM_STORE, shard_id, "--for", who, code=2)[1]
    assert leased.rows() == before


def test_take_in_a_table_of_the_kcl_goes_by_its_own_request() -> None:
    from streamflow.cli.leases import _ask
    from streamflow.stores.memory import MemoryStore

    class Counted(MemoryStore):
        layout = LeaseLayout.KCL

        async def ask(self, lease: Lease, claimant: str) -> Lease | None:
            return lease if (lease.shard_id, claimant) == ("a", "w2") else None

    assert anyio.run(_ask, Counted(), row("a", SHARD_END), "w2")
    assert not anyio.run(_ask, Counted(), row("b"), "w2")


def test_the_streams_own_row_can_be_released(leased: Leased, command: Command) -> None:
    leased.keep(row(STREAM_ROW, owner="gone"))
    command("leases", "release", *FROM_STORE, STREAM_ROW)
    assert leased.rows()[STREAM_ROW].owner is None
