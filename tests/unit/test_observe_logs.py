"""Lines: what is logged, how loud, how often, and what never is."""

from __future__ import annotations

import io
import json
import logging
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from streamflow import events
from streamflow.batches import Batch
from streamflow.errors import (
    DestinationError,
    HandlerTimeoutError,
    LambdaFunctionError,
    MalformedRecordError,
    PartialFailure,
    SinkBusyError,
    StoreError,
    StreamflowError,
    TrimmedError,
)
from streamflow.events import BatchDelivered, BatchFailed, PageRead, ReadFailed
from streamflow.observe.health import Health
from streamflow.observe.lines import TEXT_LENGTH_MAX, error_fields, line_of, one_line
from streamflow.observe.logs import EventLog, JsonFormatter, KeyValueFormatter, configure_logging
from streamflow.observe.metrics import Metrics
from streamflow.observe.progress import Progress, as_json, line
from streamflow.positions import TRIM_HORIZON, Position
from streamflow.records import Record, Shard

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class FakeClock:
    now: float = 100.0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return 1_764_000_000.0 + self.now


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]


class Desk:
    """A logger of its own, and an event log that writes to it."""

    def __init__(self, *, log_handler_errors: bool = False, level: int = logging.DEBUG) -> None:
        self.clock = FakeClock()
        self.kept = Kept()
        logger = logging.Logger("streamflow", level)  # noqa: LOG001 - not in the tree of the process
        logger.addHandler(self.kept)
        self.log = EventLog(logger, clock=self.clock, log_handler_errors=log_handler_errors)


def throttled(pipeline: str = "orders") -> ReadFailed:
    return ReadFailed(
        pipeline=pipeline,
        shard_id="shard-1",
        code="ThrottlingException",
        throttled=True,
        retry_after_s=0.5,
        message="slow",
    )


def batch_failed(error: BaseException, *, attempt: int = 1) -> BatchFailed:
    return BatchFailed(
        pipeline="orders",
        shard_id="shard-1",
        records=10,
        attempt=attempt,
        handler_s=0.1,
        error=error,
        retry_after_s=1.0,
    )


def discarded(*destinations: str) -> events.RecordsDiscarded:
    return events.RecordsDiscarded(
        pipeline="o",
        shard_id="s",
        records=3,
        condition="RetryAttemptsExhausted",
        invoke_count=2,
        destinations=destinations,
        first=Position.after("7"),
        last=Position.after("9"),
    )


def destination_failed(error: BaseException) -> events.DestinationFailed:
    return events.DestinationFailed(
        pipeline="o",
        shard_id="s",
        destination="dead_letters",
        records=3,
        attempt=2,
        error=error,
        retry_after_s=1.5,
    )


def raised(error: Exception) -> Exception:
    try:
        raise error  # noqa: TRY301 - it wants a traceback
    except Exception as caught:  # noqa: BLE001 - whatever it is given
        return caught


# --- how loud --------------------------------------------------------------------------------------------------------


def test_normal_operation_is_quiet() -> None:
    desk = Desk()
    now = desk.clock.wall()
    for event in (
        PageRead(pipeline="o", shard_id="s", records=1, bytes=7, duration_s=0.1, last_created_at_s=now),
        BatchDelivered(
            pipeline="o",
            shard_id="s",
            records=1,
            bytes=7,
            delivered=1,
            dropped={},
            attempts=1,
            handler_s=0.1,
            first_created_at_s=now,
            last_created_at_s=now,
            now_s=now,
        ),
        events.CheckpointStored(pipeline="o", shard_id="s", checkpoint=TRIM_HORIZON, duration_s=0.1),
        events.IteratorExpired(pipeline="o", shard_id="s"),
        events.ShardOpened(pipeline="o", shard_id="s", start=TRIM_HORIZON, epoch=1),
        events.ShardClosed(pipeline="o", shard_id="s", reason=events.ShardClosing.STOPPED),
        events.ShardsDiscovered(pipeline="o", listed=4, created=(), forgotten=(), duration_s=0.1),
        events.RecordsParked(pipeline="o", shard_id="s", records=3, opened=0, parked_keys=2),
        events.WindowClosed(pipeline="o", shard_id="s", start_s=0, end_s=60, early=False, state_bytes=2),
    ):
        desk.log(event)
    assert desk.kept.messages == []


@pytest.mark.parametrize(
    ("event", "level", "message"),
    [
        (
            events.PipelineStarted(pipeline="o", stream_arn="arn:x", shards=4),
            "INFO",
            "pipeline started pipeline=o shards=4 stream=arn:x",
        ),
        (
            events.PipelineStopped(pipeline="o", drained=True),
            "INFO",
            "pipeline stopped pipeline=o drained=true",
        ),
        (
            events.PipelineStopped(pipeline="o", drained=False, repeating={"s": Position.after("123")}),
            "INFO",
            "pipeline stopped pipeline=o drained=false repeating=s:AFTER_SEQUENCE_NUMBER:123",
        ),
        (
            events.LeaseTaken(pipeline="o", shard_id="s", epoch=3, previous_owner="w-1"),
            "INFO",
            "lease taken pipeline=o shard=s epoch=3 previous_owner=w-1",
        ),
        (
            events.ShardClosed(pipeline="o", shard_id="s", reason=events.ShardClosing.ENDED, children=("c1", "c2")),
            "INFO",
            'shard ended pipeline=o shard=s children="c1 c2"',
        ),
        (
            events.ShardsDiscovered(pipeline="o", listed=4, created=("a", "b"), forgotten=("c",), duration_s=0.1),
            "INFO",
            "shards discovered pipeline=o listed=4 created=2 forgotten=1",
        ),
        (
            throttled("o"),
            "WARNING",
            "poll throttled pipeline=o shard=shard-1 code=ThrottlingException error=slow retry_after_s=0.5",
        ),
        (
            events.LoopBlocked(blocked_s=1.23456, task="o/s/handler", where="app.py:3, handle"),
            "WARNING",
            'event loop blocked blocked_s=1.235 task=o/s/handler where="app.py:3, handle"',
        ),
        (
            events.CheckpointFailed(pipeline="o", shard_id="s", error=StoreError("disk full"), retry_after_s=2.0),
            "WARNING",
            'checkpoint failed pipeline=o shard=s error_type=StoreError error="disk full" retry_after_s=2.0',
        ),
        (
            events.RecordsTrimmed(pipeline="o", shard_id="s", lost_from=Position.after("9"), cause="too late"),
            "ERROR",
            'records trimmed pipeline=o shard=s lost_from=AFTER_SEQUENCE_NUMBER:9 cause="too late"',
        ),
        (
            discarded("dead_letters", "arn:aws:s3:::failed"),
            "WARNING",
            (
                "records discarded pipeline=o shard=s records=3 condition=RetryAttemptsExhausted invoke_count=2 "
                'destinations="dead_letters arn:aws:s3:::failed" first=AFTER_SEQUENCE_NUMBER:7 last=AFTER_SEQUENCE_NUMBER:9'
            ),
        ),
        (
            discarded(),
            "ERROR",
            (
                "records discarded pipeline=o shard=s records=3 condition=RetryAttemptsExhausted invoke_count=2 "
                "destinations=none first=AFTER_SEQUENCE_NUMBER:7 last=AFTER_SEQUENCE_NUMBER:9"
            ),
        ),
        (
            destination_failed(StoreError("disk full")),
            "ERROR",
            (
                "destination failed pipeline=o shard=s destination=dead_letters records=3 attempt=2 "
                'error_type=StoreError error="disk full" retry_after_s=1.5'
            ),
        ),
        (
            events.RecordsParked(pipeline="o", shard_id="s", records=3, opened=1, parked_keys=2),
            "WARNING",
            "records parked pipeline=o shard=s records=3 opened=1 parked_keys=2",
        ),
        (
            events.ParkingFailed(pipeline="o", shard_id="s", error=StoreError("disk full"), retry_after_s=2.0),
            "ERROR",
            'parking failed pipeline=o shard=s error_type=StoreError error="disk full" retry_after_s=2.0',
        ),
        (
            events.WindowClosed(pipeline="o", shard_id="s", start_s=60, end_s=120, early=True, state_bytes=1_048_577),
            "INFO",
            "window closed early pipeline=o shard=s start_s=60 end_s=120 state_bytes=1048577",
        ),
        (
            events.PipelineFailed(pipeline="o", error=ExceptionGroup("tasks", [TrimmedError("gone"), KeyError("k")])),
            "ERROR",
            'pipeline failed pipeline=o error_type="TrimmedError KeyError" error=gone',
        ),
    ],
)
def test_each_fact_is_one_line_of_its_level(event: events.Event, level: str, message: str) -> None:
    desk = Desk()
    desk.log(event)
    (record,) = desk.kept.records
    assert (record.levelname, record.getMessage()) == (level, message)


# --- how often -------------------------------------------------------------------------------------------------------


def test_warnings_of_a_kind_come_once_in_ten_seconds_and_say_how_many_were_left_out() -> None:
    desk = Desk()
    for _ in range(100):
        desk.log(throttled())
        desk.clock.now += 0.1
    assert len(desk.kept.messages) == 1
    desk.clock.now += 0.1
    desk.log(throttled())
    assert len(desk.kept.messages) == 2
    assert desk.kept.messages[1].endswith("suppressed=99")
    desk.clock.now += 60.0
    desk.log(throttled())
    assert "suppressed" not in desk.kept.messages[2]


def test_other_kinds_and_other_pipelines_have_a_quota_of_their_own() -> None:
    desk = Desk()
    desk.log(throttled("orders"))
    desk.log(throttled("users"))
    desk.log(batch_failed(ValueError()))
    assert [message.split(" pipeline=")[0] for message in desk.kept.messages] == [
        "poll throttled",
        "poll throttled",
        "batch failed",
    ]


def test_errors_and_lease_changes_are_never_left_out() -> None:
    desk = Desk()
    for _ in range(5):
        desk.log(events.RecordsTrimmed(pipeline="o", shard_id="s", lost_from=TRIM_HORIZON, cause="late"))
        desk.log(events.LeaseLost(pipeline="o", shard_id="s", reason="taken over"))
    assert len(desk.kept.messages) == 10


# --- what an error may say -------------------------------------------------------------------------------------------


def test_the_message_of_a_handlers_exception_is_not_logged_but_its_type_and_place_are() -> None:
    desk = Desk()
    desk.log(batch_failed(raised(ValueError("price of {'card': '4111'}"))))
    (message,) = desk.kept.messages
    assert "4111" not in message
    assert "error_type=ValueError at=test_observe_logs.py:" in message
    assert ":raised " in message


def test_it_is_logged_where_the_user_asks_for_it() -> None:
    desk = Desk(log_handler_errors=True)
    desk.log(batch_failed(ValueError("no such column")))
    assert 'error="no such column"' in desk.kept.messages[0]


def test_our_own_messages_are_logged() -> None:
    assert error_fields(HandlerTimeoutError(3.0))["error"] == "the handler did not finish within 3 s"


class OwnError(StreamflowError):
    """Of a user, who may put anything into it."""


@pytest.mark.parametrize(
    "error",
    [
        SinkBusyError("4111", retry_after_s=1.0),
        LambdaFunctionError("4111"),
        PartialFailure(["4111"]),
        OwnError("4111"),
        ExceptionGroup("4111", [ValueError("4111"), ExceptionGroup("4111", [KeyError("4111")])]),
    ],
)
def test_messages_that_handler_code_writes_are_not_ours(error: Exception) -> None:
    assert "4111" not in str(error_fields(error))


def test_of_what_a_destination_raises_the_code_is_logged_and_the_message_only_if_our_code_wrote_it() -> None:
    foreign = raised(DestinationError("could not send {'card': '4111'}", code="TooLarge"))
    fields = error_fields(foreign)
    assert fields["code"] == "TooLarge"
    assert fields["at"].startswith("test_observe_logs.py:")
    assert "4111" not in str(fields)
    assert "4111" in error_fields(foreign, log_handler_errors=True)["error"]
    our_code = FunctionType(raised.__code__, {"__name__": "streamflow.destinations.sqs"})
    ours = our_code(DestinationError("the queue is gone", code="QueueDoesNotExist"))
    assert error_fields(ours)["error"] == "the queue is gone"


# --- text ------------------------------------------------------------------------------------------------------------


def test_a_value_cannot_start_a_line_or_forge_a_field_or_colour_the_terminal() -> None:
    forged = "x\nERROR pipeline=paid\r\x1b[31m\u2028 level=error"
    failed = ReadFailed(pipeline="o", shard_id="s", code="X", throttled=False, retry_after_s=1.0, message=forged)
    text = str(line_of(failed))
    assert text.isprintable()
    assert 'error="x ERROR pipeline=paid' in text


def test_long_error_texts_are_cut_at_300_characters() -> None:
    assert one_line("x" * 300) == "x" * 300
    assert one_line("x" * 301) == "x" * 299 + "…"
    assert len(one_line("\n" * 10_000)) == TEXT_LENGTH_MAX


def record_of(desk: Desk, event: events.Event) -> logging.LogRecord:
    desk.log(event)
    return desk.kept.records[-1]


def test_text_lines_are_time_level_logger_fact_and_fields() -> None:
    record = record_of(Desk(), throttled())
    record.created = 1_764_000_000.25
    assert KeyValueFormatter().format(record) == (
        "2025-11-24T16:00:00.250Z WARNING streamflow poll throttled pipeline=orders shard=shard-1 "
        "code=ThrottlingException error=slow retry_after_s=0.5"
    )


def test_json_lines_carry_the_fields_beside_the_fact() -> None:
    record = record_of(Desk(), throttled())
    record.created = 1_764_000_000.25
    assert json.loads(JsonFormatter().format(record)) == {
        "time": "2025-11-24T16:00:00.250Z",
        "level": "warning",
        "logger": "streamflow",
        "message": "poll throttled",
        "pipeline": "orders",
        "shard": "shard-1",
        "code": "ThrottlingException",
        "error": "slow",
        "retry_after_s": 0.5,
    }


@pytest.mark.parametrize("formatter", [KeyValueFormatter(), JsonFormatter()])
def test_lines_of_other_loggers_stay_one_line(formatter: logging.Formatter) -> None:
    record = logging.LogRecord("aiohttp", logging.WARNING, "x.py", 1, "two\nlines of %s", ("text",), None)
    text = formatter.format(record)
    assert "\n" not in text
    assert "two lines of text" in text


@pytest.mark.parametrize(("formatter", "lines"), [(KeyValueFormatter(), 3), (JsonFormatter(), 1)])
def test_a_traceback_that_somebody_logs_is_kept(formatter: logging.Formatter, lines: int) -> None:
    error = ValueError("wrong")
    record = logging.LogRecord("app", logging.ERROR, "x.py", 1, "failed", (), (ValueError, error, None))
    text = formatter.format(record)
    assert "ValueError: wrong" in text
    assert len(text.splitlines()) <= lines


@pytest.fixture
def _logging_restored() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("streamflow")
    before = root.handlers[:], root.level, ours.level
    # `force` closes what it removes, and these belong to pytest.
    root.handlers = []
    yield
    root.handlers, root.level = before[0], before[1]
    ours.setLevel(before[2])


@pytest.mark.usefixtures("_logging_restored")
def test_the_command_line_logs_our_info_and_others_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr("sys.stderr", stderr)
    configure_logging("json", "INFO")
    EventLog(clock=FakeClock())(events.StreamEnded(pipeline="orders", stream_arn="arn:x"))
    logging.getLogger("aiohttp.access").info("GET /")
    logging.getLogger("aiohttp.server").warning("odd")
    assert [json.loads(text)["message"] for text in stderr.getvalue().splitlines()] == ["stream ended", "odd"]


# --- the canary ------------------------------------------------------------------------------------------------------

CANARY = "canary-4111111111111111"


def failure_of(record: Record, quoting: bool) -> Exception:
    """What a handler raises that reads a broken item: our error, or one of its own that quotes the item."""
    try:
        return ValueError(f"no number in {record.raw!r}") if quoting else AssertionError(record.new_image)
    except MalformedRecordError as error:
        return error


def test_item_content_reaches_neither_logs_nor_metrics_nor_health_nor_progress() -> None:
    desk = Desk()
    registry = CollectorRegistry()
    health, progress = Health(desk.clock), Progress(desk.clock)
    observers = (desk.log, Metrics(registry, clock=desk.clock), health, progress)
    shard = Shard(stream_arn="arn:x", shard_id="shard-1")
    item = {"id": {"S": CANARY}, "n": {"N": CANARY}}
    change = {"SequenceNumber": "100000000000000000001", "Keys": item, "NewImage": item}
    records = [Record(msgspec.Raw(json.dumps({"eventName": "INSERT", "dynamodb": change}).encode()), shard)]
    batch = Batch(pipeline="orders", shard=shard, records=records)
    failures = [failure_of(records[0], quoting) for quoting in (False, True)]
    failures += [PartialFailure([CANARY]), SinkBusyError(CANARY, retry_after_s=1.0)]
    assert isinstance(failures[0], MalformedRecordError)
    assert CANARY in str(failures[1])
    told: list[events.Event] = [
        events.PipelineStarted(pipeline="orders", stream_arn="arn:x", shards=1),
        events.ShardOpened(pipeline="orders", shard_id="shard-1", start=TRIM_HORIZON, epoch=1),
        *(batch_failed(error) for error in failures),
        *(destination_failed(error) for error in (*failures, raised(DestinationError(CANARY, code="Refused")))),
        events.PipelineFailed(pipeline="orders", error=ExceptionGroup(CANARY, failures)),
    ]
    for event in told:
        desk.clock.now += 11.0
        for observer in observers:
            observer(event)
    seen = [
        *(KeyValueFormatter().format(record) + JsonFormatter().format(record) for record in desk.kept.records),
        generate_latest(registry).decode(),
        str(as_json(progress.snapshot())),
        line(progress.snapshot()),
        str(health.ready()) + str(health.live()),
        repr(batch) + repr(records),
    ]
    assert len(desk.kept.records) == 11
    assert [text for text in seen if CANARY in text] == []
