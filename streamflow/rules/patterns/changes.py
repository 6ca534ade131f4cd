"""Whether what stands at a path of the new image differs from the old one: the operator `changed`, which Lambda has not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

_SETS = frozenset({"SS", "NS", "BS"})


def differs(new: Sequence[Any], old: Sequence[Any], *, last_key: str) -> bool:
    """Compare all that stands at a path whose last key is `last_key`; nothing there differs from anything.

    The members of a set have no order; a list's have. Images may nest as deeply as JSON does.
    """
    if len(new) != len(old):
        return True
    pending = [(now, before, last_key) for now, before in zip(new, old, strict=True)]
    while pending:
        now, before, key = pending.pop()
        if type(now) is not type(before):
            return True
        if isinstance(now, dict):
            if now.keys() != before.keys():
                return True
            pending += [(value, before[name], name) for name, value in now.items()]
        elif isinstance(now, list):
            if key in _SETS:
                now, before = _in_order(now), _in_order(before)
            if len(now) != len(before):
                return True
            pending += [(one, other, "") for one, other in zip(now, before, strict=True)]
        elif now != before:
            return True
    return False


def _in_order(members: list[Any]) -> list[Any]:
    return sorted(members) if all(isinstance(member, str) for member in members) else members
