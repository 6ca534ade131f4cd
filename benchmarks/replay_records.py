"""What replayed records are like, as JSON in which `PAGE_NUMBER` stands for the number of the page.

- `standard`: an item of a shop, 770 bytes: nested maps, lists, sets, numbers. 40 % inserts, 50 % changes, 10 % deletes.
- `small`: keys only, 160 bytes. The service itself sends some 300, because its records name region, version, time and
  size as well; those are left out here, so that next to nothing but a record's own cost is left.
- `large`: the same item as `standard` with a long text in each image, 20 KB. A page of them is 1 MB, the service's limit.
- `recorded`: what MiniStack answered, byte for byte but for event ids and sequence numbers, which must not come twice.
"""

from __future__ import annotations

import re
from itertools import count
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from benchmarks.replay_stream import PAGE_NUMBER, REGION, Shape, sequence_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.replay_stream import Content

RECORDED = Path(__file__).parents[1] / "tests" / "fixtures" / "ministack"

_LARGE_BYTES = 20_000
_EVENT_ID = re.compile(rb'("eventID"\s*:\s*"[^"]*)[^"]{%d}"' % len(PAGE_NUMBER))
_NUMBER = re.compile(rb'("SequenceNumber"\s*:\s*)"\d+"')
# With quotes, line ends and letters beyond ASCII, which a reader of JSON cannot skip over.
_SENTENCES = (
    'Please leave it at the "front" door.\n',
    "Ring twice, and wait for the dog.\n",
    "Größe L, bitte nicht knicken.\n",
    "请在周五之前送达。\n",
    "No thanks, no bag is needed.\n",
)


def blank_pages(content: Content) -> Sequence[bytes]:
    """The answers of GetRecords that a replay repeats in turn, without what follows the records."""
    if content == "recorded":
        return [_recorded(path.read_bytes()) for path in sorted(RECORDED.glob("page-*.json"))]
    make = {"standard": _standard, "small": _small, "large": _large}[content]
    random, places = Random(1), range(Shape(1, 1, content).records_per_page)
    return [b'{"Records":%b' % orjson.dumps([make(random, index) for index in places])]


# --- made up ---------------------------------------------------------------------------------------------------------


def _standard(random: Random, index: int) -> dict[str, Any]:
    name = random.choices(("INSERT", "MODIFY", "REMOVE"), weights=(4, 5, 1))[0]
    # No item is in two pages: those of one item would be in one shard, and its parents.
    order = f"order-{PAGE_NUMBER}-{random.randrange(10**6):06}"
    keys = {"order": {"S": order}, "line": {"N": str(random.randrange(1, 40))}}
    change: dict[str, Any] = {"ApproximateCreationDateTime": 1.7672256e9, "Keys": keys}
    if name != "REMOVE":
        change["NewImage"] = keys | _attributes(random)
    if name != "INSERT":
        change["OldImage"] = keys | _attributes(random)
    change |= {
        "SequenceNumber": sequence_number(PAGE_NUMBER, index),
        "SizeBytes": 226,
        "StreamViewType": "NEW_AND_OLD_IMAGES",
    }
    return {
        "eventID": _event_id(random, index),
        "eventName": name,
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": REGION,
        "dynamodb": change,
    }


def _attributes(random: Random) -> dict[str, Any]:
    """An item of a shop: a nested map, a list of mixed types, a set, numbers, a flag, text beyond ASCII."""
    cents = random.randrange(100, 10**6)
    return {
        "total": {"N": f"{cents // 100}.{cents % 100:02}"},
        "customer": {"M": {"name": {"S": random.choice(("Ada", "Grace", "Zoë", "李雷"))}, "tier": {"N": "2"}}},
        "steps": {"L": [{"S": "paid"}, {"N": str(random.randrange(10**9))}, {"BOOL": True}]},
        "tags": {"SS": [f"{kind}-{random.randrange(100)}" for kind in ("tag", "label")]},
        "note": {"S": "front door"},
    }


def _small(random: Random, index: int) -> dict[str, Any]:
    return {
        "eventID": _event_id(random, index),
        "eventName": "MODIFY",
        "dynamodb": {
            "Keys": {"id": {"S": f"{PAGE_NUMBER}{index:03}"}},
            "SequenceNumber": sequence_number(PAGE_NUMBER, index),
        },
    }


def _large(random: Random, index: int) -> dict[str, Any]:
    record = _standard(random, index)
    change = record["dynamodb"]
    images = [change[name] for name in ("NewImage", "OldImage") if name in change]
    text = _text(random, (_LARGE_BYTES - len(orjson.dumps(record))) // len(images))
    for image in images:
        image["note"] = {"S": text}
    return record


def _text(random: Random, bytes_min: int) -> str:
    """Of sentences that take so many bytes as JSON, or some more."""
    sentences: list[str] = []
    while bytes_min > 0:
        sentences.append(random.choice(_SENTENCES))
        bytes_min -= len(orjson.dumps(sentences[-1])) - len('""')
    return "".join(sentences)


def _event_id(random: Random, index: int) -> str:
    return f"{random.getrandbits(60):015x}{PAGE_NUMBER}{index:08x}"


# --- recorded --------------------------------------------------------------------------------------------------------


class _Answer(msgspec.Struct):
    Records: msgspec.Raw


def _recorded(answer: bytes) -> bytes:
    """An answer to the end of its records, with the page's number in event ids and the replay's own sequence numbers."""
    records = bytes(msgspec.json.decode(answer, type=_Answer).Records)
    index = count()
    text = _EVENT_ID.sub(rb'\g<1>%b"' % PAGE_NUMBER.encode(), answer[: answer.index(records) + len(records)])
    return _NUMBER.sub(lambda found: b'%b"%b"' % (found[1], sequence_number(PAGE_NUMBER, next(index)).encode()), text)
