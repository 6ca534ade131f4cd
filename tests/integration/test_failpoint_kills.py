"""A worker process is killed in every window between an effect and its record, started again, and accounted for.

The account knows what was written to the table, what the handler wrote down before it returned, and what the file of the
store says; it shares no code with the engine. Each test says in its properties (`--junitxml`) how many kills a pipeline has
survived, and how many of its records were repeated and lost.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import forking
from streamflow.failpoints import NAMES, VARIABLE
from streamflow.testing import LocalStreams

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("failpoints")]

BATCH = 10
RECORDS = 50
BEHIND_ALL = 10**40
HANDLERS = """
import json, os, signal
import anyio

journal = os.open("journal.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
stop_after = int(os.environ.get("STOP_AFTER", "0"))
poison = os.environ.get("POISON")
batches = 0

async def deliver(batch):
    global batches
    await anyio.sleep(0.02)  # in which a checkpoint can be stored
    if any(record.new_image["id"] == poison for record in batch):
        raise RuntimeError("poison")
    accepted = [
        (record.new_image["id"], int(record.new_image["version"]), batch.shard.shard_id, int(record.sequence_number))
        for record in batch
    ]
    os.write(journal, (json.dumps(accepted) + "\\n").encode())
    batches += 1
    if batches == stop_after:
        os.kill(os.getpid(), signal.SIGTERM)
        await anyio.sleep(0.02)  # in which it is heard
"""
FILE = """
store = "sqlite:///store.db"
lease_duration_s = 1
worker_id = "${{WORKER:-w}}"

[aws]
endpoint_url = "{endpoint}"
region = "us-east-1"

[pipelines.orders]
table = "{table}"
starting_position = "TRIM_HORIZON"
batch_size = {batch}
checkpoint_interval_s = 0
"""
TO_HANDLER = """
handler = "handlers:deliver"
maximum_retry_attempts = 0
bisect_batch_on_function_error = true
on_poison = "{on_poison}"
"""
TO_SINK = """
[pipelines.orders.sink]
type = "sqlite"
path = "sink.db"
table = "orders"
mode = "append"
transactional = true
columns = {{ id = "id", version = "version" }}
"""
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}


@pytest.fixture(scope="module")
def streams() -> Iterator[LocalStreams]:
    with LocalStreams(shards=1).in_thread() as streams:
        yield streams


@dataclass(eq=False)
class Account:
    """Of one pipeline over a table whose stream has ended, in as many lives as it takes."""

    folder: Path
    written: list[tuple[str, int]]
    figures: list[tuple[str, object]]
    """What the test says of itself in a report."""
    file: str = "orders.toml"
    kills: int = 0
    owed: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How often each change may have been accepted again, after the last kill: those are behind what was stored."""

    def live(self, *arguments: str, failpoints: str = "", **environment: str) -> int:
        """Wait for the end of a process; the answer is its exit status, or minus the number of the signal that killed it."""
        command = [sys.executable, "-m", "streamflow.testing.failpoints", *(arguments or ("run", self.file))]
        variables = {**os.environ, **ENVIRONMENT, VARIABLE: failpoints, **environment}
        with (self.folder / "log.txt").open("ab") as log:
            return forking.run(command, cwd=self.folder, env=variables, stdout=log, stderr=log).returncode

    def is_killed(self, name: str, *arguments: str, time: int = 1, **environment: str) -> None:
        """Live until the process reaches the point for the so-manieth time, and is killed there."""
        status = self.live(*arguments, failpoints=f"{name}=kill@{time}", **environment)
        assert status == -signal.SIGKILL, self.log()
        self.kills += 1
        repeated = self.repeated()
        assert repeated <= self.owed
        checkpoints, letters = self.checkpoints(), set(self.letters())
        self.owed = repeated + Counter(
            {
                (key, version): 1
                for key, version, shard_id, number in self.accepted()
                if number > checkpoints.get(shard_id, 0) or (key, version) in letters
            }
        )

    def ends(self, *arguments: str, **environment: str) -> None:
        """Live until there is nothing more to do."""
        assert self.live(*arguments, **environment) == 0, self.log()

    def log(self) -> str:
        return (self.folder / "log.txt").read_text()

    # -- what is known ---------------------------------------------------------------------------------------------------

    def accepted(self) -> list[tuple[str, int, str, int]]:
        """Item, version, shard and sequence number of each change that the handler took, in this order."""
        path = self.folder / "journal.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [tuple(change) for line in lines for change in json.loads(line)]

    def repeated(self) -> Counter[tuple[str, int]]:
        times = Counter((key, version) for key, version, _, _ in self.accepted())
        return times - Counter(times.keys())

    def checkpoints(self) -> dict[str, int]:
        """Shard to the sequence number up to which it is done."""
        rows = self.rows("SELECT shard_id, checkpoint FROM streamflow_leases WHERE checkpoint <> 'TRIM_HORIZON'")
        return {shard_id: BEHIND_ALL if text == "SHARD_END" else int(text.partition(":")[2]) for shard_id, text in rows}

    def letters(self) -> list[tuple[str, int]]:
        records = [json.loads(record) for (record,) in self.rows("SELECT record FROM streamflow_letters ORDER BY id")]
        images = [record["dynamodb"]["NewImage"] for record in records]
        return [(image["id"]["S"], int(image["version"]["N"])) for image in images]

    def in_sink(self) -> list[tuple[str, int]]:
        """Each row in the order in which it was committed."""
        return [
            (key, int(version))
            for key, version in self.rows("SELECT id, version FROM orders ORDER BY rowid", "sink.db")
        ]

    def rows(self, query: str, file: str = "store.db") -> list[tuple[str, ...]]:
        if not (self.folder / file).exists():
            return []
        connection = sqlite3.connect(self.folder / file)
        try:
            return connection.execute(query).fetchall()
        finally:
            connection.close()

    # -- what must be so -------------------------------------------------------------------------------------------------

    def check(self, *, repeated_max: int, left: frozenset[tuple[str, int]] = frozenset()) -> None:
        """`left` is kept in the store: what no handler ever took."""
        deliveries = self.in_sink() or [(key, version) for key, version, _, _ in self.accepted()]
        lost = set(self.written) - set(deliveries) - set(self.letters())
        repeated = self.repeated()
        self.figures += [
            ("kills_survived", self.kills),
            ("records", len(self.written)),
            ("records_repeated", repeated.total()),
            ("records_lost", len(lost)),
        ]
        assert not lost
        assert set(deliveries) == set(self.written) - left
        assert sorted(self.letters()) == sorted(left)
        in_order(deliveries)
        assert repeated == self.owed
        assert repeated.total() <= repeated_max


def in_order(deliveries: Sequence[tuple[str, int]]) -> None:
    """First acceptances of each item come in the order of its versions."""
    newest: dict[str, int] = {}
    for key, version in dict.fromkeys(deliveries):
        assert version > newest.get(key, 0), f"{key}: {version} after {newest[key]}"
        newest[key] = version


@pytest.fixture
def account(
    tmp_path: Path,
    streams: LocalStreams,
    request: pytest.FixtureRequest,
) -> Account:
    """A table with one shard that was split half-way, and whose stream is disabled."""
    table = f"orders-{abs(hash(request.node.name))}"
    written = []
    streams.create_table(table)
    for number in range(RECORDS):
        change = f"k{number % 7}", number // 7 + 1
        written.append(change)
        streams.put(table, {"id": {"S": change[0]}, "version": {"N": str(change[1])}})
        if number == RECORDS // 2:
            streams.split(table)
    streams.disable_stream(table)
    file = FILE.format(endpoint=streams.endpoint_url, table=table, batch=BATCH)
    (tmp_path / "handlers.py").write_text(HANDLERS)
    (tmp_path / "orders.toml").write_text(file + TO_HANDLER.format(on_poison="dead_letter"))
    (tmp_path / "parking.toml").write_text(file + TO_HANDLER.format(on_poison="park_key"))
    (tmp_path / "sink.toml").write_text(file + TO_SINK.format())
    return Account(tmp_path, written, request.node.user_properties)


# --- killed once, and started again ------------------------------------------------------------------------------------

REPEATED = {
    # Nothing was accepted yet, or all that was is stored.
    "discovery.listed": 0,
    "discovery.rows_created": 0,
    "lease.listed": 0,
    "lease.before_take": 0,
    "lease.taken": 0,
    "lease.written": 0,
    "shard.before_open": 0,
    "page.read": 0,
    # The batch whose handler has returned.
    "batch.handled": BATCH,
    # What is not stored yet, and a batch that was accepted meanwhile.
    "checkpoint.before_write": 2 * BATCH,
    "checkpoint.stored": BATCH,
    # The same for each of two shards: a sign of life is not bound to any batch.
    "heartbeat.written": 4 * BATCH,
    # All of a shard, or of all shards, is stored.
    "shard.ended": 0,
    "children.stored": 0,
    "stop.retired": 0,
    "lease.before_release": 0,
    "lease.released": 0,
    "worker.before_leave": 0,
}


@pytest.mark.fault("F28")
@pytest.mark.parametrize("name", REPEATED)
def test_a_kill_loses_nothing(name: str, account: Account) -> None:
    account.is_killed(name)
    account.ends()
    account.check(repeated_max=REPEATED[name])


def test_a_kill_after_the_write_of_a_checkpoint_loses_nothing(account: Account) -> None:
    account.is_killed("lease.written", time=2)  # the first one is that of the stream's row
    account.ends()
    account.check(repeated_max=BATCH)


@pytest.mark.fault("F28")
def test_a_kill_in_every_window_one_after_the_other_loses_nothing(account: Account) -> None:
    for name in REPEATED:
        account.is_killed(name)
    account.ends()
    account.check(repeated_max=sum(REPEATED.values()))


# --- killed while it stops ---------------------------------------------------------------------------------------------

AT_STOP = {"stop.retired": 2 * BATCH, "lease.before_release": 0, "lease.released": 0, "worker.before_leave": 0}
"""Before the last checkpoint of the shard, and behind it."""


@pytest.mark.parametrize("name", AT_STOP)
def test_a_kill_after_sigterm_repeats_nothing_that_is_stored(name: str, account: Account) -> None:
    account.is_killed(name, STOP_AFTER="2")
    assert 2 * BATCH <= len(account.accepted()) < RECORDS // 2
    account.ends()
    account.check(repeated_max=AT_STOP[name])


# --- killed while it gives up ------------------------------------------------------------------------------------------

POISON = "k3"
POISONED = frozenset((POISON, number // 7 + 1) for number in range(RECORDS) if number % 7 == 3)


@pytest.mark.parametrize(
    ("name", "time", "file"),
    [
        ("batch.failed", 3, "orders.toml"),
        ("dead_letter.sent", 2, "orders.toml"),
        ("item.parked", 1, "parking.toml"),
        ("item.parked", 3, "parking.toml"),
    ],
)
def test_a_kill_while_records_are_given_up_keeps_each_of_them(
    name: str, time: int, file: str, account: Account
) -> None:
    account.file = file
    account.is_killed(name, time=time, POISON=POISON)
    account.ends(POISON=POISON)
    account.check(repeated_max=2 * BATCH, left=POISONED)


@pytest.mark.parametrize(("name", "repeated"), [("redrive.claimed", 0), ("redrive.delivered", BATCH)])
def test_a_kill_while_letters_are_redriven_keeps_those_that_are_not_delivered(
    name: str, repeated: int, account: Account
) -> None:
    account.ends(POISON=POISON)
    account.is_killed(name, "dlq", "redrive", "orders.toml")
    account.ends("dlq", "redrive", "orders.toml", "--take-over")
    account.check(repeated_max=repeated)


# --- killed around a sink that keeps the checkpoint --------------------------------------------------------------------


@pytest.mark.fault("F28")
@pytest.mark.parametrize(("name", "time"), [("fence.raised", 1), ("fence.advanced", 1), ("sqlite_sink.committed", 2)])
def test_a_kill_around_a_transactional_sink_leaves_each_change_in_it_once(
    name: str, time: int, account: Account
) -> None:
    account.file = "sink.toml"
    account.is_killed(name, time=time)
    account.ends()
    account.check(repeated_max=0)
    assert len(account.in_sink()) == RECORDS


# --- killed in a life that comes after another -------------------------------------------------------------------------


def test_a_kill_while_another_workers_death_is_noticed_loses_nothing(account: Account) -> None:
    account.is_killed("batch.handled", WORKER="a")
    account.is_killed("heartbeat.before_strike", WORKER="b")
    account.ends(WORKER="b")
    account.check(repeated_max=BATCH)


def test_a_kill_while_unknown_shards_are_stored_loses_nothing(account: Account) -> None:
    account.is_killed("batch.handled")
    account.is_killed("discovery.audited")
    account.ends()
    account.check(repeated_max=BATCH)


OF_TWO_WORKERS = {name for name in NAMES if name.startswith("handover.")}
"""Nobody asks where there is nobody else; `tests/simulation` has these."""


@pytest.mark.fault("F28")
def test_a_process_was_killed_in_every_window_that_it_can_reach_alone() -> None:
    given_up = {"batch.failed", "dead_letter.sent", "item.parked", "redrive.claimed", "redrive.delivered"}
    sink = {"fence.raised", "fence.advanced", "sqlite_sink.committed"}
    later = {"heartbeat.before_strike", "discovery.audited"}
    assert REPEATED.keys() | given_up | sink | later == NAMES.keys() - OF_TWO_WORKERS


# --- the command -------------------------------------------------------------------------------------------------------


def command(account: Account, *words: str, failpoints: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *words],
        check=False,
        cwd=account.folder,
        env={**os.environ, **ENVIRONMENT, VARIABLE: failpoints},
        capture_output=True,
        text=True,
    )


def test_the_command_refuses_to_run_where_it_would_ignore_the_variable(account: Account) -> None:
    ended = command(account, "streamflow.cli.main", "run", "orders.toml", failpoints="batch.handled=kill")
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "error: STREAMFLOW_FAILPOINTS is set, and this process would ignore it: unset it, or break things on purpose with "
        "`python -m streamflow.testing.failpoints run …`\n"
    )
    assert account.rows("SELECT 1 FROM streamflow_leases") == []


def test_the_same_command_from_testing_is_killed_where_the_variable_says(account: Account) -> None:
    ended = command(account, "streamflow.testing.failpoints", "run", "orders.toml", failpoints="batch.handled=kill@2")
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert len(account.accepted()) == 2 * BATCH
    ended = command(account, "streamflow.cli.main", "run", "orders.toml", failpoints="")
    assert ended.returncode == 0, ended.stderr


def test_a_mistake_in_the_variable_ends_the_command_before_it_begins(account: Account) -> None:
    assert account.live(failpoints="batch.handeld=kill") == 2
    assert (
        account.log()
        == "error: STREAMFLOW_FAILPOINTS: there is no failpoint 'batch.handeld', did you mean batch.handled?\n"
    )


def test_an_error_that_is_raised_ends_the_worker_as_any_other_would(account: Account) -> None:
    assert account.live(failpoints="batch.handled=raise@2") == 1
    assert "FailpointError: the failpoint batch.handled is armed to raise this" in account.log()
    account.ends()
    assert {(key, version) for key, version, _, _ in account.accepted()} == set(account.written)


def test_a_delay_that_is_armed_delays_and_loses_nothing(account: Account) -> None:
    account.ends(failpoints="checkpoint.before_write=sleep:0.1;page.read=sleep:0.01:0.5")
    account.check(repeated_max=0)


def test_the_commands_of_the_page_do_what_it_says(account: Account) -> None:
    page = (Path(__file__).parents[2] / "docs" / "failpoints.md").read_text(encoding="utf-8")
    killed, restarted, delayed = re.findall(
        r"^(?:STREAMFLOW_FAILPOINTS=\"(.+)\" python -m streamflow.testing.failpoints|streamflow) run orders.toml$",
        page,
        re.MULTILINE,
    )
    assert account.live(failpoints=killed) == -signal.SIGKILL
    assert len(account.accepted()) == RECORDS // 2 + 1  # the third batch is the last of the shard that was split
    account.ends(failpoints=restarted)
    account.ends(failpoints=delayed)
    assert {(key, version) for key, version, _, _ in account.accepted()} == set(account.written)
