"""One lane of a shard: performs what `rules/attempts` decides, one invocation at a time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from anyio.lowlevel import checkpoint
from msgspec.structs import replace

from streamflow import events
from streamflow.batches import Batch
from streamflow.dead_letters import DiscardedBatch, readable_item_key
from streamflow.engine.fencing import FencedOffError
from streamflow.engine.giving_up import function_error, send
from streamflow.engine.invocation import batch_delivered, batch_failed, invoke, outcome_of, reason_of, too_large
from streamflow.engine.isolation import HELD_S, Verdict
from streamflow.errors import (
    EventTooLargeError,
    FencedError,
    LeaseLostError,
    MalformedRecordError,
    NotFoundError,
    SuspectedKillerError,
    WindowStateError,
)
from streamflow.failpoints import reach
from streamflow.rules.attempts import (
    AttemptRules,
    Attempts,
    Discard,
    Failed,
    Invoke,
    PartlyFailed,
    Pause,
    Settle,
    SomeFailed,
    Succeeded,
)
from streamflow.rules.frontier import Remains
from streamflow.rules.pacing import HANDLER_BACKOFF

if TYPE_CHECKING:
    from collections.abc import Sequence

    from streamflow.batches import Window
    from streamflow.engine.assignment import Assignment
    from streamflow.engine.isolation import Isolation
    from streamflow.records import Record
    from streamflow.rules.attempts import Action, Outcome
    from streamflow.rules.windows import Windows


# How long, and how often, handlers are called without a turn for the rest of the loop.
_BREATH_S, _INVOCATIONS_IN_A_ROW = 0.02, 64
_NOTHING = Remains(())


@dataclass(slots=True, kw_only=True, eq=False)
class Lane:
    """`windows` is set for tumbling windows, which have one lane only. An empty batch is a window's final invocation."""

    shared: Assignment
    number: int
    windows: Windows | None
    in_flight: bool = False
    """True from the start of an invocation to its end, and for good if it was cancelled in between."""
    began_at: float = 0.0
    """Monotonic time at which the last invocation began."""
    _remains: Remains = _NOTHING
    _later: Sequence[Record] = ()
    """Cut from a batch, because they belong to a later window than its first record."""
    _left: frozenset[int] = frozenset()
    """Identities of records of the batch that are not to be handed over any more."""
    _batch: Batch | None = None
    """The last invocation of the current batch, and what came of it."""
    _error: Exception | None = None
    _handler_s: float = 0.0
    _taken_at_s: float = 0.0
    _breathed_at: float = 0.0
    _invocations: int = 0
    _rules: AttemptRules[Record] = field(init=False)

    def __post_init__(self) -> None:
        options = self.shared.flow.options
        self._rules = AttemptRules(
            # A shard that blocks on poison is one that never gives up.
            retries_max=-1 if options.on_poison == "block" else options.maximum_retry_attempts,
            # Whose item to park is only known of a record that fails alone.
            bisect=options.bisect_batch_on_function_error or options.on_poison == "park_key",
            age_max_s=None if options.maximum_record_age_s == -1 else options.maximum_record_age_s,
            created_at_s=self._created_at_s,
            refusals=options.on_poison != "block",
        )

    async def run(self) -> bool:
        """Deliver batch after batch. True: to the end of the shard; False: the flow stopped before."""
        shared = self.shared
        batcher = shared.buffer.batchers[self.number]
        while (records := await self._next_records()) is not None:
            if not await self._deliver(records):
                return False
            del records  # each keeps the page that it was cut from, see `_forget`
            batcher.restart_window(shared.flow.around.clock.monotonic())
        return shared.buffer.ended and not shared.flow.stopping.is_set()

    @property
    def unsettled(self) -> int:
        """Records of the current batch that are not settled."""
        return len(self._remains)

    def forget_behind(self, kept: int) -> None:
        """The flow stops: what no handler has seen, and all but the oldest `kept` of the batch, is left for the next run."""
        self._later = ()
        self._left = frozenset(map(id, self._remains.behind(kept)))

    # -- which records come next --------------------------------------------------------------------------------------

    async def _next_records(self) -> Sequence[Record] | None:
        """The next batch; None at the end of the shard and when the flow stops."""
        flow, buffer = self.shared.flow, self.shared.buffer
        batcher = buffer.batchers[self.number]
        while True:
            now = flow.around.clock.monotonic()
            stopping = flow.stopping.is_set()
            if self.windows is not None and self._must_close(self.windows) and not stopping:
                return ()
            records = self._later or batcher.take(now, ended=buffer.ended or buffer.held_up or stopping)
            if records is not None:
                return self._of_one_window(self.windows, records) if self.windows and self.windows.size_s else records
            if stopping:
                return None
            if self.windows is not None and self.windows.is_open and not len(batcher) and self._over(self.windows):
                return ()
            if buffer.ended:
                return None
            self._forget()
            await buffer.wait_change(self.number, until=batcher.due_at, now=now)

    def _forget(self) -> None:
        """Hold nothing while there is nothing to do: a single record keeps its whole page, which no bound counts any more."""
        self._remains, self._batch, self._error = _NOTHING, None, None

    def _must_close(self, windows: Windows) -> bool:
        """Before anything else: a state that is too large, and what is left of windows that were turned off."""
        if not windows.size_s and not windows.is_open:
            self.windows = None
        return windows.overflown or (not windows.size_s and windows.is_open)

    def _over(self, windows: Windows) -> bool:
        """The end of the shard closes its window, and so does a look that found nothing well after the window's end."""
        buffer = self.shared.buffer
        # A shard whose next records were trimmed goes on behind the gap, maybe in the same window.
        ended = buffer.ended and (buffer.failure is None or isinstance(buffer.failure, NotFoundError))
        return ended or windows.overdue(buffer.caught_up_at_s)

    def _of_one_window(self, windows: Windows, records: Sequence[Record]) -> Sequence[Record]:
        """The records of the open window; none where it has to be closed before them."""
        self._taken_at_s = 0.0  # what does not say when it was made goes where the others go
        count = windows.take([self._created_at_s(record) for record in records])
        self._later = records[count:]
        return records[:count]

    def _created_at_s(self, record: Record) -> float:
        """A record that does not say when it was made counts as made when its batch was."""
        try:
            return record.created_at_s or self._taken_at_s
        except MalformedRecordError:
            return self._taken_at_s

    # -- what to do with them -----------------------------------------------------------------------------------------

    async def _deliver(self, records: Sequence[Record]) -> bool:
        """Attempt after attempt until the records are settled (True) or the flow stops before that (False)."""
        flow = self.shared.flow
        self._remains = Remains(records)
        self._batch = self._error = None
        self._taken_at_s = flow.around.clock.wall()
        parked = await self.shared.parked.hold_back(records) if self.shared.parked.keys else ()
        if parked is None:
            return False
        if parked:
            self._settled(parked)
            gone = set(map(id, parked))
            records = [record for record in records if id(record) not in gone]
            if not records:
                return True
        final_of_s = None
        if not records and self.windows is not None:
            final_of_s = float(self.windows.end_s)
        return await self._perform(Attempts(records, self._rules, self._backoff, final_of_s=final_of_s))

    async def _perform(self, attempts: Attempts[Record]) -> bool:
        """Action after action, until there is none left (True) or the flow stops (False)."""
        flow = self.shared.flow
        action = attempts.next(flow.around.clock.wall())
        while action is not None:
            match action:
                case Settle(records=done):
                    if self._batch is not None:
                        flow.around.emit(self._delivered(self._batch, done))
                    if not done and self.windows is not None:
                        self._close(self.windows)
                    self._settled(done)
                case Invoke() if self._left and attempts.set_aside(lambda record: id(record) in self._left):
                    pass
                case Invoke():
                    if self.windows is not None and self.windows.overflown and action.records:
                        # A part of the batch has left a state that no event can carry.
                        if not await self._close_in_between(self.windows):
                            return False
                    elif self.shared.isolation is not None:
                        action = await self._invoke_suspect(self.shared.isolation, attempts, action)
                    else:
                        action = await self._invoke(attempts, action)
                    continue
                case Discard():
                    if not await self._give_up(attempts, action):
                        return False
                case Pause(delay_s=delay_s):
                    if await flow.pause(delay_s):
                        return False
            action = attempts.next(flow.around.clock.wall())
        return True

    async def _close_in_between(self, windows: Windows) -> bool:
        batch, error = self._batch, self._error
        final: Attempts[Record] = Attempts((), self._rules, self._backoff, final_of_s=float(windows.end_s))
        closed = await self._perform(final)
        self._batch, self._error = batch, error
        return closed

    def _backoff(self, failures: int) -> float:
        return HANDLER_BACKOFF.delay_s(failures, self.shared.flow.around.random)

    def _settled(self, records: Sequence[Record]) -> None:
        if self.windows is not None:
            self.shared.checkpoints.window = self.windows.stored
        self.shared.buffer.settle(self.number, len(records), oldest=self._remains.settle(records))
        if not len(self._remains):
            self.shared.seen.discard(self.number)
        self.shared.note_repeating()

    # -- one invocation -----------------------------------------------------------------------------------------------

    async def _invoke(self, attempts: Attempts[Record], action: Invoke[Record]) -> Action[Record] | None:
        """Invoke once, tell the rules and the observers; the answer is what to do next."""
        shared = self.shared
        clock = shared.flow.around.clock
        started = clock.monotonic()
        self._invocations += 1
        if self._invocations % _INVOCATIONS_IN_A_ROW == 0 or started - self._breathed_at > _BREATH_S:
            # A handler that never waits would have the loop to itself for as long as there are records.
            await checkpoint()
            started = self._breathed_at = clock.monotonic()  # what the others took of it is not its own
        if not shared.held.valid:
            raise LeaseLostError(f"the lease of {shared.shard.shard_id} ran out before the batch was dispatched")
        self.began_at = started
        batch = self._batch = self._batch_for(action)
        error = self._error = await self._attempt(batch)
        self._handler_s = clock.monotonic() - started
        attempts.invoked(self._outcome(batch, error))
        following = attempts.next(clock.wall())
        if self._error is not None:
            retry_after_s = following.delay_s if isinstance(following, Pause) else 0.0
            shared.flow.around.emit(
                batch_failed(
                    batch, self._error, handler_s=self._handler_s, retry_after_s=retry_after_s, now_s=clock.wall()
                )
            )
        if isinstance(error, FencedError):
            raise FencedOffError(shared.shard.shard_id, error)
        return following

    async def _invoke_suspect(
        self, isolation: Isolation, attempts: Attempts[Record], action: Invoke[Record]
    ) -> Action[Record] | None:
        """As `_invoke`, in a shard whose last owner has died."""
        shared = self.shared
        if not isolation.alone:
            if await isolation.note_first(shared.checkpoints) is Verdict.STOPPED:
                return Pause(0.0)
            shared.isolation = None
            return await self._invoke(attempts, action)
        async with isolation.turn() as had:
            verdict = await isolation.judge(action.records, shared.checkpoints) if had else Verdict.HAND_OVER
            if verdict is Verdict.HAND_OVER:
                following = await self._invoke(attempts, action)
                if isolation.end_if_over(shared.buffer):
                    shared.isolation = None
                return following
        return Pause(0.0) if verdict is Verdict.STOPPED else self._convict(isolation, attempts)

    def _convict(self, isolation: Isolation, attempts: Attempts[Record]) -> Action[Record] | None:
        """Do not hand the record over again: give it up, or hold the shard with it."""
        flow, times = self.shared.flow, isolation.suspicion.times
        self._error = SuspectedKillerError(times)
        if flow.options.on_poison == "block":
            isolation.hold()
            return Pause(HELD_S)
        attempts.give_up("SuspectedKiller", invoke_count=times)
        return attempts.next(flow.around.clock.wall())

    def _delivered(self, batch: Batch, records: Sequence[Record]) -> events.BatchDelivered:
        return batch_delivered(
            batch,
            records,
            handler_s=self._handler_s,
            now_s=self.shared.flow.around.clock.wall(),
            partial=self._error is not None,
        )

    def _batch_for(self, action: Invoke[Record]) -> Batch:
        # Windows that were turned off have nothing but a last invocation.
        has_window = self.windows is not None and (self.windows.size_s or not action.records)
        window = self._view(self.windows, action.records) if self.windows is not None and has_window else None
        if action.unchanged and self._batch is not None:
            return self._batch.again(attempt=action.attempt, window=window)
        return self._new_batch(action.records, window, attempt=action.attempt)

    def _new_batch(self, records: Sequence[Record], window: Window | None, *, attempt: int = 1) -> Batch:
        shared = self.shared
        return Batch(
            pipeline=shared.flow.name,
            shard=shared.shard,
            records=tuple(records),
            epoch=shared.held.lease.epoch,
            attempt=attempt,
            window=window,
        )

    @staticmethod
    def _view(windows: Windows, records: Sequence[Record]) -> Window:
        return windows.view(final=not records, early=not records and windows.overflown)

    async def _attempt(self, batch: Batch) -> Exception | None:
        """One invocation of the chain; the answer is what it raised."""
        flow = self.shared.flow
        if (error := too_large(batch, flow.event_bytes_max)) is not None:
            return error
        # Until the records are settled they count as seen: a forced stop names them.
        if batch.records:
            self.shared.seen.add(self.number)
        self.in_flight = True
        self.shared.note_repeating()
        failure = await invoke(flow.chain, batch, timeout_s=flow.options.handler_timeout_s)
        self.in_flight = False
        await reach("batch.handled" if failure is None else "batch.failed")
        return failure

    def _outcome(self, batch: Batch, error: Exception | None) -> Outcome:
        """What came of it; a state that cannot be kept fails the invocation that left it."""
        outcome = outcome_of(batch, error)
        partly = isinstance(outcome, SomeFailed) or (isinstance(outcome, PartlyFailed) and outcome.first > 0)
        progress = isinstance(outcome, Succeeded) or partly
        if progress and self.windows is not None and batch.records and batch.window is not None:
            try:
                self.windows.keep(batch.window)
            except WindowStateError as refused:
                self._error = refused
                return Failed()
        return outcome

    # -- giving up ----------------------------------------------------------------------------------------------------

    async def _give_up(self, attempts: Attempts[Record], discard: Discard[Record]) -> bool:
        """Park the records' item, or send the records to every destination; False: the flow stopped before that."""
        shared = self.shared
        flow, parked = shared.flow, shared.parked
        poison = discard.condition != "RecordAgeExceeded" and flow.options.on_poison == "park_key"
        key = readable_item_key(discard.records[0]) if poison else None
        if key is None:
            return await self._discard(discard)
        if not await parked.has_room_for(key):
            # So many items are not poison, each by itself: what fails is the handler, and waiting helps.
            attempts.resume(discard)
            return True
        followers = attempts.set_aside(lambda record: readable_item_key(record) == key)
        if not await parked.open(
            discard.records,
            followers,
            condition=discard.condition,
            error=reason_of(self._error, discard.records),
            invoke_count=discard.invoke_count,
        ):
            return False
        self._settled([*discard.records, *followers])
        return True

    async def _discard(self, discard: Discard[Record]) -> bool:
        shared = self.shared
        responded = discard.condition == "RetryAttemptsExhausted" and not isinstance(self._error, EventTooLargeError)
        discarded = DiscardedBatch(
            batch=self._discarded(discard.records),
            condition=discard.condition,
            invoke_count=discard.invoke_count,
            discarded_at_s=shared.flow.around.clock.wall(),
            error=reason_of(self._error, discard.records),
            responded=responded,
            function_error=function_error(self._error) if responded else None,
        )
        if not await send(shared.flow, discarded):
            return False
        if not discard.records and self.windows is not None:
            self._close(self.windows)
        self._settled(discard.records)
        return True

    def _discarded(self, records: Sequence[Record]) -> Batch:
        window = None if self.windows is None else self._view(self.windows, records)
        if self._batch is None:
            return self._new_batch(records, window)
        return replace(self._batch, records=records, window=window, _ledger=None)

    # -- windows ------------------------------------------------------------------------------------------------------

    def _close(self, windows: Windows) -> None:
        """The final invocation is done, or given up."""
        shared = self.shared
        stored = windows.stored
        early = windows.overflown
        shared.flow.around.emit(
            events.WindowClosed(
                pipeline=shared.flow.name,
                shard_id=shared.shard.shard_id,
                start_s=windows.start_s,
                end_s=windows.end_s,
                early=early,
                state_bytes=0 if stored is None else len(stored.state),
            )
        )
        if early:
            windows.close_early()
        else:
            windows.close()
