"""A DynamoDB Streams endpoint whose shards stay open, in a process of its own; `live_stream` says what they hold.

It is the replay server, but that the stream is enabled and no shard ends. Beside the calls of the service it has three
for contenders: `Begin` forgets what others did to the stream, `Release` lets its records come from now on, and `Polls` says
how many GetRecords were answered, and of how many shards.

Run it with `python -m benchmarks.live_server filled|dripping|mixed|half [CORE]`: its first line is its address. It ends with
its standard input.
"""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass, field
from time import monotonic_ns, time_ns  # noqa: TID251 - the machine's time is measured
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks import replay_server
from benchmarks.live_stream import Dripping, Filled, Mixed, empty_page
from benchmarks.replay_pages import Body, Template
from benchmarks.replay_server import RefusedError
from benchmarks.replay_stream import Shape, parse_iterator

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.live_stream import Content


@dataclass(slots=True)
class _Run:
    """What one contender has done to a stream."""

    polls: int = 0
    shards: set[int] = field(default_factory=set)
    """Those that were polled."""
    released_ns: int | None = None


class LiveStreams:
    """Every stream of a name that states a shape; all with the same content."""

    def __init__(self, content: Content, templates: Template) -> None:
        self._content = content
        self._templates = templates
        self._runs: dict[Shape, _Run] = {}

    def answer(self, operation: str, request: Mapping[str, Any]) -> Body:
        """The body of the answer to one call.

        Raises:
            RefusedError: there is no such stream, iterator or operation.
        """
        match operation:
            case "GetRecords":
                return self._records(request)
            case "DescribeStream":
                return _opened(replay_server.answer(self._templates, operation, request))
            case "Begin":
                self._runs[_shape(request)] = _Run()
                return _body({})
            case "Release":
                self._run(_shape(request)).released_ns = monotonic_ns()
                return _body({})
            case "Polls":
                run = self._run(_shape(request))
                return _body({"Polls": run.polls, "Shards": len(run.shards)})
        return replay_server.answer(self._templates, operation, request)

    def _records(self, request: Mapping[str, Any]) -> Body:
        named = parse_iterator(request["ShardIterator"])
        if named is None:
            raise RefusedError("ValidationException", "Invalid ShardIterator")
        run = self._run(named[0])
        run.polls += 1
        run.shards.add(named[1])
        if run.released_ns is None:
            return empty_page(*named)
        return self._content.page(*named, since_ns=run.released_ns, now_ns=monotonic_ns())

    def _run(self, shape: Shape) -> _Run:
        return self._runs.setdefault(shape, _Run())


def _shape(request: Mapping[str, Any]) -> Shape:
    shape = Shape.parse(request["TableName"])
    if shape is None:
        raise RefusedError("ResourceNotFoundException", f"{request['TableName']} does not name a stream")
    return shape


def _opened(listing: Body) -> Body:
    """The replay's listing of a stream, as if the stream were enabled and its shards open."""
    answer = orjson.loads(b"".join(listing.parts))
    description = answer["StreamDescription"]
    description["StreamStatus"] = "ENABLED"
    for shard in description["Shards"]:
        del shard["SequenceNumberRange"]["EndingSequenceNumber"]
    return _body(answer)


def _body(content: Mapping[str, Any]) -> Body:
    return Body.of(orjson.dumps(content))


def main(kind: str, core: int | None) -> None:
    """Serve until standard input ends."""
    if core is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    templates = Template()
    templates.prepare()
    filled, dripping = Filled(templates), Dripping(wall_ahead_ns=time_ns() - monotonic_ns())
    contents: dict[str, Content] = {
        "filled": filled,
        "dripping": dripping,
        "mixed": Mixed(filled, dripping),
        "half": Mixed(filled, None),
    }
    asyncio.run(replay_server.serve(LiveStreams(contents[kind], templates).answer))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else None)
