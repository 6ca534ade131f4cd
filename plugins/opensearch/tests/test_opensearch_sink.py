"""The sink against a server: the stand-in, or yours at $STREAMFLOW_TEST_OPENSEARCH_URL."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from streamflow.sdk import ConfigError, RecordsFailedError
from streamflow.testing.sink_contract.changes import Changes

if TYPE_CHECKING:
    from opensearch_server import Open, Server
    from streamflow import Record

pytestmark = pytest.mark.anyio

EVERY = pytest.mark.parametrize("versioning", ["compared", "scripted", "external", "ordered"])
EXACT = pytest.mark.parametrize("versioning", ["compared", "scripted"])
DIGITS = "12345678901234567890123456789012345678"
DECIMALS = "3.1415926535897932384626433832795028841"


def kept(document: dict[str, Any]) -> dict[str, Any]:
    """The document without what the sink adds."""
    return {name: value for name, value in document.items() if not name.startswith("_sf_")}


def number_of(record: Record) -> str:
    return f"{len(record.sequence_number):03}{record.sequence_number}"


@EVERY
async def test_the_index_shows_the_items_of_the_table(server: Server, open_sink: Open, versioning: str) -> None:
    changes = Changes()
    changes.put("a", total={"N": "1"})
    changes.put("b")
    last = changes.put("a", total={"N": "2"})
    changes.delete("b")
    async with open_sink(server, versioning=versioning) as opened:
        await opened.writer.write(changes.batch(*changes.records))
    documents = await server.documents()
    document = documents.pop(changes.item("a"))
    assert kept(document) == {"id": changes.item("a"), "version": 2, "total": 2}
    assert document["_sf_seq"] == number_of(last)
    assert document["_sf_event_id"] == last.event_id
    assert [each["_sf_deleted"] for each in documents.values()] == ([] if versioning == "ordered" else [True])


@EXACT
async def test_what_was_written_already_changes_nothing(server: Server, open_sink: Open, versioning: str) -> None:
    changes = Changes()
    older = [changes.put("a"), changes.put("b")]
    newer = [changes.put("a"), changes.delete("b")]
    async with open_sink(server, versioning=versioning) as opened:
        await opened.writer.write(changes.batch(*newer))
        before = await server.documents()
        await opened.writer.write(changes.batch(*older))
        await opened.writer.write(changes.batch(*newer))
        assert await server.documents() == before
        assert sum(opened.suppressed) == 4
    assert before[changes.item("a")]["version"] == 2
    assert before[changes.item("b")]["_sf_deleted"] is True


async def test_an_external_version_of_an_earlier_second_changes_nothing(server: Server, open_sink: Open) -> None:
    changes = Changes()
    record = changes.put("a")
    later = _later(record)
    async with open_sink(server, versioning="external") as opened:
        await opened.writer.write(changes.batch(later))
        await opened.writer.write(changes.batch(record))
        assert sum(opened.suppressed) == 1
    assert (await server.documents())[changes.item("a")]["version"] == 2


def _later(record: Record) -> Record:
    """Another change of the item, ten seconds after this one."""
    import msgspec
    import orjson

    from streamflow import Record

    body = orjson.loads(record.raw)
    body["dynamodb"]["ApproximateCreationDateTime"] += 10
    body["dynamodb"]["NewImage"]["version"]["N"] = "2"
    return Record(msgspec.Raw(orjson.dumps(body)), record.shard)


@pytest.mark.parametrize("versioning", ["compared", "external", "ordered"])
async def test_numbers_keep_all_their_digits(server: Server, open_sink: Open, versioning: str) -> None:
    changes = Changes()
    record = changes.put("a", whole={"N": DIGITS}, decimal={"N": DECIMALS}, small={"N": "1E-130"})
    async with open_sink(server, versioning=versioning) as opened:
        await opened.writer.write(changes.batch(record))
    document = (await server.documents())[changes.item("a")]
    assert document["whole"] == int(DIGITS)
    assert document["decimal"] == Decimal(DECIMALS)
    assert document["small"] == Decimal("1E-130")


@EVERY
async def test_exactly_the_record_that_does_not_fit_is_refused(
    server: Server, open_sink: Open, versioning: str
) -> None:
    changes = Changes()
    changes.put("a")
    bad = changes.put("b", amount={"S": "much of this"})
    behind = changes.put("b")
    changes.put("c")
    async with open_sink(server, versioning=versioning) as opened:
        with pytest.raises(RecordsFailedError) as failed:
            await opened.writer.write(changes.batch(*changes.records))
    told = [(failure.record, failure.kind) for failure in failed.value.failures]
    assert told == [(bad, "refused"), (behind, "waiting")]
    assert "much of this" not in str(failed.value)
    assert set(await server.documents()) == {changes.item("a"), changes.item("c")}


async def test_a_missing_index_is_a_mistake(server: Server, open_sink: Open) -> None:
    with pytest.raises(ConfigError, match="no such index"):
        async with open_sink(server, index=f"{server.index}-missing"):
            pass


async def test_a_missing_index_by_table_fails_the_batch(server: Server, open_sink: Open) -> None:
    changes = Changes()
    async with open_sink(server, index="streamflow-missing-{table}") as opened:
        with pytest.raises(ConfigError, match="streamflow-missing-contract"):
            await opened.writer.write(changes.batch(changes.put("a")))
