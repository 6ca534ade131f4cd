"""Requests of several entries: halved where they are too large together, and their answers read entry by entry.

An answer that does not account for an entry is a failure of that entry: a body that was cut off parses to an empty answer,
and counting it as success would lose what was sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from streamflow.sdk import Rejection, SinkBusyError, write_in_requests
from streamflow_aws.errors import THROTTLED_CODES, AwsCallError, kind_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from streamflow.sdk import Batch, Capabilities, Record

Entry: TypeAlias = dict[str, Any]
Outcomes: TypeAlias = "list[Rejection | None]"
"""One for each entry, in order; None for one that was taken."""

REQUEST_BYTES_MAX = 700 << 10
"""Of records in one request, where the service takes more. Requests are encoded and signed on the event loop, which a
mebibyte holds up for 15 ms on a slow core; several small ones go side by side instead. With base64 it stays below 1 MiB."""

_NOT_MENTIONED = Rejection("failed", "the answer does not mention it")


@dataclass(frozen=True, slots=True)
class EntriesWriter:
    """Keeps `streamflow.sdk.Writer`. `encode` gives an entry and its bytes; `send` makes one request of entries."""

    encode: Callable[[Record], tuple[Entry, int]]
    send: Callable[[Sequence[Entry]], Awaitable[Outcomes]]
    capabilities: Capabilities

    async def write(self, batch: Batch, /) -> None:
        await write_in_requests(batch, encode=self.encode, send=self._send, capabilities=self.capabilities)

    async def _send(self, entries: Sequence[Entry]) -> Outcomes:
        """Where the service measures more than we do, both halves; an entry that is too large by itself is refused."""
        try:
            return await self.send(entries)
        except AwsCallError as error:
            if error.kind != "too_large":
                raise
            if len(entries) == 1:
                return [Rejection("refused", str(error))]
        middle = len(entries) // 2
        return [*await self._send(entries[:middle]), *await self._second_half(entries[middle:])]

    async def _second_half(self, entries: Sequence[Entry]) -> Outcomes:
        """What goes wrong with it does not make the first half come again."""
        try:
            return await self._send(entries)
        except SinkBusyError as error:
            return [Rejection("waiting", str(error))] * len(entries)
        except AwsCallError as error:
            return [Rejection("failed", str(error))] * len(entries)


def numbered(entries: Sequence[Entry]) -> list[Entry]:
    """With the ids by which SQS and SNS speak of them: their places."""
    return [{"Id": str(place), **entry} for place, entry in enumerate(entries)]


def by_id(answer: Mapping[str, Any], count: int) -> Outcomes:
    """What SQS and SNS say of `numbered` entries."""
    outcomes: Outcomes = [_NOT_MENTIONED] * count
    for taken in answer.get("Successful") or ():
        outcomes[int(taken["Id"])] = None
    for failed in answer.get("Failed") or ():
        outcomes[int(failed["Id"])] = rejection(str(failed["Code"]), refused=bool(failed.get("SenderFault")))
    return outcomes


def by_position(
    answers: Sequence[Mapping[str, Any]] | None,
    count: int,
    *,
    proof: str,
    busy_codes: frozenset[str] = frozenset(),
    refused_codes: frozenset[str] = frozenset(),
) -> Outcomes:
    """What EventBridge, Kinesis and Firehose say of entries: an entry that was taken has the field `proof`.

    Raises:
        AwsCallError: the answer is about another number of entries.
    """
    if answers is None or len(answers) != count:
        found = 0 if answers is None else len(answers)
        raise AwsCallError(
            f"the answer is about {found} of {count} entries: it is truncated or corrupt",
            kind="failed",
            code="CorruptAnswer",
        )
    outcomes: Outcomes = []
    for answer in answers:
        code = answer.get("ErrorCode")
        if code:
            outcomes.append(rejection(str(code), refused=code in refused_codes, busy_codes=busy_codes))
        else:
            outcomes.append(None if answer.get(proof) else _NOT_MENTIONED)
    return outcomes


def rejection(code: str, *, refused: bool = False, busy_codes: frozenset[str] = frozenset()) -> Rejection:
    """What the code of one entry means. `refused` is what the service says; it says so of wrong permissions, too."""
    reason = f"the service answered {code}"
    if code in THROTTLED_CODES | busy_codes:
        return Rejection("waiting", reason)
    match kind_of(code):
        case "too_large":
            return Rejection("refused", reason)
        case "denied" | "missing" | "expired":
            return Rejection("failed", reason)
        case _:
            return Rejection("refused" if refused else "failed", reason)
