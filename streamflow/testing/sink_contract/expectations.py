"""What a target must show of the changes that were written, and what it must not."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import orjson

from streamflow.testing.sink_contract.seen import exact_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from streamflow.records import Record
    from streamflow.sdk.capabilities import Order
    from streamflow.testing.sink_contract.changes import Changes
    from streamflow.testing.sink_contract.seen import Seen

Kind: TypeAlias = Literal["log", "state"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """Compares what is seen with the records that the target must have; each check raises `AssertionError`.

    `normalise` turns an image into what the target keeps of it.
    """

    kind: Kind
    order: Order
    changes: Changes
    normalise: Callable[[dict[str, Any]], dict[str, Any]]

    def check(self, seen: Sequence[Seen], records: Sequence[Record], *, once: bool) -> None:
        """The target shows these records and no others of this scenario; `once` is that a log shows none of them twice."""
        ours = [each for each in seen if self._is_ours(each)]
        if self.kind == "state":
            self._check_state(ours, records)
        else:
            self._check_log(ours, records, once=once)

    def shows_images(self, seen: Sequence[Seen]) -> bool:
        return any(each.image is not None for each in seen if self._is_ours(each))

    # -- a state --------------------------------------------------------------------------------------------------------

    def _check_state(self, seen: Sequence[Seen], records: Sequence[Record]) -> None:
        entries: dict[str, Seen] = {}
        for each in seen:
            item = self._item_of(each)
            assert item not in entries, f"two entries of {item}"
            entries[item] = each
        last = {item_of(record): record for record in sorted(records, key=_number)}
        for item, record in last.items():
            entry = entries.pop(item, None)
            if record.event_name == "REMOVE":
                assert entry is None or entry.deleted, f"{item} is there, and was deleted"
                continue
            assert entry is not None, f"{item} is not there"
            assert not entry.deleted, f"{item} is deleted, and should be there"
            told = (entry.sequence_number, entry.event_id, entry.image)
            assert told != (None, None, None), "read_back tells no version: give sequence_number, event_id or image"
            self._check_content(entry, record)
        living = [item for item, entry in entries.items() if not entry.deleted]
        assert not living, f"items that nobody wrote: {living}"

    # -- a log ----------------------------------------------------------------------------------------------------------

    def _check_log(self, seen: Sequence[Seen], records: Sequence[Record], *, once: bool) -> None:
        shown = [self._record_of(each) for each in seen]
        for each, record in zip(seen, shown, strict=True):
            assert each.deleted == (record.event_name == "REMOVE"), (
                f"{_named(record)} is told as another kind of change"
            )
            if not each.deleted:
                self._check_content(each, record)
        written = {record.event_id: record for record in records}
        counts: dict[str, int] = defaultdict(int)
        for record in shown:
            counts[record.event_id] += 1
        missing = [_named(record) for event_id, record in written.items() if event_id not in counts]
        assert not missing, f"{len(missing)} of {len(written)} changes are missing, the first: {missing[0]}"
        strange = [_named(record) for record in shown if record.event_id not in written]
        assert not strange, f"changes that should not be there: {strange}"
        if once:
            repeated = [_named(record) for event_id, record in written.items() if counts[event_id] > 1]
            assert not repeated, f"{len(repeated)} changes are there more than once, the first: {repeated[0]}"
        if self.order != "none":
            self._check_order(shown)

    def _check_order(self, shown: Sequence[Record]) -> None:
        """First occurrences come in stream order; and the newest comes last, whatever was repeated."""
        by = (lambda record: record.shard.shard_id) if self.order == "shard" else item_of
        for place, records in _grouped(shown, by).items():
            firsts: dict[str, Record] = {}
            for record in records:
                firsts.setdefault(record.event_id, record)
            for earlier, later in pairwise(firsts.values()):
                assert _number(earlier) < _number(later), f"{_named(later)} comes behind {_named(earlier)} in {place}"
        for item, records in _grouped(shown, item_of).items():
            newest = max(records, key=_number)
            assert records[-1].event_id == newest.event_id, f"the last change of {item} is not its newest"

    # -- both -----------------------------------------------------------------------------------------------------------

    def _check_content(self, seen: Seen, record: Record) -> None:
        if seen.sequence_number is not None:
            expected, found = record.sequence_number, seen.sequence_number
            assert int(found) == int(expected), f"{_named(record)} is shown with sequence number {found}"
        if seen.event_id is not None:
            assert seen.event_id == record.event_id, f"{_named(record)} is shown with event id {seen.event_id}"
        if seen.image is not None:
            expected_image = self.image_of(record)
            assert seen.image == expected_image, f"{_named(record)} is shown with another image"

    def image_of(self, record: Record) -> dict[str, Any]:
        """What the target should keep of the new image."""
        return self.normalise(exact_json(orjson.dumps(record.json_image("new"))))

    def _is_ours(self, seen: Seen) -> bool:
        return seen.event_id in self.changes.by_event_id or self.changes.token in _text_of(seen)

    def _item_of(self, seen: Seen) -> str:
        found = re.search(rf"{self.changes.token}-\w+", _text_of(seen))
        if found is not None:
            return found[0]
        assert seen.event_id in self.changes.by_event_id, f"nothing tells which item this is of: {seen}"
        return item_of(self.changes.by_event_id[seen.event_id])

    def _record_of(self, seen: Seen) -> Record:
        """The change that a message shows."""
        item = self._item_of(seen)
        records = self.changes.by_item.get(item, [])
        if seen.event_id is not None:
            records = [record for record in records if record.event_id == seen.event_id]
        if seen.sequence_number is not None:
            records = [record for record in records if int(record.sequence_number) == int(seen.sequence_number)]
        elif seen.image is not None and "version" in seen.image:
            records = [record for record in records if version_of(record) == int(seen.image["version"])]
        elif seen.event_id is None:
            records = [record for record in records if (record.event_name == "REMOVE") == seen.deleted]
        assert records, f"no change of {item} looks like this: {seen}"
        return records[0]


def item_of(record: Record) -> str:
    """The value of the key attribute `id`."""
    return str(record.keys["id"])


def version_of(record: Record) -> int | None:
    image = record.json_image("new")
    return None if image is None else int(image["version"])


def _text_of(seen: Seen) -> str:
    """What tells the item."""
    image = seen.image or {}
    return seen.item_key if seen.item_key is not None else str(image.get("id", ""))


def _number(record: Record) -> int:
    return int(record.sequence_number)


def _named(record: Record) -> str:
    return f"{record.event_name} {record.sequence_number} of {item_of(record)}"


def _grouped(records: Iterable[Record], by: Callable[[Record], str]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        groups[by(record)].append(record)
    return groups
