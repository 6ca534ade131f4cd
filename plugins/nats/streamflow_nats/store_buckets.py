"""A bucket of NATS: entries by key, each the newest of its key, with the revision that the stream gave it.

A look at one entry is answered by the leader of the stream. A scan is answered by any replica, and the leader adds what that
one does not have yet. Revisions grow with every entry, and the whole bucket shares them.
"""

from __future__ import annotations

from base64 import b64decode
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import orjson

from streamflow.errors import StoreError
from streamflow_nats.store_calls import IN_FLIGHT_MAX
from streamflow_nats.store_errors import CONFLICTS, NAME_TAKEN, NO_MESSAGE, NOT_FOUND, JetStreamError, nobody, refusal
from streamflow_nats.store_line import Put

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nats.aio.msg import Msg

    from streamflow_nats.store_calls import Calls

PAGE_ENTRIES = 1_000
"""Of one answer; JetStream gives the newest of 1,024 keys at most."""
_PAGE_BYTES = _CROWD_BYTES = 4 << 20
_CROWDS_MAX = 4
_CROWD_BATCHES = 4
_BATCHES_MAX = 16
"""What is on its way at the same time from one client. Of all of them JetStream takes 50 atomic batches in a stream; requests
and messages beyond 10,000 it throws away."""
_EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_ITS_KEY = "Nats-Expected-Last-Subject-Sequence-Subject"
_MARKER = {"KV-Operation": "DEL"}


class ConflictError(Exception):
    """An entry has another revision than the one that was expected; nothing was written."""


class Entry(NamedTuple):
    key: str
    revision: int
    data: bytes
    """Empty for the marker that a deleted entry leaves."""


class Write(NamedTuple):
    """An entry to be written. `expected` is the revision that `of`, or the key itself, must have now; 0 for none.

    `data` empty deletes the entry: a marker is all that is left of it.
    """

    key: str
    data: bytes
    expected: int | None = None
    of: str | None = None


class Bucket:
    """Use `open_bucket`. `replicas` is how many its stream has."""

    def __init__(self, calls: Calls, name: str) -> None:
        self.name = name
        self.calls = calls
        self.replicas = 1
        self._stream = f"KV_{name}"
        self._prefix = f"$KV.{name}."
        self._batches = anyio.Semaphore(_BATCHES_MAX)
        self._crowds = anyio.Semaphore(_CROWDS_MAX)

    # -- reading --------------------------------------------------------------------------------------------------------

    async def last(self, key: str) -> Entry | None:
        """The entry as it is now; for a filter, the newest of those that it finds."""
        return (await self.last_of([key]))[0]

    async def last_of(self, keys: Sequence[str]) -> list[Entry | None]:
        """The same for several of them."""
        return await self._look([{"last_by_subj": self._prefix + key} for key in keys])

    async def at(self, revisions: Sequence[int]) -> list[Entry]:
        """The entries of these revisions that are still the newest of their keys."""
        found = await self._look([{"seq": revision} for revision in revisions])
        return [entry for entry in found if entry is not None]

    async def scan(self, keys: str, *, after: int = 0, limit: int | None = None) -> list[Entry]:
        """The entries that the filter `keys` finds, beyond the revision `after`, by revision; `limit` at most.

        An entry that is written meanwhile is there as it was or as it is. One that was purged may still be there, where the
        bucket has replicas.
        """
        found: dict[str, Entry] = {}
        ended = False
        while not ended and (limit is None or len(found) < limit):
            wanted = PAGE_ENTRIES if limit is None else min(PAGE_ENTRIES, limit - len(found))
            page, left = await self._page(keys, after, wanted)
            _merge(found, page)
            after, ended = (page[-1].revision if page else after), not left
        while limit is None or len(found) < limit:
            (entry,) = await self._look([{"next_by_subj": self._prefix + keys, "seq": after + 1}])
            if entry is None:
                break
            _merge(found, [entry])
            after = entry.revision
        return list(found.values())

    async def count(self, keys: str, *, after: int = 0) -> int:
        page, left = await self._page(keys, after, 1)
        return len(page) + left

    async def keys(self, keys: str) -> list[str]:
        """The keys that the filter finds, as they are now, without their entries."""
        found: list[str] = []
        while True:
            asked = {"subjects_filter": self._prefix + keys, "offset": len(found)}
            (answer,) = await self._api(f"STREAM.INFO.{self._stream}", asked)
            info = self._checked(answer)
            page = info["state"].get("subjects") or {}
            found += [subject.removeprefix(self._prefix) for subject in page]
            if not page or len(found) >= info["total"]:
                return found

    async def scan_of(self, keys: Sequence[str]) -> list[Entry]:
        """The entries of these keys, in no particular order, where there are any; they may be stale by a moment."""
        if len(keys) <= PAGE_ENTRIES:
            asked = {"multi_last": [self._prefix + key for key in keys], "batch": PAGE_ENTRIES}
            found, left = await self._read(asked) if keys else ([], 0)
            if not left:
                return found
        half = len(keys) // 2  # too many, or too large for one answer
        return [*await self.scan_of(keys[:half]), *await self.scan_of(keys[half:])]

    async def confirmed(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those of scanned entries that are still there: only replicas can be behind with what was purged."""
        return list(entries) if self.replicas == 1 else await self.at([entry.revision for entry in entries])

    # -- writing --------------------------------------------------------------------------------------------------------

    async def write(self, *together: Write) -> int:
        """Write all of them or nothing; the answer is the revision of the last one.

        Raises:
            ConflictError: one of the expected revisions is not the present one.
            StoreError, UnknownOutcomeError: as they say.
        """
        async with self._batches if len(together) > 1 else nullcontext():
            (answer,) = await self.calls.ask(self._request(together), writes=True)
        return self._revision(answer)

    async def write_in_order(self, groups: Sequence[Sequence[Write]]) -> list[bool]:
        """Write each group whole or not at all, one after the other; False for those with a conflict."""
        written: list[bool] = []
        for crowd in _crowds_of(groups):
            requests = [self._request(group) for group in crowd]
            async with self._crowds:
                answers = await self.calls.ask(*requests, writes=True)
            written += [self._is_written(answer) for answer in answers]
        return written

    async def purge(self, *filters: tuple[str, int]) -> list[int]:
        """Remove what each filter finds, up to a revision, without a trace; the answer is how many there were."""
        asked = [{"filter": self._prefix + keys, "seq": up_to + 1} for keys, up_to in filters]
        answers = await self._api(f"STREAM.PURGE.{self._stream}", *asked, writes=True)
        return [int(self._checked(answer)["purged"]) for answer in answers]

    # -- requests -------------------------------------------------------------------------------------------------------

    def _request(self, group: Sequence[Write]) -> list[Put]:
        puts = [Put(self._prefix + write.key, write.data, self._headers(write)) for write in group]
        if len(puts) == 1:
            return puts
        name = self.calls.new_name()
        for number, put in enumerate(puts, start=1):
            assert put.headers is not None
            put.headers.update({"Nats-Batch-Id": name, "Nats-Batch-Sequence": str(number)})
        puts[-1].headers["Nats-Batch-Commit"] = "1"  # type: ignore[index]  # each of ours has headers
        return puts

    def _headers(self, write: Write) -> dict[str, str]:
        headers = {} if write.data else dict(_MARKER)
        if write.expected is not None:
            headers[_EXPECTED] = str(write.expected)
        if write.of is not None:
            headers[_ITS_KEY] = self._prefix + write.of
        return headers

    def _is_written(self, answer: Msg) -> bool:
        try:
            self._revision(answer)
        except ConflictError:
            return False
        return True

    def _revision(self, answer: Msg) -> int:
        try:
            return int(self._checked(answer)["seq"])
        except JetStreamError as error:
            if error.code in CONFLICTS:
                raise ConflictError from None
            raise

    async def _look(self, asked: Sequence[Mapping[str, Any]]) -> list[Entry | None]:
        answers = await self._api(f"STREAM.MSG.GET.{self._stream}", *asked)
        return [self._looked_up(answer) for answer in answers]

    def _looked_up(self, answer: Msg) -> Entry | None:
        try:
            message = self._checked(answer)["message"]
        except JetStreamError as error:
            if error.code == NO_MESSAGE:
                return None
            raise
        data = b64decode(message.get("data") or "")
        return Entry(message["subject"].removeprefix(self._prefix), message["seq"], data)

    async def _page(self, keys: str, after: int, entries: int) -> tuple[list[Entry], int]:
        asked = {"next_by_subj": self._prefix + keys, "seq": after + 1, "batch": entries, "max_bytes": _PAGE_BYTES}
        return await self._read(asked)

    async def _read(self, asked: Mapping[str, Any]) -> tuple[list[Entry], int]:
        """Entries, and how many more there are."""
        put = Put(f"$JS.API.DIRECT.GET.{self._stream}", orjson.dumps(asked))
        *messages, last = await self.calls.read_page(put)
        status = (last.headers or {})["Status"]
        if status == "503":
            raise nobody(self.calls.shown, self.name)
        if status not in {"204", "404"}:
            description = (last.headers or {}).get("Description", "")
            raise StoreError(f"lease store {self.calls.shown}: JetStream says: {description} ({status})")
        entries = [self._entry(message) for message in messages]
        return entries, int((last.headers or {}).get("Nats-Num-Pending", 0))

    def _entry(self, message: Msg) -> Entry:
        headers = message.headers or {}
        return Entry(headers["Nats-Subject"].removeprefix(self._prefix), int(headers["Nats-Sequence"]), message.data)

    async def _api(self, name: str, *asked: Mapping[str, Any], writes: bool = False) -> list[Msg]:
        """The answer to each request; `IN_FLIGHT_MAX` are sent at once."""
        requests = [[Put(f"$JS.API.{name}", orjson.dumps(each))] for each in asked]
        answers: list[Msg] = []
        for start in range(0, len(requests), IN_FLIGHT_MAX):
            async with self._crowds if len(requests) > 1 else nullcontext():
                answers += await self.calls.ask(*requests[start : start + IN_FLIGHT_MAX], writes=writes)
        return answers

    def _checked(self, answer: Msg) -> Any:
        """What it says. Raises `JetStreamError`, and `StoreError` where nobody answers."""
        if answer.headers is not None and answer.headers.get("Status") == "503":
            raise nobody(self.calls.shown, self.name)
        found = orjson.loads(answer.data)
        if "error" in found:
            raise refusal(found["error"], self.calls.shown)
        return found

    # -- the bucket itself ------------------------------------------------------------------------------------------------

    async def info(self) -> Any:
        """The configuration of its stream, in JetStream's words; None where there is none."""
        (answer,) = await self._api(f"STREAM.INFO.{self._stream}", {})
        try:
            return self._checked(answer)["config"]
        except JetStreamError as error:
            if error.code == NOT_FOUND:
                return None
            raise

    async def create(self, configuration: Mapping[str, Any]) -> None:
        """Make it, unless somebody else was faster."""
        (answer,) = await self._api(f"STREAM.CREATE.{self._stream}", configuration, writes=True)
        try:
            self._checked(answer)
        except JetStreamError as error:
            if error.code != NAME_TAKEN:
                raise


def _merge(found: dict[str, Entry], entries: Sequence[Entry]) -> None:
    """Each key once, at the place of its newest revision."""
    for entry in entries:
        found.pop(entry.key, None)
        found[entry.key] = entry


def _crowds_of(groups: Sequence[Sequence[Write]]) -> Iterator[list[Sequence[Write]]]:
    """What goes out at once: requests and atomic batches are limited, and bytes, as a server closes a slow connection."""
    crowd: list[Sequence[Write]] = []
    batches = size = 0
    for group in groups:
        if len(crowd) == IN_FLIGHT_MAX or batches == _CROWD_BATCHES or size >= _CROWD_BYTES:
            yield crowd
            crowd, batches, size = [], 0, 0
        crowd.append(group)
        batches += len(group) > 1
        size += sum(len(write.data) for write in group)
    if crowd:
        yield crowd
