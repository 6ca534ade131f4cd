"""Counts what the interpreter does: bytecode instructions, and calls of functions written in C, by function.

Both are the same in every run of one minor version of Python, on every machine, whatever else it does. What C code does
within one call is not seen; `memory` sees a part of that.
"""

from __future__ import annotations

import sys
import sysconfig
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import BuiltinFunctionType, ClassMethodDescriptorType, MethodDescriptorType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType


# The innermost first: packages are installed below the standard library.
_ROOTS = (
    sysconfig.get_path("purelib"),
    sysconfig.get_path("platlib"),
    sysconfig.get_path("stdlib"),
    str(Path(__file__).resolve().parents[2]),
)


@dataclass(slots=True, eq=False)
class Tally:
    """What one function did. `calls` is by name of the function that it called."""

    code: CodeType
    instructions: int = 0
    calls: Counter[str] = field(default_factory=Counter)

    @property
    def place(self) -> str:
        """`streamflow/batches.py:167 Batch.without`: the same on every machine."""
        return f"{relative(self.code.co_filename)}:{self.code.co_firstlineno} {self.code.co_qualname}"


@dataclass(slots=True, eq=False)
class Counts:
    """What was counted. Code in files below the folder `apart` is left out: that of whoever counts."""

    apart: str
    tallies: dict[int, Tally] = field(default_factory=dict)
    """By identity of the code, because code objects compare by value, and that takes long."""
    _left_out: dict[int, CodeType] = field(default_factory=dict)

    def tally_of(self, code: CodeType) -> Tally | None:
        """None is for code that is left out."""
        tally = self.tallies.get(id(code))
        if tally is None and id(code) not in self._left_out:
            if code.co_filename.startswith(self.apart):
                self._left_out[id(code)] = code
            else:
                tally = self.tallies[id(code)] = Tally(code)
        return tally


def relative(file: str) -> str:
    """A file's path from its root: this repository, installed packages, or the standard library."""
    root = next((root for root in _ROOTS if file.startswith(f"{root}/")), None)
    return file if root is None else file[len(root) + 1 :]


def name_of(function: object) -> str:
    """`orjson.loads`, `list.append`."""
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{module}.{name}" if module and module != "builtins" else name


if sys.version_info >= (3, 12):
    _WRITTEN_IN_C = (BuiltinFunctionType, MethodDescriptorType, ClassMethodDescriptorType)

    class Counting:
        """Counts between `start` and `stop`; one at a time in a process."""

        def __init__(self, counts: Counts) -> None:
            self._counts = counts
            self._started = False

        def start(self) -> None:
            monitoring, tool = sys.monitoring, sys.monitoring.PROFILER_ID
            monitoring.use_tool_id(tool, "guard")
            monitoring.register_callback(tool, monitoring.events.INSTRUCTION, _instruction_counter(self._counts))
            monitoring.register_callback(tool, monitoring.events.CALL, _call_counter(self._counts))
            # What an earlier counting has disabled is not disabled for this one.
            monitoring.restart_events()
            self._started = True
            monitoring.set_events(tool, monitoring.events.INSTRUCTION | monitoring.events.CALL)

        def stop(self) -> None:
            """Also where it has not started, or has stopped."""
            if self._started:
                self._started = False
                sys.monitoring.set_events(sys.monitoring.PROFILER_ID, 0)
                sys.monitoring.free_tool_id(sys.monitoring.PROFILER_ID)

    def _instruction_counter(counts: Counts) -> Callable[[CodeType, int], object]:
        tallies = counts.tallies

        def count(code: CodeType, offset: int) -> object:
            try:
                tallies[id(code)].instructions += 1
            except KeyError:
                tally = counts.tally_of(code)
                if tally is None:
                    return sys.monitoring.DISABLE
                tally.instructions += 1
            return None

        return count

    def _call_counter(counts: Counts) -> Callable[[CodeType, int, object, object], object]:
        def count(code: CodeType, offset: int, function: object, argument: object) -> object:
            tally = counts.tally_of(code)
            if tally is None:
                return sys.monitoring.DISABLE
            if isinstance(function, _WRITTEN_IN_C):
                tally.calls[name_of(function)] += 1
            return None

        return count

else:

    class Counting:
        """Counts between `start` and `stop`; one at a time in a process."""

        def __init__(self, counts: Counts) -> None:
            self._counts = counts
            self._steps: dict[int, Callable[[FrameType, str, object], Any]] = {}

        def start(self) -> None:
            """Functions that are running are counted from their next suspension on."""
            sys.setprofile(self._call)
            sys.settrace(self._enter)

        def stop(self) -> None:
            """Also where it has not started, or has stopped."""
            sys.settrace(None)
            sys.setprofile(None)

        def _enter(self, frame: FrameType, event: str, argument: object) -> Any:
            tally = self._counts.tally_of(frame.f_code)
            if tally is None:
                return None
            frame.f_trace_lines, frame.f_trace_opcodes = False, True
            step = self._steps.get(id(frame.f_code))
            if step is None:
                step = self._steps[id(frame.f_code)] = _step(tally)
            return step

        def _call(self, frame: FrameType, event: str, function: object) -> None:
            if event == "c_call" and (tally := self._counts.tally_of(frame.f_code)) is not None:
                tally.calls[name_of(function)] += 1

    def _step(tally: Tally) -> Callable[[FrameType, str, object], Any]:
        def step(frame: FrameType, event: str, argument: object) -> Any:
            if event == "opcode":
                tally.instructions += 1
            return step

        return step
