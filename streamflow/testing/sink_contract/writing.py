"""Scenarios about writing what can be written, in whatever amounts."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from streamflow.failures import RecordsFailedError
from streamflow.testing.sink_contract.changes import Changes
from streamflow.testing.sink_contract.hooks import SinkHooks
from streamflow.testing.sink_contract.verdicts import not_promised

if TYPE_CHECKING:
    from streamflow.sdk.capabilities import Capabilities

# Enough to go beyond a limit, and no more than a test can bear.
_RECORDS_MAX = 5_000
_BYTES_MAX = 24_000_000

ATTRIBUTES: dict[str, dict[str, Any]] = {
    "text": {"S": "plain"},
    "empty": {"S": ""},
    "unicode": {"S": "Grüße, 漢字, \U0001f980, e\u0301, \u2028"},
    "quotes": {"S": "'\"\\`;--\t\r\n{}$1%s"},
    "zero_byte": {"S": "a\x00b"},
    "integer": {"N": "7"},
    "digits_38": {"N": "12345678901234567890123456789012345678"},
    "negative_38": {"N": "-12345678901234567890.123456789012345678"},
    "tiny": {"N": "0.0000000000000000000000000000000000000000000000000000000001"},
    "huge": {"N": "1" + "0" * 125},
    "beyond_double": {"N": "9007199254740993"},
    "binary": {"B": base64.b64encode(bytes(range(256))).decode()},
    "empty_binary": {"B": ""},
    "true": {"BOOL": True},
    "false": {"BOOL": False},
    "null": {"NULL": True},
    "texts": {"SS": ["a", "b", "\U0001f980"]},
    "numbers": {"NS": ["1", "2.5", "12345678901234567890123456789012345678"]},
    "binaries": {"BS": [base64.b64encode(b"one").decode(), base64.b64encode(b"two").decode()]},
    "list": {"L": [{"S": "a"}, {"N": "1"}, {"L": [{"NULL": True}]}, {"M": {}}]},
    "empty_list": {"L": []},
    "empty_map": {"M": {}},
    "nested": {"M": {"deep": {"M": {"er": {"L": [{"M": {"est": {"N": "1.5"}}}]}}}, "with space.and-dots": {"S": "x"}}},
    "large": {"S": "x" * 60_000},
}
"""Every type of DynamoDB, and the values of each that are hard to keep."""


class WritingScenarios(SinkHooks):
    async def test_one_record_is_written(self) -> None:
        changes = Changes()
        async with self.opened(changes) as opened:
            await opened.write(changes.batch(changes.put("one", note={"S": "hello"})))
            await self.check_target(changes, changes.records)

    async def test_an_insert_a_modify_and_a_delete_are_written(self) -> None:
        if not self.capabilities.deletes:
            not_promised("it takes no deletes")
        changes = Changes()
        changes.put("kept")
        changes.put("deleted")
        changes.put("kept", note={"S": "changed"})
        changes.delete("deleted")
        changes.put("other")
        async with self.opened(changes) as opened:
            await opened.write(changes.batch(*changes.records))
        await self.check_target(changes, changes.records)

    async def test_an_item_that_is_deleted_can_come_back(self) -> None:
        if not self.capabilities.deletes:
            not_promised("it takes no deletes")
        changes = Changes()
        records = [changes.put("item"), changes.delete("item"), changes.put("item", note={"S": "again"})]
        async with self.opened(changes) as opened:
            for record in records:
                await opened.write(changes.batch(record))
        await self.check_target(changes, records)

    async def test_the_largest_batch_is_written(self) -> None:
        limits = self.capabilities
        count = min(limits.records_max or max(limits.batch_size, 1_000), _RECORDS_MAX)
        changes = Changes()
        changes.put_many(count, items=max(count // 2, 1))
        async with self.opened(changes) as opened:
            await opened.write(changes.batch(*changes.records))
        await self.check_target(changes, changes.records)

    async def test_a_batch_beyond_the_limits_of_a_request_is_written(self) -> None:
        changes = _beyond_a_request(self.capabilities)
        async with self.opened(changes) as opened:
            await opened.write(changes.batch(*changes.records))
        await self.check_target(changes, changes.records)

    @pytest.mark.parametrize("name", ATTRIBUTES)
    async def test_a_value_arrives_as_it_was(self, name: str) -> None:
        changes = Changes()
        record = changes.put("typed", **{name: ATTRIBUTES[name]})
        limit = self.capabilities.record_bytes_max
        if limit is not None and limit < 2 * len(record.json):
            not_promised(f"a record has {limit} bytes at most")
        async with self.opened(changes) as opened:
            if name in self.cannot_hold:
                with pytest.raises(RecordsFailedError) as refused:
                    await opened.write(changes.batch(record))
                assert [(each.record, each.kind) for each in refused.value.failures] == [(record, "refused")]
            else:
                await opened.write(changes.batch(record))
        await self.check_target(changes, [] if name in self.cannot_hold else [record], images=True)

    async def test_an_item_with_every_type_arrives_as_it_was(self) -> None:
        changes = Changes()
        left_out = self.cannot_hold | {"large"}
        everything = {name: value for name, value in ATTRIBUTES.items() if name not in left_out}
        changes.put("typed", **everything)
        changes.put("typed", **everything, more={"S": "changed"})
        async with self.opened(changes) as opened:
            await opened.write(changes.batch(*changes.records))
        await self.check_target(changes, changes.records, images=True)


def _beyond_a_request(limits: Capabilities) -> Changes:
    """Changes for more than two requests, by count or else by bytes."""
    changes = Changes()
    if limits.request_records_max is not None and limits.request_records_max <= _RECORDS_MAX // 2:
        changes.put_many(2 * limits.request_records_max + 1)
    elif limits.request_bytes_max is not None and limits.request_bytes_max <= _BYTES_MAX // 2:
        # Two thirds of what one record may have, and as many as make more than two requests.
        size = min((limits.record_bytes_max or limits.request_bytes_max) // 3, 100_000)
        for number in range(2 * limits.request_bytes_max // size + 2):
            changes.put(f"item{number}", blob={"S": "x" * size})
    else:
        not_promised("its requests have no limit that a test can reach")
    return changes
