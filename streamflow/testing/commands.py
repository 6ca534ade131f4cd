"""Controls over HTTP, for a server in a process of its own: `POST /_local/NAME` with the arguments as a JSON object."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from streamflow.testing.items import WireItem  # noqa: TC001 - msgspec reads the annotations
from streamflow.testing.refusals import invalid

if TYPE_CHECKING:
    from streamflow.testing.controls import Controls


class Command(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Arguments of the method of `Controls` that `COMMANDS` names."""


class OnTable(Command):
    table: str


class OnShard(OnTable):
    shard_id: str | None = None


class Replace(OnShard):
    children_delay_s: float | None = None


class Trim(OnShard):
    before: str | None = None


class Forget(OnTable):
    shard_id: str


class Expire(OnTable):
    key: WireItem


class Advance(Command):
    seconds: float


class Slow(Command):
    operation: str
    latency_s: float


class Repeat(Command, kw_only=True):
    times: int = 1
    shard_id: str | None = None


class OnOperation(Repeat, kw_only=True):
    operation: str


class Fail(OnOperation, kw_only=True):
    code: str
    message: str | None = None


class Truncate(OnOperation, kw_only=True):
    keep_bytes: int | None = None


# Path behind /_local/ to the method of Controls and its arguments.
COMMANDS: dict[str, tuple[str, type[Command]]] = {
    "split": ("split", Replace),
    "rollover": ("rollover", Replace),
    "list_children": ("list_children", OnTable),
    "trim": ("trim", Trim),
    "forget": ("forget", Forget),
    "expire": ("expire", Expire),
    "expire_iterators": ("expire_iterators", Command),
    "advance": ("advance", Advance),
    "fail": ("fail_next", Fail),
    "throttle": ("throttle", OnOperation),
    "slow": ("slow", Slow),
    "lose_request": ("lose_request", OnOperation),
    "lose_response": ("lose_response", OnOperation),
    "truncate_body": ("truncate_body", Truncate),
    "corrupt_body": ("corrupt_body", OnOperation),
    "empty_pages": ("empty_pages", Repeat),
    "clear_faults": ("clear_faults", Command),
}


def run_command(controls: Controls, name: str, body: bytes) -> Any:
    """Run a command; returns what the method returned.

    Raises:
        RefusedError: ValidationException for arguments that do not fit, and whatever the method refuses.
    """
    method, kind = COMMANDS[name]
    try:
        command = msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise invalid(f"{name}: {error}") from None
    return getattr(controls, method)(**msgspec.structs.asdict(command))
