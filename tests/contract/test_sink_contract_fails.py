"""Every scenario of the sinks' contract suite can fail: sinks with one fault each, and the scenario that finds it."""

from __future__ import annotations

import inspect
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import anyio
import broken_sinks as broken
import pytest
from journal_sink import JournalProcess, JournalWriter
from reference_sinks import LOG, STATE, LogWriter, StateWriter, seen_items, seen_messages

from streamflow.pipeline import AwsOptions
from streamflow.sdk import Capabilities, SinkDeclaration
from streamflow.testing.proxies import open_fault_proxy
from streamflow.testing.sink_contract import Seen, SinkContract, failures, lifecycle, pipelines, runs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from streamflow.testing.proxies import FaultProxy

pytestmark = pytest.mark.anyio

WINDOW = Capabilities(order="key", idempotence="window", idempotence_key="something", idempotence_window_s=60)
VERSIONED = Capabilities(order="key", idempotence="versioned", idempotence_key="something")

CANNOT_FAIL = {"test_what_was_delivered_is_counted": "the engine counts, whatever the sink does"}


class LogInMemory(SinkContract):
    kind = "log"

    async def read_back(self, sink: SinkDeclaration) -> list[Seen]:
        return seen_messages(sink)


class StateInMemory(SinkContract):
    kind = "state"

    async def read_back(self, sink: SinkDeclaration) -> list[Seen]:
        return seen_items(sink)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`found` is what the failure says; `declared` are the fixtures for which the sink stands in."""

    fault: str
    scenario: str
    found: str
    sink: Callable[..., SinkDeclaration]
    arguments: dict[str, Any] = field(default_factory=dict)
    declared: tuple[str, ...] = ()
    kind: Literal["log", "state"] = "log"

    def __str__(self) -> str:
        return f"{self.fault}, {self.scenario}"


def log(fault: str, writer: Any, scenario: str, found: str, can: Capabilities = LOG, **arguments: Any) -> Case:
    return Case(
        fault=fault,
        scenario=scenario,
        found=found,
        sink=lambda: broken.memory_log_by(writer, can),
        arguments=arguments,
    )


def state(fault: str, writer: Any, scenario: str, found: str, **arguments: Any) -> Case:
    return Case(
        fault=fault,
        scenario=scenario,
        found=found,
        sink=lambda: broken.memory_state_by(writer, STATE),
        arguments=arguments,
        kind="state",
    )


def opening(fault: str, opening: Any, scenario: str, found: str) -> Case:
    return Case(fault=fault, scenario=scenario, found=found, sink=lambda: broken.memory_log_opened_by(opening))


IN_MEMORY = [
    log("backwards", broken.Backwards, "many_changes_of_one_item_in_one_batch_keep_their_order", "comes behind"),
    log("one batch for all", broken.HasOneBatchForAll, "several_shards_are_written_at_the_same_time", "are missing"),
    log(
        "one batch for all",
        broken.HasOneBatchForAll,
        "changes_of_one_item_keep_their_order_over_batches_of_several_shards",
        "are missing",
    ),
    log(
        "one batch for all",
        broken.HasOneBatchForAll,
        "several_batches_of_a_shard_are_delivered_at_the_same_time",
        "are missing",
    ),
    state(
        "keeps the first", broken.KeepsTheFirst, "many_changes_of_one_item_in_one_batch_keep_their_order", "shown with"
    ),
    state("keeps the last", broken.KeepsTheLastWritten, "an_older_version_does_not_replace_a_newer_one", "shown with"),
    state("compares text", broken.ComparesText, "an_older_version_does_not_replace_a_newer_one", "shown with"),
    state(
        "no tombstones", broken.HasNoTombstones, "an_older_version_does_not_bring_a_deleted_item_back", "was deleted"
    ),
    state("never deletes", broken.NeverDeletes, "an_insert_a_modify_and_a_delete_are_written", "was deleted"),
    state("never deletes", broken.NeverDeletes, "a_pipeline_delivers_every_change_of_several_shards", "was deleted"),
    state("stays deleted", broken.StaysDeleted, "an_item_that_is_deleted_can_come_back", "should be there"),
    state("loses digits", broken.LosesDigits, "a_value_arrives_as_it_was", "another image", name="beyond_double"),
    state("loses digits", broken.LosesDigits, "an_item_with_every_type_arrives_as_it_was", "another image"),
    log(
        "swallows", broken.SwallowsRefusals, "exactly_the_records_that_cannot_be_taken_are_refused", "count as written"
    ),
    log("refuses all", broken.RefusesTheWholeBatch, "exactly_the_records_that_cannot_be_taken_are_refused", "are told"),
    log(
        "overtakes",
        broken.OvertakesWhatWasRefused,
        "a_later_change_does_not_overtake_one_that_was_refused",
        "counts as",
    ),
    log(
        "swallows",
        broken.SwallowsRefusals,
        "a_record_that_cannot_be_taken_is_a_dead_letter_and_the_others_arrive",
        "set()",
    ),
    log("shows its token", broken.ShowsItsToken, "a_secret_is_shown_nowhere", "a secret is shown"),
    log("logs its token", broken.LogsItsToken, "a_secret_is_shown_nowhere", "a secret is shown"),
    log("blocks", broken.BlocksTheLoop, "the_event_loop_is_never_blocked", "blocks the event loop"),
    log("writes later", broken.WritesLater, "one_record_is_written", "are missing"),
    log("first ten", broken.TakesTheFirstTen, "the_largest_batch_is_written", "are missing"),
    log("first ten", broken.TakesTheFirstTen, "a_batch_beyond_the_limits_of_a_request_is_written", "are missing"),
    log("repeats", LogWriter, "the_same_batch_again_changes_nothing", "more than once", WINDOW),
    log(
        "batches", broken.RemembersBatches, "the_same_records_in_other_batches_change_nothing", "more than once", WINDOW
    ),
    log("first records", broken.RemembersFirstRecords, "what_was_written_in_part_is_completed", "are missing"),
    log("counts early", broken.CountsBeforeItWrites, "a_write_that_is_cancelled_leaves_the_sink_usable", "are missing"),
    log("hangs", broken.Hangs, "a_clean_stop_ends_in_time_and_repeats_nothing", "did not end within the deadline"),
    opening("a task", broken.leaks_a_task, "nothing_is_left_when_it_is_closed", "3 tasks"),
    opening("a thread", broken.leaks_a_thread, "nothing_is_left_when_it_is_closed", "3 threads"),
    opening("a socket", broken.leaks_a_socket, "nothing_is_left_when_it_is_closed", "3 sockets"),
    opening("opens once", broken.opens_once, "it_can_be_opened_and_closed_again_and_again", "it is open"),
    opening("opens once", broken.opens_once, "it_can_be_open_twice_at_the_same_time", "it is open"),
    Case(
        fault="takes anything",
        scenario="an_unknown_key_is_refused",
        found="DID NOT RAISE",
        sink=lambda: broken.declared_with(broken.TakesAnything),
    ),
    Case(
        fault="describes nothing",
        scenario="its_settings_have_a_schema_that_describes_every_key",
        found="Place.name",
        sink=lambda: broken.declared_with(broken.DescribesNothing),
    ),
]


def journal(fault: str, writer: Any, scenario: str, found: str, *, mode: str = "log", **options: Any) -> Case:
    return Case(
        fault=fault,
        scenario=scenario,
        found=found,
        sink=lambda **settings: broken.journal_by(writer, mode=mode, **options, **settings),
        kind="state" if mode != "log" else "log",
    )


def refused_by(fault: str, scenario: str, fixture: str, sink: Callable[..., SinkDeclaration], found: str) -> Case:
    return Case(fault=fault, scenario=scenario, found=found, sink=sink, declared=(fixture,))


OVER_A_SERVER = [
    journal("ignores it", broken.IgnoresItsServer, "a_target_that_was_away_is_written_when_it_is_back", "was away"),
    journal(
        "refuses", broken.RefusesWhenAway, "a_target_that_was_away_is_written_when_it_is_back", "refuses no record"
    ),
    journal(
        "stays broken", broken.KeepsItsConnection, "a_target_that_was_away_is_written_when_it_is_back", "not written"
    ),
    journal(
        "early", broken.ReturnsEarly, "a_write_returns_when_the_target_has_answered_and_not_before", "returned while"
    ),
    journal("ignores it", broken.IgnoresItsServer, "wherever_a_request_is_cut_nothing_is_lost_or_repeated", "missing"),
    journal(
        "repeats",
        JournalWriter,
        "whichever_answer_is_lost_nothing_is_lost_or_repeated",
        "more than once",
        capabilities=VERSIONED,
    ),
    journal(
        "stays broken",
        broken.BreaksWithTheFirstConnection,
        "connections_that_end_between_writes_are_made_again",
        "not written",
    ),
    journal("repeats", JournalWriter, "answers_that_are_lost_cost_nothing", "more than once", capabilities=VERSIONED),
    journal("ignores it", broken.IgnoresItsServer, "a_server_that_is_killed_and_comes_back_costs_nothing", "Timeout"),
    journal("early", broken.ReturnsEarly, "a_target_that_does_not_answer_runs_into_the_timeout", "Timeout"),
    journal("one token", JournalWriter, "credentials_can_be_rotated_while_it_runs", "Timeout", token="first-t0ken"),
    refused_by(
        "raises anything",
        "wrong_credentials_are_an_error_of_the_configuration",
        "wrong_credentials",
        lambda **settings: broken.journal_that_raises(OSError, **settings),
        "it does not work",
    ),
    refused_by(
        "does not look",
        "a_missing_target_is_an_error_of_the_configuration",
        "missing_target",
        lambda **_: broken.memory_log_by(LogWriter),
        "DID NOT RAISE",
    ),
    *(
        journal(fault, writer, scenario, found, mode="transactional")
        for fault, writer, scenario, found in (
            ("forgets", broken.ForgetsItsCheckpoint, "the_checkpoint_is_stored_with_the_data", "assert None =="),
            (
                "forgets",
                broken.ForgetsItsCheckpoint,
                "a_pipeline_that_lost_its_store_goes_on_where_the_target_is",
                "delivered again",
            ),
            (
                "one by one",
                broken.WritesOneByOne,
                "wherever_a_write_breaks_the_checkpoint_says_whether_it_happened",
                "at neither end",
            ),
            ("not fenced", broken.NeverFenced, "an_owner_that_lost_the_shard_can_write_no_more", "DID NOT RAISE"),
            (
                "never advances",
                broken.NeverAdvances,
                "the_checkpoint_moves_over_what_was_settled_elsewhere_and_never_back",
                "assert",
            ),
            (
                "always advances",
                broken.AlwaysAdvances,
                "letters_that_are_delivered_again_pass_the_checkpoint_by",
                "is not there",
            ),
        )
    ),
]


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What never comes is not waited for long; and what the faults leave behind ends with the test."""
    broken.LEFT_BEHIND_ENDS.clear()
    monkeypatch.setattr(runs, "FACT_S_MAX", 3.0)
    monkeypatch.setattr(runs, "DRAIN_S", 0.3)
    monkeypatch.setattr(pipelines, "DRAIN_S", 0.3)
    monkeypatch.setattr(failures, "COME_BACK_S_MAX", 0.5)
    monkeypatch.setattr(lifecycle, "LEAVE_S_MAX", 0.2)
    yield
    broken.LEFT_BEHIND_ENDS.set()
    while broken.SOCKETS:
        broken.SOCKETS.pop().close()


@asynccontextmanager
async def tasks_end() -> AsyncIterator[None]:
    """The tasks that a fault leaves behind end with the block."""
    try:
        yield
    finally:
        for task in broken.TASKS:
            task.cancel()
        for stream in broken.STREAMS:
            await stream.aclose()
        with anyio.CancelScope(shield=True):
            while any(not task.done() for task in broken.TASKS):  # noqa: ASYNC110 - they are nobody's
                await anyio.sleep(0.001)
        for task in broken.TASKS:
            if not task.cancelled():
                task.exception()
        broken.TASKS.clear()
        broken.STREAMS.clear()


async def failure_of(
    contract: SinkContract,
    case: Case,
    sink: SinkDeclaration,
    request: pytest.FixtureRequest,
    proxy: FaultProxy | None = None,
) -> str:
    """Run a scenario with what it asks for; what its failure says."""
    contract._sink, contract._aws = sink, AwsOptions()
    scenario = getattr(contract, f"test_{case.scenario}")
    given: dict[str, Any] = {"sink": sink, "proxy": proxy, "wrong_credentials": None, "missing_target": None}
    given |= dict.fromkeys(case.declared, sink) | case.arguments
    names = inspect.signature(scenario).parameters
    arguments = {name: given[name] if name in given else request.getfixturevalue(name) for name in names}

    async def run() -> None:
        async with tasks_end():
            found = scenario(**arguments)
            if inspect.isawaitable(found):
                await found

    with pytest.raises((Exception, pytest.fail.Exception)) as caught:  # a skip is neither
        await run()
    return f"{caught.type.__name__}: {caught.value}"


@pytest.mark.parametrize("case", IN_MEMORY, ids=str)
async def test_a_fault_is_found(case: Case, request: pytest.FixtureRequest) -> None:
    sink = case.sink()
    contract = StateInMemory() if case.kind == "state" else LogInMemory()
    assert case.found in await failure_of(contract, case, sink, request)


@pytest.mark.parametrize("case", OVER_A_SERVER, ids=str)
async def test_a_fault_over_the_network_is_found(case: Case, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    process = JournalProcess(tmp_path)

    class OverAServer(SinkContract):
        kind = case.kind

        async def read_back(self, sink: SinkDeclaration) -> list[Seen]:
            return list(process.seen())

        async def kill(self) -> None:
            process.kill()

        async def restart(self) -> None:
            process.start()

        async def rotate_credentials(self) -> None:
            process.token_file.write_text("second-t0ken")

    process.start()
    try:
        async with open_fault_proxy("127.0.0.1", process.port) as proxy:
            sink = case.sink(port=proxy.port, token_file=process.token_file)
            assert case.found in await failure_of(OverAServer(), case, sink, request, proxy)
    finally:
        process.kill()


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import socket\nwith socket.socket() as probe:\n    probe.bind(('127.0.0.1', 0))", "socket.bind"),
        ("import asyncio\nasyncio.new_event_loop().close()", "an event loop is made"),
        ("open('left', 'w').close()", "a file is written"),
        (
            "import threading\nthreading.Thread(target=lambda: __import__('time').sleep(1)).start()",
            "a thread is started",
        ),
        ("import logging\nlogging.basicConfig()", "logging is configured"),
        ("import time\nend = time.process_time() + 0.6\nwhile time.process_time() < end: pass", "takes"),
        ("raise OSError('no')", "cannot be imported by itself"),
    ],
)
async def test_a_module_that_does_something_is_found(
    code: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loud_module.py").write_text(code)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    sink = broken.memory_log_by(LogWriter)
    monkeypatch.setattr(sink.plugin.open, "__module__", "loud_module")
    case = Case(
        fault=code, scenario="its_module_is_imported_quickly_and_without_any_effect", found=found, sink=lambda: sink
    )
    assert found in await failure_of(LogInMemory(), case, sink, request)


class TellsOnlyItems(StateInMemory):
    async def read_back(self, sink: SinkDeclaration) -> list[Seen]:
        return [Seen(item_key=each.item_key, deleted=each.deleted) for each in seen_items(sink)]


class TellsNoImages(StateInMemory):
    async def read_back(self, sink: SinkDeclaration) -> list[Seen]:
        return [replace(each, image=None) for each in seen_items(sink)]


async def test_a_state_that_tells_no_versions_proves_nothing() -> None:
    contract = TellsOnlyItems()
    contract._sink, contract._aws = broken.memory_state_by(StateWriter), AwsOptions()
    with pytest.raises(AssertionError, match="read_back tells no version"):
        await contract.test_one_record_is_written()


async def test_a_target_that_shows_no_images_proves_nothing_of_values() -> None:
    contract = TellsNoImages()
    contract._sink, contract._aws = broken.memory_state_by(StateWriter), AwsOptions()
    await contract.test_one_record_is_written()
    with pytest.raises(pytest.skip.Exception, match="not run: read_back shows no images"):
        await contract.test_a_value_arrives_as_it_was("integer")


async def test_a_target_that_settles_is_asked_until_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    contract = LogInMemory()
    contract._sink, contract._aws = broken.memory_log_by(broken.SettlesSlowly), AwsOptions()
    with pytest.raises(AssertionError, match="are missing"):
        await contract.test_one_record_is_written()
    monkeypatch.setattr(LogInMemory, "settle_s", 5.0)
    await contract.test_one_record_is_written()


def test_every_scenario_is_seen_to_fail() -> None:
    scenarios = {name for name in dir(SinkContract) if name.startswith("test_")}
    seen = {f"test_{case.scenario}" for case in [*IN_MEMORY, *OVER_A_SERVER]}
    seen.add("test_its_module_is_imported_quickly_and_without_any_effect")
    assert scenarios - seen == CANNOT_FAIL.keys()
    assert seen <= scenarios
