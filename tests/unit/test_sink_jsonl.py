"""The jsonl sink: rotation, torn lines, several writers, and files that cannot be written."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import anyio
import orjson
import pytest

from opened_sinks import WallClock, opened
from streamflow.errors import ConfigError, SinkBusyError, StreamflowError
from streamflow.sinks import jsonl_file
from streamflow.sinks.jsonl import jsonl
from streamflow.sinks.jsonl_file import LinesFile, rotated_name
from streamflow.testing.sink_contract import Changes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.anyio

MIDNIGHT_S = 1_795_564_800.0


def lines_file(path: Path, **options: Any) -> LinesFile:
    given: dict[str, Any] = {
        "rotate_bytes": None,
        "rotate_interval_s": None,
        "fsync": "batch",
        "now": lambda: MIDNIGHT_S,
    }
    return LinesFile(path=path, **(given | options))


def lines_of(path: Path) -> list[bytes]:
    content = path.read_bytes()
    assert content == b"" or content.endswith(b"\n")
    return content.splitlines()


# --- rotation --------------------------------------------------------------------------------------------------------


def test_a_file_that_would_grow_beyond_its_size_is_renamed(tmp_path: Path) -> None:
    now = iter([MIDNIGHT_S + 1, MIDNIGHT_S + 2])
    file = lines_file(tmp_path / "orders.jsonl", rotate_bytes=10, now=lambda: next(now))
    file.open()
    for text in (b'{"a":1}\n', b'{"b":2}\n', b'{"c":3}\n'):
        file.append(text)
    file.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["orders.20261125T000001.000000Z.jsonl", "orders.20261125T000002.000000Z.jsonl", "orders.jsonl"]
    assert [(tmp_path / name).read_bytes() for name in names] == [b'{"a":1}\n', b'{"b":2}\n', b'{"c":3}\n']


def test_lines_that_are_larger_than_a_file_go_into_one_of_their_own(tmp_path: Path) -> None:
    file = lines_file(tmp_path / "orders.jsonl", rotate_bytes=10)
    file.open()
    file.append(b'{"long":"a long line"}\n')
    file.close()
    assert [path.name for path in tmp_path.iterdir()] == ["orders.jsonl"]


def test_a_file_holds_one_interval(tmp_path: Path) -> None:
    path = tmp_path / "orders.jsonl"
    now_s = MIDNIGHT_S - 10
    file = lines_file(path, rotate_interval_s=86_400.0, now=lambda: now_s)
    file.open()
    file.append(b'{"day":1}\n')
    os.utime(path, (now_s, now_s))
    now_s += 5
    file.append(b'{"day":1}\n')
    os.utime(path, (now_s, now_s))
    now_s += 10
    file.append(b'{"day":2}\n')
    file.close()
    assert lines_of(tmp_path / rotated_name(path, int(now_s * 1e6))) == [b'{"day":1}', b'{"day":1}']
    assert lines_of(path) == [b'{"day":2}']


def test_a_renamed_file_never_replaces_another(tmp_path: Path) -> None:
    path = tmp_path / "orders.jsonl"
    taken = tmp_path / rotated_name(path, int(MIDNIGHT_S * 1e6))
    taken.write_bytes(b"somebody's\n")
    file = lines_file(path, rotate_bytes=1)
    file.open()
    file.append(b'{"a":1}\n')
    file.append(b'{"b":2}\n')
    file.close()
    assert taken.read_bytes() == b"somebody's\n"
    assert lines_of(tmp_path / rotated_name(path, int(MIDNIGHT_S * 1e6) + 1)) == [b'{"a":1}']


def test_a_file_that_somebody_moved_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "orders.jsonl"
    file = lines_file(path)
    file.open()
    file.append(b'{"a":1}\n')
    path.rename(tmp_path / "moved")
    file.append(b'{"b":2}\n')
    file.close()
    assert lines_of(tmp_path / "moved") == [b'{"a":1}']
    assert lines_of(path) == [b'{"b":2}']


# --- crashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "kept"),
    [
        (b'{"a":1}\n{"b":', b'{"a":1}\n'),
        (b'{"b":', b""),
        (b'{"a":1}\n' + b'{"b":"' + b"x" * 200_000, b'{"a":1}\n'),
        (b'{"a":1}\n{"b":2}', b'{"a":1}\n{"b":2}\n'),
        (b'{"a":1}\n', b'{"a":1}\n'),
        (b"", b""),
    ],
    ids=["torn", "nothing but torn", "torn over chunks", "only its line feed is missing", "whole", "empty"],
)
def test_a_torn_line_is_cut_off_at_the_start(tmp_path: Path, left: bytes, kept: bytes) -> None:
    path = tmp_path / "orders.jsonl"
    path.write_bytes(left)
    file = lines_file(path)
    file.open()
    assert path.read_bytes() == kept
    file.append(b'{"c":3}\n')
    file.close()
    assert path.read_bytes() == kept + b'{"c":3}\n'


def test_a_torn_line_of_another_writer_is_cut_off_before_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "orders.jsonl"
    file = lines_file(path)
    file.open()
    file.append(b'{"a":1}\n')
    with path.open("ab") as other:
        other.write(b'{"torn":')
    file.append(b'{"b":2}\n')
    file.close()
    assert lines_of(path) == [b'{"a":1}', b'{"b":2}']


async def test_a_file_that_holds_something_else_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"dear diary\nno line feed")
    with pytest.raises(ConfigError, match="does not end in a JSON line and was not touched"):
        async with opened(jsonl(path=path)):
            pass
    assert path.read_bytes() == b"dear diary\nno line feed"


def test_a_writer_waits_for_the_one_that_is_in_the_middle_of_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "orders.jsonl"
    file = lines_file(path)
    file.open()
    with path.open("ab", buffering=0) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(b'{"in":"the mid')
        writing = threading.Thread(target=file.append, args=(b'{"a":1}\n',))  # noqa: TID251 - beside the test
        writing.start()
        writing.join(0.2)
        assert writing.is_alive()
        other.write(b'dle"}\n')
        fcntl.flock(other, fcntl.LOCK_UN)
        writing.join(10)
    file.close()
    assert lines_of(path) == [b'{"in":"the middle"}', b'{"a":1}']


WRITER = """
import sys
from pathlib import Path
from streamflow.sinks.jsonl_file import LinesFile
file = LinesFile(path=Path(sys.argv[1]), rotate_bytes=200_000, rotate_interval_s=None, fsync="never", now=lambda: 0.0)
file.open()
line = b'{"writer":' + sys.argv[2].encode() + b',"number":%d,"filling":"' + b"x" * 3_000 + b'"}\\n'
number = 0
while True:
    file.append(line % number)
    print(number, flush=True)
    number += 1
"""


def test_writers_that_are_killed_leave_whole_lines_and_all_they_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "orders.jsonl"
    acknowledged: dict[int, int] = {}
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(number)], stdout=subprocess.PIPE)
        for number in range(2)
    ]
    for number, writer in enumerate(writers):
        assert writer.stdout is not None
        for _ in range(100):
            acknowledged[number] = int(writer.stdout.readline())
    for writer in writers:
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
    file = lines_file(path)
    file.open()
    file.close()
    seen: dict[int, list[int]] = {0: [], 1: []}
    for name in [*sorted(tmp_path.glob("orders.1970*")), path]:
        for line in lines_of(name):
            found = orjson.loads(line)
            seen[found["writer"]].append(found["number"])
    for number, numbers in seen.items():
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > acknowledged[number] >= 99
    assert list(tmp_path.glob("orders.1970*"))


def test_lines_that_did_not_fit_leave_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "orders.jsonl"
    file = lines_file(path)
    file.open()
    file.append(b'{"a":1}\n')

    def half(descriptor: int, content: bytes) -> None:
        os.write(descriptor, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as full:
        full.setattr(jsonl_file, "_write_all", half)
        with pytest.raises(OSError, match="full"):
            file.append(b'{"b":2}\n')
    assert path.read_bytes() == b'{"a":1}\n'
    file.append(b'{"c":3}\n')
    file.close()
    assert lines_of(path) == [b'{"a":1}', b'{"c":3}']


# --- the sink --------------------------------------------------------------------------------------------------------


async def test_shards_that_write_at_the_same_time_do_not_mix_their_lines(tmp_path: Path) -> None:
    changes = Changes(shards=4)
    changes.put_many(400)
    path = tmp_path / "orders.jsonl"
    declared = jsonl(path=path, payload="change")
    async with opened(declared) as one, opened(declared) as other, anyio.create_task_group() as tasks:
        for number, batch in enumerate(changes.batches(changes.records, size=20)):
            tasks.start_soon((one if number % 2 else other).writer.write, batch)
    seen = sorted(orjson.loads(line)["source"]["event_id"] for line in lines_of(path))
    assert seen == sorted(changes.by_event_id)


async def test_a_full_disk_is_a_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = Changes()
    batch = changes.batch(changes.put("one"))
    async with opened(jsonl(path=tmp_path / "orders.jsonl")) as sink:
        with monkeypatch.context() as full:
            full.setattr(LinesFile, "append", raising(OSError(errno.ENOSPC, "No space left on device")))
            with pytest.raises(SinkBusyError, match="make room"):
                await sink.writer.write(batch)
        with monkeypatch.context() as broken:
            broken.setattr(LinesFile, "append", raising(OSError(errno.EIO, "x")))
            with pytest.raises(StreamflowError, match=r"nothing was written to .*: Input/output error"):
                await sink.writer.write(batch)
        await sink.writer.write(batch)
    assert len(lines_of(tmp_path / "orders.jsonl")) == 1


def raising(error: Exception) -> Callable[..., None]:
    def method(*arguments: object) -> None:
        raise error

    return method


@pytest.mark.parametrize(("policy", "while_open", "at_the_end"), [("batch", 3, 3), ("rotation", 1, 2), ("never", 0, 0)])
async def test_lines_are_forced_to_the_disk_when_the_policy_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: str, while_open: int, at_the_end: int
) -> None:
    synced: list[int] = []
    sync = os.fsync

    def counted(descriptor: int) -> None:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            synced.append(descriptor)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", counted)
    changes = Changes()
    records = [changes.put("one", note={"S": "x" * 700}), changes.put("two", note={"S": "x" * 700})]
    clock = WallClock()
    async with opened(jsonl(path=tmp_path / "orders.jsonl", rotate_bytes=1_024, fsync=policy), clock=clock) as sink:
        for record in records:
            await sink.writer.write(changes.batch(record))
        assert len(synced) == while_open  # of two batches and one rotation
    assert len(synced) == at_the_end
    assert sum(1 for _ in os.scandir(tmp_path)) == 2


async def test_paths_that_cannot_be_written_say_what_to_do(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, says in (
        (tmp_path / "missing" / "orders.jsonl", "missing does not exist: create it"),
        (tmp_path, "is a directory: name a file in it"),
        (tmp_path / "pipe", "is no regular file"),
    ):
        with pytest.raises(ConfigError, match=says):
            async with opened(jsonl(path=path)):
                pass


def test_a_path_is_required_and_limits_are_sensible() -> None:
    with pytest.raises(ConfigError) as wrong:
        jsonl(rotate_bytes=1, rotate_interval_s=0.1, fsync="sometimes")
    assert len(wrong.value.problems) == 4
