"""Ten thousand random responses through the whole engine: each batch ends as its row of the table says (esm.md 3.4)."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from streamflow import events
from streamflow.positions import Position
from streamflow.rules.responses import accept_response
from streamflow.testing.simulation.loop import SimulatedLoop
from world import World

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.batches import Batch
    from streamflow.dead_letters import DiscardedBatch

pytestmark = pytest.mark.anyio

INVOCATIONS = {1: 3_000, 2: 3_500, 3: 3_500}  # by batch size
HUGE = 2_000  # entries


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    return "asyncio", {"loop_factory": SimulatedLoop}


# --- the table -------------------------------------------------------------------------------------------------------

BODIES = [b"", b"nonsense", b"{", b'{"batchItemFailures": [', b"\xff\xfe", b"NaN", b"null"]


def row(body: bytes, numbers: Sequence[str]) -> tuple[str, int]:
    """The row of the table that the response is in, and how many of the batch's records it acknowledges."""
    try:
        response = json.loads(body.decode() or "null", parse_constant=_refuse)
    except ValueError:
        return "no JSON", 0
    everything = len(numbers)
    if response is None or (isinstance(response, str | list | dict) and len(response) == 0):
        return "null or empty", everything
    if not isinstance(response, dict):
        return "no object", 0
    if "batchItemFailures" not in response:
        return "nothing of failures", everything
    entries = response["batchItemFailures"]
    if entries is None or (isinstance(entries, list) and len(entries) == 0):
        return "no failures", everything
    if not isinstance(entries, list):
        return "no list", 0
    return _row_of(entries, numbers)


def _row_of(entries: list[Any], numbers: Sequence[str]) -> tuple[str, int]:
    lowest = len(numbers)
    for entry in entries:
        if not isinstance(entry, dict) or "itemIdentifier" not in entry:
            return "entry without an identifier", 0
        if not entry["itemIdentifier"]:
            return "empty identifier", 0
        if not isinstance(entry["itemIdentifier"], str) or entry["itemIdentifier"] not in numbers:
            return "identifier not in the batch", 0
        lowest = min(lowest, numbers.index(entry["itemIdentifier"]))
    return ("first record reported" if lowest == 0 else "later record reported"), lowest


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


ROWS = {
    "no JSON",
    "null or empty",
    "no object",
    "nothing of failures",
    "no failures",
    "no list",
    "entry without an identifier",
    "empty identifier",
    "identifier not in the batch",
    "first record reported",
    "later record reported",
}


# --- what functions return -------------------------------------------------------------------------------------------


@dataclass
class Responses:
    """Draws bodies near the shape that means something, and far from it."""

    random: Random
    reported_before: list[str] = field(default_factory=list)
    """Identifiers of earlier batches: they look right, and are not in this one."""

    def draw(self, numbers: Sequence[str]) -> bytes:
        random = self.random
        match random.randrange(16):
            case 0:
                return random.choice(BODIES)
            case 1 | 2:
                response: Any = self._value(4)
            case 3 | 4:
                response = {"batchItemFailures": self._value(3)}
            case 5 if random.random() < 0.1:
                response = {"batchItemFailures": self._many(numbers)}
            case 6 | 7:
                response = {
                    "statusCode": 200,
                    "batchItemFailures": [self._entry(numbers) for _ in range(random.randrange(5))],
                }
            case _:
                reported = random.choices(numbers, k=random.randrange(1, 5))
                response = {"batchItemFailures": [{"itemIdentifier": number} for number in reported]}
        self.reported_before.append(numbers[0])
        return json.dumps(response).encode()

    def _many(self, numbers: Sequence[str]) -> list[Any]:
        """A long list, all of it good but for one entry perhaps."""
        entries: list[Any] = [{"itemIdentifier": self.random.choice(numbers)} for _ in range(HUGE)]
        if self.random.random() < 0.5:
            entries[self.random.randrange(HUGE)] = self._entry(numbers)
        return entries

    def _entry(self, numbers: Sequence[str]) -> Any:
        random = self.random
        number = random.choice(numbers)
        match random.randrange(10):
            case 0:
                return self._value(2)
            case 1:
                return {random.choice(["foo", "ItemIdentifier", "itemidentifier"]): number}
            case 2:
                return {"itemIdentifier": random.choice(["", None, 0, False, [], {}])}
            case 3:
                wrong = [int(number), float(number), number + "0", " " + number, [number], {"S": number}, "123"]
                return {"itemIdentifier": random.choice([*wrong, *self.reported_before[-1:]])}
            case 4:
                return {"itemIdentifier": number, "foo": self._value(1)}
            case _:
                return {"itemIdentifier": number}

    def _value(self, depth: int) -> Any:
        random = self.random
        if depth and random.random() < 0.5:
            values = [self._value(depth - 1) for _ in range(random.randrange(4))]
            if random.random() < 0.5:
                return values
            return {random.choice(["batchItemFailures", "itemIdentifier", "state", "ü", ""]): each for each in values}
        number = random.choice([0, 1, -1, 2**70, 0.5, 1e300])
        return random.choice([None, True, False, "", "123", "\0", "ü" * 50, [], {}, number])


# --- through the engine ----------------------------------------------------------------------------------------------


@dataclass
class Function:
    """A function that returns anything, and the destination of what it fails."""

    responses: Responses
    name: str = "collected"
    invocations: list[tuple[tuple[str, ...], str, int]] = field(default_factory=list)
    """Each with its records, its row, and how many records are acknowledged."""
    discarded: list[DiscardedBatch] = field(default_factory=list)

    async def __call__(self, batch: Batch) -> None:
        """As the adapter of Lambda functions does it, without its thread."""
        numbers = numbers_of(batch)
        body = self.responses.draw(numbers)
        self.invocations.append((numbers, *row(body, numbers)))
        accept_response(body, batch, reporting=True)

    async def send(self, discarded: DiscardedBatch) -> None:
        self.discarded.append(discarded)


def numbers_of(batch: Batch) -> tuple[str, ...]:
    return tuple(record.sequence_number for record in batch)


@pytest.mark.parametrize("batch_size", list(INVOCATIONS))
async def test_whatever_a_function_returns_its_batch_ends_as_the_table_says(batch_size: int) -> None:
    world = World(shards=1)
    function = Function(Responses(Random(batch_size)))
    options: dict[str, Any] = {"batch_size": batch_size, "maximum_retry_attempts": 0}
    async with world.working(function, destinations=[function], **options):
        while len(function.invocations) < INVOCATIONS[batch_size]:
            world.write(*(f"k{number}" for number in range(1_000)))
            await world.until(lambda: settled(world) == len(world.written))
    check(function, world, batch_size)
    (lease,) = (await world.rows()).values()
    assert lease.checkpoint == Position.after(str(stream(world)[-1]))
    seen = Counter(name for _, name, _ in function.invocations)
    expected = ROWS if batch_size > 1 else ROWS - {"later record reported"}
    assert {name for name, count in seen.items() if count >= 20} == expected, seen


def check(function: Function, world: World, batch_size: int) -> None:
    """Follow the stream through the invocations: what each acknowledged is delivered, and what failed is given up whole."""
    written = stream(world)
    place, delivered, discarded = 0, 0, []
    rest: tuple[str, ...] = ()
    for numbers, name, acknowledged in function.invocations:
        assert numbers == (rest or tuple(written[place : place + len(numbers)])), name
        assert 1 <= len(numbers) <= batch_size
        if acknowledged == 0:
            discarded.append(numbers)
        rest = numbers[acknowledged:] if acknowledged else ()
        place += acknowledged or len(numbers)
        delivered += acknowledged
    assert place == len(written)
    assert [numbers_of(each.batch) for each in function.discarded] == discarded
    assert sum(event.records for event in world.of(events.BatchDelivered)) == delivered
    for each in function.discarded:
        assert (each.condition, each.invoke_count) == ("RetryAttemptsExhausted", 1)
        assert each.responded
        assert each.function_error is None


def settled(world: World) -> int:
    return sum(
        event.records for event in world.events if isinstance(event, events.BatchDelivered | events.RecordsDiscarded)
    )


def stream(world: World) -> list[str]:
    (shard,) = world.controls.tables.stream_of("orders").shards.values()
    return [str(number) for number in shard.numbers]
