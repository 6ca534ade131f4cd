"""A letter as the bytes of its entries, and back: pure.

An entry is a line of JSON, and behind it the record as the service sent it. A large record is in entries of its own, which
are written together with that of the letter. An entry never changes: what is noted when a record is kept again, its facts,
is in another one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from streamflow.dead_letters import DeadLetter
from streamflow.errors import StoreError
from streamflow_nats.store_rows import cut

_INLINE_BYTES = 64 << 10
ERROR_TEXT_MAX = 20_000
"""Characters of an error's text that are kept."""
_NAMES = ("pipeline", "stream_arn", "shard_id", "sequence_number", "item_key")
_FACTS = ("reason", "error_type", "error_text", "invoke_count", "kept_at_s")


def encoded(letter: DeadLetter) -> tuple[bytes, list[bytes]]:
    """The entry, and the pieces of the record, if that is large. Raises `StoreError`: a name is no text."""
    pieces = cut(letter.record) if len(letter.record) > _INLINE_BYTES else []
    names = {name: getattr(letter, name) for name in _NAMES}
    line = _line({**names, **_facts(letter), "pieces": len(pieces)}, letter)
    return line + b"\n" + (b"" if pieces else letter.record), pieces


def encoded_facts(letter: DeadLetter) -> bytes:
    return _line(_facts(letter), letter)


def decoded(data: bytes, letter_id: int) -> tuple[DeadLetter, int]:
    """The letter, and in how many pieces its record is; without its record, if it is in any.

    Raises:
        StoreError: the entry is damaged; the message quotes nothing of it.
    """
    line, _, record = data.partition(b"\n")
    try:
        values: dict[str, Any] = orjson.loads(line)
        letter = DeadLetter(record=record, id=letter_id, **{name: values[name] for name in (*_NAMES, *_FACTS)})
        return letter, int(values["pieces"])
    except (ValueError, TypeError, KeyError) as error:
        raise damaged(letter_id, type(error).__name__) from None


def with_facts(letter: DeadLetter, data: bytes) -> DeadLetter:
    """The letter with what was noted later. Raises `StoreError`: it is damaged."""
    try:
        values: dict[str, Any] = orjson.loads(data)
        return replace(letter, **{name: values[name] for name in _FACTS})
    except (ValueError, TypeError, KeyError) as error:
        raise damaged(letter.id, type(error).__name__) from None


def damaged(letter_id: int, why: str) -> StoreError:
    return StoreError(
        f"lease store: letter {letter_id} is damaged: {why} (correct it, or remove the letter: its record is lost then)"
    )


def _facts(letter: DeadLetter) -> dict[str, Any]:
    return {
        "reason": letter.reason,
        "error_type": _encodable(letter.error_type),
        "error_text": _encodable(letter.error_text[:ERROR_TEXT_MAX]),
        "invoke_count": letter.invoke_count,
        "kept_at_s": letter.kept_at_s,
    }


def _encodable(text: str) -> str:
    """Any exception's text: lone surrogates, as in names of files, are escaped and stop no letter."""
    return text.encode(errors="backslashreplace").decode()


def _line(values: dict[str, Any], letter: DeadLetter) -> bytes:
    try:
        return orjson.dumps(values)
    except orjson.JSONEncodeError as error:
        raise StoreError(f"lease store: a letter of {letter.shard_id!r} cannot be stored: {error}") from None
