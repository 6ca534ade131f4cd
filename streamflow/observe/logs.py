"""Events into stdlib logging: normal operation is quiet, one line per fact, no item data.

A record's message is complete in itself, for hosts with formatters of their own; the same values are in its attribute
`fields`, from which the two formatters here, used by the command line, make key=value text or JSON.
"""

from __future__ import annotations

import json
import logging
import select
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TextIO

from streamflow.clock import SystemClock
from streamflow.observe.lines import Line, key_values, line_of, one_line

if TYPE_CHECKING:
    from streamflow.clock import Clock
    from streamflow.events import Event

# Of text in which any character may take four bytes.
_PIECE_LENGTH = select.PIPE_BUF // 4
WARNING_INTERVAL_S = 10.0
"""Least time between two warnings of one kind about one pipeline; how many were left out stands in the next one."""


@dataclass(slots=True)
class _Quota:
    """State of one (pipeline, fact). `next_at` is monotonic."""

    next_at: float
    suppressed: int = 0


class EventLog:
    """An observer that logs.

    Of an exception that a handler raised, the type and the place are logged; its message is not, because it may quote
    the item ("invalid price in {...}"). `log_handler_errors` turns messages on, for those who know what theirs say.
    """

    def __init__(
        self, logger: logging.Logger | None = None, *, clock: Clock | None = None, log_handler_errors: bool = False
    ) -> None:
        self._logger = logger or logging.getLogger("streamflow")
        self._clock = clock or SystemClock()
        self._log_handler_errors = log_handler_errors
        self._quotas: dict[tuple[object, str], _Quota] = {}

    def __call__(self, event: Event) -> None:
        line = line_of(event, log_handler_errors=self._log_handler_errors)
        if line is None or not self._logger.isEnabledFor(line.level):
            return
        fields = {key: one_line(value) if isinstance(value, str) else value for key, value in line.fields.items()}
        if line.level == logging.WARNING:
            suppressed = self._spend(line)
            if suppressed is None:
                return
            if suppressed:
                fields["suppressed"] = suppressed
        told = Line(level=line.level, fact=line.fact, fields=fields)
        self._logger.log(line.level, "%s", told, extra={"fact": line.fact, "fields": fields})

    def _spend(self, line: Line) -> int | None:
        """How many lines of this kind were left out since the last one; None if this one is to be, too."""
        now = self._clock.monotonic()
        quota = self._quotas.setdefault((line.fields.get("pipeline"), line.fact), _Quota(next_at=now))
        if now < quota.next_at:
            quota.suppressed += 1
            return None
        suppressed, quota.suppressed = quota.suppressed, 0
        quota.next_at = now + WARNING_INTERVAL_S
        return suppressed


# --- for the command line --------------------------------------------------------------------------------------------


class KeyValueFormatter(logging.Formatter):
    """`time level logger fact key=value …`; a traceback that somebody logs follows on lines of its own."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", None)
        message = one_line(record.getMessage()) if fields is None else f"{record.fact} {key_values(fields)}"  # type: ignore[attr-defined]
        text = f"{_time(record)} {record.levelname} {record.name} {message}"
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text


class JsonFormatter(logging.Formatter):
    """One JSON object a line: `time`, `level`, `logger`, `message`, and the fields of the fact beside them."""

    def format(self, record: logging.LogRecord) -> str:
        outline = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name}
        fields = getattr(record, "fields", None)
        if fields is None:
            document = {**outline, "message": one_line(record.getMessage())}
        else:
            document = {**fields, **outline, "message": record.fact}  # type: ignore[attr-defined]
        if record.exc_info:
            document["traceback"] = self.formatException(record.exc_info)
        return json.dumps(document, ensure_ascii=True)


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class LossyStream:
    """Writes to a stream what its reader takes at once, and leaves the rest out; how much that was, it says afterwards.

    A reader that is gone is one that takes nothing.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._left_out = 0

    def write(self, text: str) -> int:
        """Whole or not at all, where it has no more than 4096 bytes (PIPE_BUF); of longer text maybe the first part."""
        if self._left_out and self._takes():
            left_out, self._left_out = self._left_out, 0
            self._write(f"{left_out} lines left out: standard error was not read\n")
        for start in range(0, len(text), _PIECE_LENGTH):
            if not (self._takes() and self._write(text[start : start + _PIECE_LENGTH])):
                self._left_out += 1
                break
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""

    def _takes(self) -> bool:
        """Whether the stream takes 4096 bytes now; one that is no file of the system's takes everything."""
        try:
            number = self._stream.fileno()
        except (OSError, ValueError, AttributeError):
            return True
        poll = select.poll()
        poll.register(number, select.POLLOUT)
        # What cannot be polled, as terminals on macOS, is not known to be full.
        return any(state & (select.POLLOUT | select.POLLNVAL) for _, state in poll.poll(0))

    def _write(self, text: str) -> bool:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # nobody reads it any more, or it is closed
            return False
        return True


def configure_logging(format: Literal["text", "json"] = "text", level: int | str = logging.INFO) -> None:  # noqa: A002
    """Log to standard error: streamflow from `level` on, everything else from WARNING on.

    For programs of our own only: a library leaves logging to its host. Replaces the handlers of the root logger. A reader
    of the pipe that standard error may be holds nobody up: what it does not take is left out.
    """
    handler = logging.StreamHandler(LossyStream(sys.stderr))
    handler.setFormatter(JsonFormatter() if format == "json" else KeyValueFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("streamflow").setLevel(level)
