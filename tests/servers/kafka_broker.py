"""A broker that speaks as much of Kafka's protocol as producers, transactions and readers need: an in-repo fake.

librdkafka's own mock cluster forgets everything when its process ends, lets a fenced producer commit, and shows aborted
records to `read_committed`. This one is for what rests on those three: it keeps what it acknowledged in a journal (also
over `kill -9`, not over a loss of power), refuses older epochs, checks sequence numbers of idempotent producers, holds
readers back at the last stable offset, and tells them what was aborted. It is one broker without replicas, groups or
compaction; batches stay as they came, compressed or not.

    python kafka_broker.py FOLDER PORT PROXIED_PORT [--login USER:PASSWORD] [--bytes-max N]

The journal is in FOLDER. Who comes in at PROXIED_PORT is told to go on at the port that the file `advertised` there names.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.abc
from anyio.streams.buffered import BufferedByteReceiveStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HOST = "127.0.0.1"
_NODE = 1

_OFFSET_OUT_OF_RANGE, _UNKNOWN_TOPIC, _TOO_LARGE, _UNSUPPORTED_MECHANISM, _UNSUPPORTED_VERSION = 1, 3, 10, 33, 35
_TOPIC_EXISTS, _OUT_OF_ORDER, _OLD_EPOCH, _INVALID_TXN_STATE, _UNKNOWN_PID_MAPPING, _LOGIN_FAILED = (
    36,
    45,
    47,
    48,
    49,
    58,
)

_BATCH = struct.Struct(">qiibIhiqqqhii")
_TRANSACTIONAL, _CONTROL = 0x10, 0x20


class Reader:
    """Fields of a request, one after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, form: str) -> Any:
        (value,) = struct.unpack_from(f">{form}", self._data, self._at)
        self._at += struct.calcsize(f">{form}")
        return value

    def blob(self, form: str = "i") -> bytes | None:
        size = self.take(form)
        if size < 0:
            return None
        self._at += size
        return self._data[self._at - size : self._at]

    def string(self) -> str | None:
        data = self.blob("h")
        return None if data is None else data.decode()

    def name(self) -> str:
        return self.string() or ""

    def each(self) -> Iterator[int]:
        yield from range(self.take("i"))


def string(value: str | None) -> bytes:
    if value is None:
        return struct.pack(">h", -1)
    return struct.pack(">h", len(value.encode())) + value.encode()


def array(parts: list[bytes]) -> bytes:
    return struct.pack(">i", len(parts)) + b"".join(parts)


@dataclass(slots=True)
class Batch:
    data: bytes
    base: int
    last: int
    pid: int
    epoch: int
    sequence: int
    transactional: bool

    @classmethod
    def parse(cls, data: bytes, base: int) -> Batch:
        _, _, _, _, _, attributes, delta, _, _, pid, epoch, sequence, _ = _BATCH.unpack_from(data)
        placed = struct.pack(">q", base) + data[8:]
        return cls(placed, base, base + delta, pid, epoch, sequence, bool(attributes & _TRANSACTIONAL))

    @property
    def last_sequence(self) -> int:
        return self.sequence + self.last - self.base


@dataclass(slots=True)
class Partition:
    batches: list[Batch] = field(default_factory=list)
    open: dict[int, int] = field(default_factory=dict)
    """Producer id to the first offset of its open transaction."""
    aborted: list[tuple[int, int, int]] = field(default_factory=list)
    """Producer id, first offset, offset of the marker."""

    @property
    def end(self) -> int:
        return self.batches[-1].last + 1 if self.batches else 0

    @property
    def stable(self) -> int:
        return min(self.open.values(), default=self.end)

    def last_of(self, pid: int) -> Batch | None:
        return next((batch for batch in reversed(self.batches) if batch.pid == pid and batch.sequence >= 0), None)


@dataclass(slots=True)
class Transaction:
    """One transactional id."""

    pid: int
    epoch: int
    partitions: set[tuple[str, int]] = field(default_factory=set)


class Broker:
    """Everything that is stored. Each change is written to the journal before anybody hears of it."""

    def __init__(self, journal: Path, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.topics: dict[str, dict[int, Partition]] = {}
        self.transactions: dict[str, Transaction] = {}
        self.epochs: dict[int, int] = defaultdict(int)
        self.last_pid = 1_000
        self.grown = anyio.Event()
        if journal.exists():
            for entry, data in _entries(journal.read_bytes()):
                self._apply(entry, data)
        self._journal = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def change(self, entry: list[Any], data: bytes = b"") -> None:
        head = json.dumps(entry).encode()
        os.write(self._journal, struct.pack(">ii", len(head), len(data)) + head + data)
        self._apply(entry, data)
        self.grown.set()
        self.grown = anyio.Event()

    def _apply(self, entry: list[Any], data: bytes) -> None:
        match entry:
            case ["topic", name, partitions]:
                self.topics[name] = {number: Partition() for number in range(partitions)}
            case ["batch", topic, number]:
                partition = self.topics[topic][number]
                batch = Batch.parse(data, partition.end)
                partition.batches.append(batch)
                if batch.transactional:
                    partition.open.setdefault(batch.pid, batch.base)
            case ["producer", tid, pid, epoch]:
                self.last_pid = max(self.last_pid, pid)
                self.epochs[pid] = epoch
                if tid is not None:
                    self.transactions[tid] = Transaction(pid, epoch)
            case ["joined", tid, topic, number]:
                self.transactions[tid].partitions.add((topic, number))
            case ["ended", tid, committed]:
                self._end(self.transactions[tid], committed=committed)

    def _end(self, transaction: Transaction, *, committed: bool) -> None:
        for topic, number in sorted(transaction.partitions):
            partition = self.topics[topic][number]
            marker = partition.end
            partition.batches.append(_marker(marker, transaction, committed=committed))
            first = partition.open.pop(transaction.pid, None)
            if first is not None and not committed:
                partition.aborted.append((transaction.pid, first, marker))
        transaction.partitions = set()

    # -- what requests do -------------------------------------------------------------------------------------------------

    def produce(self, topic: str, number: int, data: bytes) -> tuple[int, int]:
        """Error and base offset."""
        partition = self.topics.get(topic, {}).get(number)
        if partition is None:
            return _UNKNOWN_TOPIC, -1
        if len(data) > self.bytes_max:
            return _TOO_LARGE, -1
        batch = Batch.parse(data, partition.end)
        if batch.pid >= 0:
            if batch.epoch < self.epochs[batch.pid]:
                return _OLD_EPOCH, -1
            if batch.transactional and not self._is_joined(batch.pid, topic, number):
                return _INVALID_TXN_STATE, -1
            last = partition.last_of(batch.pid)
            if last is not None and last.epoch == batch.epoch:
                if batch.last_sequence <= last.last_sequence:
                    return 0, last.base  # a request that was sent again
                if batch.sequence != last.last_sequence + 1:
                    return _OUT_OF_ORDER, -1
        self.change(["batch", topic, number], data)
        return 0, batch.base

    def _is_joined(self, pid: int, topic: str, number: int) -> bool:
        return any(each.pid == pid and (topic, number) in each.partitions for each in self.transactions.values())

    def new_producer(self, tid: str | None) -> tuple[int, int]:
        """Producer id and epoch. What an earlier one with this transactional id has left open is aborted."""
        known = self.transactions.get(tid) if tid is not None else None
        if known is None or tid is None:
            self.change(["producer", tid, self.last_pid + 1, 0])
            return self.last_pid, 0
        if known.partitions:
            self.change(["ended", tid, False])
        self.change(["producer", tid, known.pid, known.epoch + 1])
        return known.pid, known.epoch + 1

    def transaction_error(self, tid: str, pid: int, epoch: int) -> int:
        known = self.transactions.get(tid)
        if known is None or known.pid != pid:
            return _UNKNOWN_PID_MAPPING
        return _OLD_EPOCH if epoch != known.epoch else 0


def _entries(data: bytes) -> Iterator[tuple[list[Any], bytes]]:
    """The journal up to its last whole entry."""
    at = 0
    while at + 8 <= len(data):
        head, body = struct.unpack_from(">ii", data, at)
        if at + 8 + head + body > len(data):
            return
        yield json.loads(data[at + 8 : at + 8 + head]), data[at + 8 + head : at + 8 + head + body]
        at += 8 + head + body


def _marker(offset: int, transaction: Transaction, *, committed: bool) -> Batch:
    """A control batch. Its checksum is 0: clients do not look at it unless told to."""
    record = struct.pack(">bbb", 0, 0, 0) + b"\x08" + struct.pack(">hh", 0, int(committed))
    record += b"\x0c" + struct.pack(">hi", 0, 0) + b"\x00"
    record = bytes([len(record) * 2]) + record
    body_bytes = _BATCH.size - 12 + len(record)
    head = (offset, body_bytes, 0, 2, 0, _TRANSACTIONAL | _CONTROL, 0, 0, 0, transaction.pid, transaction.epoch, -1, 1)
    return Batch(
        _BATCH.pack(*head) + record, offset, offset, transaction.pid, transaction.epoch, -1, transactional=False
    )


class Connection:
    """One client. Its requests are answered in order, as Kafka does."""

    def __init__(
        self, broker: Broker, stream: anyio.abc.SocketStream, port: Callable[[], int], login: str | None
    ) -> None:
        self._broker = broker
        self._stream = stream
        self._port = port
        self._login = login
        self._is_in = login is None

    async def serve(self) -> None:
        received = BufferedByteReceiveStream(self._stream)
        try:
            async with self._stream:
                while True:
                    (size,) = struct.unpack(">i", await received.receive_exactly(4))
                    request = Reader(await received.receive_exactly(size))
                    answer = await self._answer(request)
                    if answer is None:
                        return
                    await self._stream.send(struct.pack(">i", len(answer)) + answer)
        except (anyio.IncompleteRead, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream):
            return

    async def _answer(self, request: Reader) -> bytes | None:
        key, version, correlation = request.take("h"), request.take("h"), request.take("i")
        head = struct.pack(">i", correlation)
        if key == 18:
            return head + self._api_versions(version)
        request.string()  # client id
        if key not in _API or not (_API[key][0] <= version <= _API[key][1]):
            return None
        if not self._is_in and key not in {17, 36}:
            return None
        if key == 1:
            return head + await self._fetch(request)
        return head + _API[key][2](self, request, version)

    def _api_versions(self, version: int) -> bytes:
        known = [struct.pack(">hhh", key, low, high) for key, (low, high, _) in {**_API, 18: (0, 0, None)}.items()]
        return struct.pack(">h", 0 if version == 0 else _UNSUPPORTED_VERSION) + array(known)

    def _log_in(self, request: Reader, _: int) -> bytes:
        user, password = (request.blob() or b"").split(b"\0")[1:]
        self._is_in = f"{user.decode()}:{password.decode()}" == self._login
        error, text = (0, None) if self._is_in else (_LOGIN_FAILED, "wrong user or password")
        return struct.pack(">h", error) + string(text) + struct.pack(">i", 0)

    def _mechanisms(self, request: Reader, _: int) -> bytes:
        error = 0 if request.name() == "PLAIN" and self._login is not None else _UNSUPPORTED_MECHANISM
        return struct.pack(">h", error) + array([string("PLAIN")])

    def _metadata(self, request: Reader, _: int) -> bytes:
        count = request.take("i")
        names = list(self._broker.topics) if count < 0 else [request.name() for _ in range(count)]
        brokers = array([struct.pack(">i", _NODE) + string(_HOST) + struct.pack(">i", self._port()) + string(None)])
        replicas = array([struct.pack(">i", _NODE)])
        topics = []
        for name in names:
            known = self._broker.topics.get(name)
            partitions = [struct.pack(">hii", 0, number, _NODE) + replicas + replicas for number in known or ()]
            error = struct.pack(">h", _UNKNOWN_TOPIC if known is None else 0)
            topics.append(error + string(name) + b"\0" + array(partitions))
        return struct.pack(">i", 0) + brokers + string("fake") + struct.pack(">i", _NODE) + array(topics)

    def _create_topics(self, request: Reader, _: int) -> bytes:
        answers = []
        for _topic in request.each():
            name, partitions, _ = request.name(), request.take("i"), request.take("h")
            for _assignment in request.each():
                request.take("i")
                for _replica in request.each():
                    request.take("i")
            for _option in request.each():
                request.string()
                request.string()
            error = _TOPIC_EXISTS if name in self._broker.topics else 0
            if not error:
                self._broker.change(["topic", name, max(partitions, 1)])
            answers.append(string(name) + struct.pack(">h", error) + string(None))
        return struct.pack(">i", 0) + array(answers)

    def _produce(self, request: Reader, version: int) -> bytes:
        request.string()
        request.take("h")
        request.take("i")
        topics = []
        for _ in request.each():
            topic, partitions = request.name(), []
            for _partition in request.each():
                number, data = request.take("i"), request.blob() or b""
                error, base = self._broker.produce(topic, number, data)
                start = struct.pack(">q", 0) if version >= 5 else b""
                partitions.append(struct.pack(">ihqq", number, error, base, -1) + start)
            topics.append(string(topic) + array(partitions))
        return array(topics) + struct.pack(">i", 0)

    async def _fetch(self, request: Reader) -> bytes:
        _, wait_ms, _, _, isolation = (request.take(form) for form in "iiiib")
        wanted = []
        for _ in request.each():
            topic = request.name()
            wanted += [(topic, request.take("i"), request.take("q"), request.take("i")) for _ in request.each()]
        found = [self._fetched(*each, committed=isolation == 1) for each in wanted]
        with anyio.move_on_after(wait_ms / 1000):
            while not any(data for _, _, data in found):
                await self._broker.grown.wait()
                found = [self._fetched(*each, committed=isolation == 1) for each in wanted]
        topics = [string(topic) + array([answer]) for topic, answer, _ in found]
        return struct.pack(">i", 0) + array(topics)

    def _fetched(
        self, topic: str, number: int, offset: int, bytes_max: int, *, committed: bool
    ) -> tuple[str, bytes, bytes]:
        partition = self._broker.topics.get(topic, {}).get(number)
        if partition is None or offset > partition.end:
            error = _UNKNOWN_TOPIC if partition is None else _OFFSET_OUT_OF_RANGE
            return topic, struct.pack(">ihqqii", number, error, -1, -1, 0, 0), b"!"
        end = partition.stable if committed else partition.end
        records = b""
        for batch in partition.batches:
            if (
                batch.last >= offset
                and batch.base < end
                and (not records or len(records) + len(batch.data) <= bytes_max)
            ):
                records += batch.data
        aborted = [struct.pack(">qq", pid, first) for pid, first, marker in partition.aborted if marker >= offset]
        head = struct.pack(">ihqq", number, 0, partition.end, partition.stable) + array(aborted)
        return topic, head + struct.pack(">i", len(records)) + records, records

    def _list_offsets(self, request: Reader, version: int) -> bytes:
        request.take("i")
        committed = version >= 2 and request.take("b") == 1
        topics = []
        for _ in request.each():
            topic, partitions = request.name(), []
            for _partition in request.each():
                number, time = request.take("i"), request.take("q")
                partition = self._broker.topics.get(topic, {}).get(number)
                if partition is None:
                    partitions.append(struct.pack(">ihqq", number, _UNKNOWN_TOPIC, -1, -1))
                    continue
                end = partition.stable if committed else partition.end
                partitions.append(struct.pack(">ihqq", number, 0, -1, 0 if time == -2 else end))
            topics.append(string(topic) + array(partitions))
        return (struct.pack(">i", 0) if version >= 2 else b"") + array(topics)

    def _find_coordinator(self, _: Reader, __: int) -> bytes:
        return (
            struct.pack(">ih", 0, 0)
            + string(None)
            + struct.pack(">i", _NODE)
            + string(_HOST)
            + struct.pack(">i", self._port())
        )

    def _init_producer(self, request: Reader, _: int) -> bytes:
        pid, epoch = self._broker.new_producer(request.string())
        return struct.pack(">ihqh", 0, 0, pid, epoch)

    def _join_transaction(self, request: Reader, _: int) -> bytes:
        tid, pid, epoch = request.name(), request.take("q"), request.take("h")
        error = self._broker.transaction_error(tid, pid, epoch)
        topics = []
        for _topic in request.each():
            topic, partitions = request.name(), []
            for _partition in request.each():
                number = request.take("i")
                wrong = error or (0 if number in self._broker.topics.get(topic, {}) else _UNKNOWN_TOPIC)
                if not wrong:
                    self._broker.change(["joined", tid, topic, number])
                partitions.append(struct.pack(">ih", number, wrong))
            topics.append(string(topic) + array(partitions))
        return struct.pack(">i", 0) + array(topics)

    def _end_transaction(self, request: Reader, _: int) -> bytes:
        tid, pid, epoch, committed = request.name(), request.take("q"), request.take("h"), request.take("b")
        error = self._broker.transaction_error(tid, pid, epoch)
        if not error:
            self._broker.change(["ended", tid, bool(committed)])
        return struct.pack(">ih", 0, error)


_API: dict[int, tuple[int, int, Callable[[Connection, Reader, int], bytes] | Any]] = {
    0: (3, 7, Connection._produce),
    1: (4, 4, None),
    2: (1, 2, Connection._list_offsets),
    3: (4, 4, Connection._metadata),
    10: (1, 1, Connection._find_coordinator),
    17: (0, 1, Connection._mechanisms),
    19: (2, 2, Connection._create_topics),
    22: (0, 1, Connection._init_producer),
    24: (0, 1, Connection._join_transaction),
    26: (0, 1, Connection._end_transaction),
    36: (0, 0, Connection._log_in),
}


async def main(folder: Path, port: int, proxied_port: int, login: str | None, bytes_max: int) -> None:
    broker = Broker(folder / "journal", bytes_max)

    async def serve(advertised: Callable[[], int], stream: anyio.abc.SocketStream) -> None:
        await Connection(broker, stream, advertised, login).serve()

    def proxy() -> int:
        return int((folder / "advertised").read_text("ascii"))

    async with anyio.create_task_group() as tasks:
        for number, advertised in ((port, lambda: port), (proxied_port, proxy)):
            listener = await anyio.create_tcp_listener(local_host=_HOST, local_port=number)
            tasks.start_soon(listener.serve, partial(serve, advertised))
        print("ready", flush=True)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser()
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("port", type=int)
    arguments.add_argument("proxied_port", type=int)
    arguments.add_argument("--login")
    arguments.add_argument("--bytes-max", type=int, default=1_048_588)
    given = arguments.parse_args()
    anyio.run(main, given.folder, given.port, given.proxied_port, given.login, given.bytes_max)
