"""The keys of a store's entries, which NATS calls subjects: pure.

A key is tokens with dots between them, so that a filter with `*` for a token finds what belongs together. A token holds any
text: what a key of NATS may not hold is `=` and two hexadecimal digits for each byte, and a long one is a digest.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamflow.dead_letters import DeadLetter, Drawer, LetterQuery
    from streamflow.leases import LeaseKey

_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
# Eight of them, and what the client sends with them, are well below the 4,096 bytes of a line of the protocol.
_TOKEN_MAX = 200
_EMPTY = "="
_DIGEST = "=="

ROW, WINDOW, LETTER, BODY = "row", "window", "letter", "body"
TOUCHED = "touched"


def token(text: str) -> str:
    """Different texts have different tokens."""
    encoded = "".join([char if char in _PLAIN else _escaped(char) for char in text]) or _EMPTY
    if len(encoded) <= _TOKEN_MAX:
        return encoded
    return _DIGEST + blake2b(text.encode(errors="surrogatepass"), digest_size=20).hexdigest()


def text_of(found: str) -> str | None:
    """What `token` made the token of; None for a digest."""
    if found.startswith(_DIGEST):
        return None
    if found == _EMPTY:
        return ""
    first, *rest = found.split("=")
    return b"".join([first.encode(), *(bytes.fromhex(part[:2]) + part[2:].encode() for part in rest)]).decode(
        errors="surrogatepass"
    )


def _escaped(char: str) -> str:
    return "".join(f"={byte:02X}" for byte in char.encode(errors="surrogatepass"))


# -- leases -----------------------------------------------------------------------------------------------------------


def lease_place(key: LeaseKey) -> str:
    """What all entries of one lease begin with."""
    return f"leases.{token(key.pipeline)}.{token(key.stream_arn)}.{token(key.shard_id)}"


def lease_rows(pipeline: str, stream_arn: str) -> str:
    """The filter of a stream's rows."""
    return f"leases.{token(pipeline)}.{token(stream_arn)}.*.{ROW}"


# -- letters ----------------------------------------------------------------------------------------------------------


def letter_place(drawer: Drawer, letter: DeadLetter) -> str:
    """What all entries of one letter begin with, those of its later facts excepted."""
    return (
        f"{drawer}.{token(letter.pipeline)}.{token(letter.stream_arn)}.{token(letter.shard_id)}."
        f"{token(letter.item_key)}.{token(letter.sequence_number)}"
    )


def letter_filter(query: LetterQuery) -> str:
    """Of the letters in the query's drawer, pipeline, stream, shard and item."""
    names = (query.pipeline, query.stream_arn, query.shard_id, query.item_key)
    return ".".join([query.drawer, *("*" if name is None else token(name) for name in names), "*", LETTER])


def place_of(letter_key: str) -> str:
    return letter_key.rpartition(".")[0]


def is_found(keys: str, key: str) -> bool:
    """Whether the filter `keys` finds the key."""
    wanted, found = keys.split("."), key.split(".")
    return len(wanted) == len(found) and all(one in ("*", other) for one, other in zip(wanted, found, strict=True))


def item_token(letter_key: str) -> str:
    return letter_key.split(".")[4]


def items_filter(pipeline: str, stream_arn: str, item: str = "*") -> str:
    """Of the parked letters of all items, or of that with the token `item`."""
    return f"parked.{token(pipeline)}.{token(stream_arn)}.*.{item}.*.{LETTER}"


def facts(letter_id: int) -> str:
    """The key of what was noted about a letter when it was kept again."""
    return f"facts.{letter_id}"
