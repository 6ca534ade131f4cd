"""What really happened, in plain dictionaries: kept from facts alone, by code that shares nothing with the engine."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from streamflow.testing.simulation.facts import (
    HAND,
    Accepted,
    Called,
    Fact,
    Heard,
    LettersStored,
    NodeCrashed,
    NodeHeld,
    NodeStands,
    NodeStarted,
    NodeStopped,
    Promised,
    QuietBegun,
    RecordMade,
    RecordsGone,
    Returned,
    RowStored,
    ShardFinished,
    ShardGone,
    ShardMade,
    Shown,
    StopAsked,
    StoreRolledBack,
    Terms,
    Told,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streamflow.leases import Lease
    from streamflow.positions import Position


def through(position: Position) -> float:
    """The highest sequence number that a checkpoint covers: 0 at the horizon, infinity at the end of the shard."""
    match position.kind.value:
        case "AFTER_SEQUENCE_NUMBER":
            return int(position.sequence_number)
        case "AT_SEQUENCE_NUMBER":
            return int(position.sequence_number) - 1
        case "SHARD_END":
            return math.inf
        case _:
            return 0


@dataclass(slots=True, kw_only=True, eq=False)
class TrueShard:
    """A shard as the service has it; `numbers` are all that was ever written to it."""

    shard_id: str
    parents: tuple[str, ...]
    numbers: list[int] = field(default_factory=list)
    keys: dict[int, str] = field(default_factory=dict)
    made_at_s: dict[int, float] = field(default_factory=dict)
    bodies: dict[int, bytes] = field(default_factory=dict)
    finished: bool = False
    gone_through: float = 0
    gone: bool = False


@dataclass(frozen=True, slots=True)
class _Height:
    """How far a row was: each of it only grows, but for what the store loses."""

    epoch: int
    version: int
    covered: float

    @classmethod
    def of(cls, row: Lease) -> _Height:
        return cls(row.epoch, row.version, through(row.checkpoint))

    def raised_by(self, row: Lease) -> _Height:
        other = _Height.of(row)
        return _Height(max(self.epoch, other.epoch), max(self.version, other.version), max(self.covered, other.covered))

    def is_below(self, row: Lease) -> bool:
        """Whether everything up to here is written again, and the row goes on from there."""
        return row.epoch > self.epoch and row.version > self.version and through(row.checkpoint) >= self.covered


@dataclass(slots=True, kw_only=True, eq=False)
class Course:
    """How one pipeline came along in one shard, all workers together."""

    shard: TrueShard
    row: Lease | None = None
    settled: set[int] = field(default_factory=set)
    """Done, kept as letters, lost with a note, or excused."""
    excused: set[int] = field(default_factory=set)
    """Left out by filters, or not due."""
    accepted: dict[int, int] = field(default_factory=dict)
    """Number to how often its effect is in the sink."""
    letters: dict[int, str] = field(default_factory=dict)
    """Number to drawer."""
    lost: set[int] = field(default_factory=set)
    done_by: dict[int, int] = field(default_factory=dict)
    """Number to the last epoch whose handler was done with it."""
    bases: dict[int, float] = field(default_factory=dict)
    """Epoch to what the checkpoint covered when it began."""
    takers: dict[int, str] = field(default_factory=dict)
    """Epoch to the node that took it."""
    taken_at_s: float = -math.inf
    touched: bool = False
    """Somebody wrote the row behind the workers' backs, and nobody has taken it since."""
    _forgotten: _Height | None = None
    """How far the row was when the store last lost writes of it."""
    unstored_since_s: float | None = None
    """Since when records are settled in a row behind the stored checkpoint."""
    _settled_first: int = 0

    def first_unsettled(self) -> int | None:
        """The lowest number that is not settled; each record is passed once, so this costs nothing."""
        numbers, place = self.shard.numbers, self._settled_first
        while place < len(numbers) and numbers[place] in self.settled:
            place += 1
        self._settled_first = place
        return numbers[place] if place < len(numbers) else None

    def first_behind(self, checkpoint: float) -> int | None:
        """The first record behind it that somebody could read: only that is worth a checkpoint."""
        numbers = self.shard.numbers
        place = bisect_right(numbers, max(checkpoint, self.shard.gone_through))
        while place < len(numbers) and numbers[place] in self.lost:
            place += 1
        return numbers[place] if place < len(numbers) else None

    def first_handled_behind(self, checkpoint: float) -> int | None:
        """The first record behind it that a handler was done with, if all between them are settled in another way."""
        number = self.first_behind(checkpoint)
        while number is not None and number not in self.done_by:
            number = self.first_behind(number) if number in self.settled else None
        return number

    @property
    def forgotten(self) -> bool:
        """Whether the store lost writes of the row, and it is not beyond them yet: their epochs and versions come again."""
        return self.forgotten_in(self.epoch)

    def forgotten_in(self, epoch: int) -> bool:
        """The same for what is done in an epoch: in one that was lost, two may have been owners, whatever the row is now."""
        if self._forgotten is None:
            return False
        return self.row is None or epoch <= self._forgotten.epoch or not self._forgotten.is_below(self.row)

    def note_rolled_back(self, row: Lease) -> None:
        """The store has this row again, as it was."""
        before = self._forgotten or _Height.of(row)
        self._forgotten = before if self.row is None else before.raised_by(self.row)
        self.row = row

    @property
    def all_settled(self) -> bool:
        return self.first_unsettled() is None

    @property
    def epoch(self) -> int:
        return 0 if self.row is None else self.row.epoch


@dataclass(slots=True, kw_only=True, eq=False)
class Life:
    """One node."""

    worker_id: str
    terms: Terms = field(default_factory=Terms)
    stop_asked_at_s: float | None = None
    ended: str = ""
    """`crashed`, `stopped`, or empty while it lives."""
    ended_at_s: float = math.inf
    stands: bool = False
    held_s: float = 0.0
    held_until_s: float = -math.inf


@dataclass(slots=True, kw_only=True, eq=False)
class Truth:
    pipelines: tuple[str, ...]
    transactional: bool = False
    now_s: float = 0.0
    shards: dict[str, TrueShard] = field(default_factory=dict)
    courses: dict[tuple[str, str], Course] = field(default_factory=dict)
    nodes: dict[str, Life] = field(default_factory=dict)
    promised: set[str] = field(default_factory=set)
    quiet_at_s: float = math.inf
    quiet_nodes: tuple[str, ...] = ()

    def course(self, pipeline: str, shard_id: str) -> Course | None:
        """None for rows that are no shard's."""
        return self.courses.get((pipeline, shard_id))

    def due(self) -> Iterator[tuple[str, Course, int]]:
        """Every record that is not settled, with its pipeline."""
        for (pipeline, _), course in self.courses.items():
            yield from ((pipeline, course, number) for number in course.shard.numbers if number not in course.settled)

    def note(self, fact: Fact) -> None:
        """Take a fact in, before any invariant looks at it."""
        match fact:
            case Called() | Heard() | Shown() | Told():
                pass
            case Accepted(numbers=numbers):
                course = self.courses[fact.pipeline, fact.shard_id]
                for number in numbers:
                    course.accepted[number] = course.accepted.get(number, 0) + 1
                if self.transactional:
                    course.settled.update(numbers)
            case Returned(done=done):
                course = self.courses[fact.pipeline, fact.shard_id]
                course.settled.update(done)
                course.done_by.update(dict.fromkeys(done, fact.epoch))
                self._note_unstored(course)
            case RowStored():
                self._note_row(fact)
            case RecordMade():
                self._note_record(fact)
            case LettersStored(letters=letters):
                for letter in letters:
                    course = self.courses[letter.pipeline, letter.shard_id]
                    course.settled.add(letter.number)
                    course.letters[letter.number] = letter.drawer
            case StoreRolledBack(rows=rows):
                for row in rows:
                    if (known := self.course(row.pipeline, row.shard_id)) is not None:
                        known.note_rolled_back(row)
            case _:
                self._note_rarely(fact)

    def _note_rarely(self, fact: Fact) -> None:
        match fact:
            case ShardMade(shard_id=shard_id, parents=parents):
                shard = self.shards[shard_id] = TrueShard(shard_id=shard_id, parents=parents)
                for pipeline in self.pipelines:
                    self.courses[pipeline, shard_id] = Course(shard=shard)
            case ShardFinished(shard_id=shard_id):
                self.shards[shard_id].finished = True
            case RecordsGone(shard_id=shard_id, through=through_number):
                shard = self.shards[shard_id]
                shard.gone_through = max(shard.gone_through, through_number)
                self._note_never_begun(shard)
            case ShardGone(shard_id=shard_id):
                self.shards[shard_id].gone, self.shards[shard_id].gone_through = True, math.inf
            case NodeStarted(node=node, worker_id=worker_id, terms=terms):
                self.nodes[node] = Life(worker_id=worker_id, terms=terms)
            case NodeCrashed(node=node):
                self.nodes[node].ended, self.nodes[node].ended_at_s = "crashed", self.now_s
            case NodeStands(node=node):
                self.nodes[node].stands = True
            case NodeHeld(node=node, held_s=held_s):
                self.nodes[node].stands = False
                self.nodes[node].held_s += held_s
                self.nodes[node].held_until_s = self.now_s
            case StopAsked(node=node):
                self.nodes[node].stop_asked_at_s = self.now_s
            case NodeStopped(node=node):
                self.nodes[node].ended, self.nodes[node].ended_at_s = "stopped", self.now_s
            case Promised(pipeline=pipeline):
                self.promised.add(pipeline)
            case QuietBegun(nodes=nodes):
                self.quiet_at_s, self.quiet_nodes = self.now_s, nodes
            case _:
                pass

    def _note_never_begun(self, shard: TrueShard) -> None:
        """Whoever begins at the horizon cannot know what was there before: that is lost, and nothing tells it."""
        for pipeline in self.pipelines:
            course = self.courses[pipeline, shard.shard_id]
            if course.row is None or through(course.row.checkpoint) == 0:
                gone = {number for number in shard.numbers if number <= shard.gone_through} - course.settled
                course.lost |= gone
                course.settled |= gone

    def _note_unstored(self, course: Course) -> None:
        # Where the sink keeps the checkpoint, that of the row may be behind for as long as nothing new is read.
        if course.unstored_since_s is None and course.row is not None and course.done_by and not self.transactional:
            # What an owner before this one was done with, this one has to do again before it may store it; and what is no
            # handler's is settled here when it is safe, and there perhaps only when every destination has it.
            first = course.first_handled_behind(through(course.row.checkpoint))
            if first is not None and course.done_by[first] == course.row.epoch:
                course.unstored_since_s = self.now_s

    def _note_record(self, record: RecordMade) -> None:
        shard = self.shards[record.shard_id]
        shard.numbers.append(record.number)
        shard.keys[record.number] = record.key
        shard.made_at_s[record.number] = self.now_s
        shard.bodies[record.number] = record.body
        for pipeline in self.pipelines:
            if pipeline not in self.promised or not record.passes:
                course = self.courses[pipeline, record.shard_id]
                course.settled.add(record.number)
                course.excused.add(record.number)

    def _note_row(self, fact: RowStored) -> None:
        row = fact.after or fact.before
        course = None if row is None else self.course(row.pipeline, row.shard_id)
        if course is None:
            return
        before, after = fact.before, fact.after
        course.row = after
        course.touched = course.touched or fact.node == HAND
        if after is None:
            return
        course.unstored_since_s = None
        self._note_unstored(course)
        # A row that is made again by hand, as it was, still belongs to whoever took it.
        if after.epoch not in course.takers if before is None else after.epoch != before.epoch:
            course.bases[after.epoch] = through(after.checkpoint)
            course.takers[after.epoch] = fact.node
            course.taken_at_s = self.now_s
            course.touched = fact.node == HAND
        if after.gaps and (before is None or after.gaps != before.gaps):
            lost_from, gone_through = through(after.gaps[-1].lost_from), course.shard.gone_through
            gone = {number for number in course.shard.numbers if lost_from < number <= gone_through}
            course.lost |= gone - course.settled
            course.settled |= gone
