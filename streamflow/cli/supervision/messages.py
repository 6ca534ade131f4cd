"""What a worker and its supervisor tell each other: one JSON object a line.

Both run the same program, but a worker that is started again may be of a version that was installed meanwhile: a message
that is not understood is none.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from streamflow.observe.health import Verdict
from streamflow.observe.progress import PipelineProgress, ProgressSnapshot, ShardProgress


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """From the worker, when its target is loaded: under which id it works, and where the admin server is to listen, and
    whom it lets in."""

    worker_id: str
    host: str | None
    port: int | None
    token: str | None = field(default=None, repr=False)
    without_token: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """From the worker, every second while it is open, and once more at its end."""

    snapshot: ProgressSnapshot
    live: Verdict
    ready: Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsWanted:
    """From the supervisor: answer with `MetricsPage` of the same number."""

    number: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsPage:
    """From the worker. `families` are those of `exposition.families`."""

    number: int
    families: list[Any]


Message: TypeAlias = Declared | Report | MetricsWanted | MetricsPage

_KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in (Declared, Report, MetricsWanted, MetricsPage)}


def encoded(message: Message) -> bytes:
    """One line with its line end."""
    return json.dumps({"kind": type(message).__name__, **asdict(message)}).encode() + b"\n"


def decoded(line: bytes) -> Message | None:
    """The message of a line; None for one that is not understood."""
    try:
        fields = json.loads(line)
        kind = _KINDS[fields.pop("kind")]
        return _report(**fields) if kind is Report else kind(**fields)
    except (ValueError, TypeError, LookupError, AttributeError):
        return None


def _report(*, snapshot: dict[str, Any], live: dict[str, Any], ready: dict[str, Any]) -> Report:
    return Report(snapshot=_snapshot(snapshot), live=_verdict(live), ready=_verdict(ready))


def _verdict(fields: dict[str, Any]) -> Verdict:
    return Verdict(ok=fields["ok"], reasons=tuple(fields["reasons"]))


def _snapshot(fields: dict[str, Any]) -> ProgressSnapshot:
    pipelines = tuple(
        PipelineProgress(**{**each, "shards": tuple(ShardProgress(**shard) for shard in each["shards"])})
        for each in fields["pipelines"]
    )
    return ProgressSnapshot(**{**fields, "pipelines": pipelines, "errors": tuple(fields["errors"])})
