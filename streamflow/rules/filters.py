"""The filters of a pipeline: whether a record, in the form that AWS Lambda filters, matches one of them.

Of the envelope no more is decoded than the filters ask for, and keys, in one look at a whole page. Images are decoded when a
filter comes to them, once for all filters. What cannot be read passes: a record is left out only by a filter that has seen it.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any

import msgspec

from streamflow.errors import MalformedRecordError
from streamflow.records import UNREADABLE, glimpse_decoder, glimpses
from streamflow.rules.patterns.compiling import any_of, compile_tree
from streamflow.rules.patterns.grammar import Pattern, parse_pattern
from streamflow.rules.patterns.places import ABSENT
from streamflow.rules.patterns.predicates import any_holds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.records import Glimpse, Record
    from streamflow.rules.patterns.compiling import Answer, Read
    from streamflow.rules.patterns.grammar import Path

_decode = msgspec.json.Decoder().decode
_FREE, _KEYS, _IMAGE, _WHOLE = range(4)  # what reading costs
_EVENT_NAME = ("eventName",)
EVENT_NAMES = ("INSERT", "MODIFY", "REMOVE")


def compile_filters(texts: Sequence[str], *, extensions: bool = False) -> Filters | None:
    """The filters of a pipeline, or None without any.

    Raises:
        PatternError: a pattern is wrong.
    """
    return (
        Filters([parse_pattern(text, extensions=extensions) for text in texts], extensions=extensions)
        if texts
        else None
    )


class Filters:
    """Says whether a record passes: if one pattern matches, or if it cannot be read."""

    __slots__ = ("_answers", "_parts", "decode")

    def __init__(self, patterns: Sequence[Pattern], *, extensions: bool) -> None:
        self._parts = _Parts()
        self._answers: dict[str, Answer] = {}
        """What is left to ask of a record, by its event name; nothing where one pattern has no more questions."""
        for name in EVENT_NAMES:
            # Most filters begin with that, and it costs nothing to know.
            left = [rest for pattern in sorted(patterns, key=self._parts.cost) if (rest := _knowing(pattern, name))]
            if all(rest.leaves or rest.choices for rest in left):
                trees = [compile_tree(rest, self._parts.locate, extensions=extensions) for rest in left]
                self._answers[name] = any_of(trees)
        self.decode = glimpse_decoder(self._parts.asked)
        """Takes the glimpse of a record's JSON that is enough for these patterns."""

    def __call__(self, record: Record) -> bool:
        return self.passes(record, *glimpses((record,), self.decode))

    def passes(self, record: Record, glimpse: Glimpse | None) -> bool:
        """The same for a record of which somebody has a glimpse."""
        return bool(self.passing((record,), (glimpse,)))

    def passing(self, records: Sequence[Record], seen: Sequence[Glimpse | None]) -> list[int]:
        """The places of those that pass; `seen` has a glimpse of each."""
        answers, parts = self._answers, self._parts
        places: list[int] = []
        for place, glimpse in enumerate(seen):
            if glimpse is not None and (answer := answers.get(glimpse.eventName)) is not None:
                parts.record = records[place]
                try:
                    if not answer(glimpse) and glimpse.dynamodb.SequenceNumber.isdigit():
                        continue
                except (MalformedRecordError, *UNREADABLE):
                    pass
            places.append(place)
        return places


def _knowing(pattern: Pattern, event_name: str) -> Pattern | None:
    """What a pattern still asks of a record whose event name is known; None if it cannot match any more."""
    leaves = [leaf for leaf in pattern.leaves if leaf.path != _EVENT_NAME]
    named = [leaf for leaf in pattern.leaves if leaf.path == _EVENT_NAME]
    if not all(any_holds(leaf.conditions)(event_name) for leaf in named):
        return None
    return Pattern(leaves=tuple(leaves), choices=pattern.choices)


class _Parts:
    """How each path is read, given an envelope: its parts, the decoded keys and images, or all of `record`."""

    record: Record

    def __init__(self) -> None:
        self.asked: set[str] = set()
        """The names on the paths of all parts that were located."""
        new_image, old_image = map(_decoding, ("NewImage", "OldImage"))
        whole = _remembering(lambda _: self.record.lambda_event())
        # By the path of each part; what is not listed is read from the whole event.
        self._known: dict[Path, tuple[int, Read]] = {
            (): (_WHOLE, whole),
            ("eventID",): (_FREE, attrgetter("eventID")),
            ("eventName",): (_FREE, attrgetter("eventName")),
            ("eventSourceARN",): (_FREE, lambda _: self.record.shard.stream_arn),
            ("userIdentity",): (_FREE, _identity),
            ("dynamodb", "ApproximateCreationDateTime"): (_FREE, _member("ApproximateCreationDateTime")),
            ("dynamodb", "SequenceNumber"): (_FREE, attrgetter("dynamodb.SequenceNumber")),
            ("dynamodb", "SizeBytes"): (_FREE, _member("SizeBytes")),
            ("dynamodb", "StreamViewType"): (_FREE, _member("StreamViewType")),
            ("dynamodb", "Keys"): (_KEYS, attrgetter("dynamodb.Keys")),
            ("dynamodb", "NewImage"): (_IMAGE, new_image),
            ("dynamodb", "OldImage"): (_IMAGE, old_image),
        }

    def locate(self, path: Path) -> tuple[int, Read, Path]:
        """As `patterns.Locate` has it."""
        if path == ("dynamodb",):
            return _FREE, _object, ()
        for length in (2, 1, 0):
            if (known := self._known.get(path[:length])) is not None:
                self.asked.update(path[:length])
                return *known, path[length:]
        raise AssertionError("the whole event has every path")

    def cost(self, pattern: Pattern) -> int:
        below = [self.cost(branch) for choice in pattern.choices for branch in choice]
        return max([*below, *(self.locate(leaf.path)[0] for leaf in pattern.leaves)])


def _object(_: Glimpse) -> dict[str, Any]:
    """Stands for an object whose members are read by themselves: it is no leaf and no array."""
    return {}


def _identity(envelope: Any) -> Any:
    identity = envelope.userIdentity
    return ABSENT if identity is None else {"type": identity.Type, "principalId": identity.PrincipalId}


def _member(name: str) -> Read:
    # The envelope has 0 and "" for what is not there.
    return lambda envelope: getattr(envelope.dynamodb, name) or ABSENT


def _decoding(name: str) -> Read:
    slice_of = attrgetter(f"dynamodb.{name}")
    known: Any = None
    value: Any = None

    def read(envelope: Glimpse) -> Any:
        nonlocal known, value
        raw = slice_of(envelope)
        if raw is not known:
            value = _decode(raw) if len(raw) else ABSENT
            known = raw
        return value

    return read


def _remembering(read: Read) -> Read:
    """Several filters, and several leaves of one, look at the same record one after the other."""
    last: tuple[Any, Any] = (None, None)

    def read_once(envelope: Glimpse) -> Any:
        nonlocal last
        known, value = last
        if envelope is not known:
            value = read(envelope)
            last = (envelope, value)
        return value

    return read_once
