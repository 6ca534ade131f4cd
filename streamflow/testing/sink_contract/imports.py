"""Importing a plugin's module in a process of its own, and what that does beside defining names."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streamflow.sdk.declarations import SinkDeclaration

_ATTEMPTS = 3
_TIMEOUT_S = 60

_PROGRAM = """
import json, os, sys, threading, time
sys.path[:] = json.loads(sys.argv[2])
import asyncio, importlib, logging, socket
effects = []
LOUD = {"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto", "subprocess.Popen", "os.system", "os.remove",
        "os.mkdir", "os.rename"}
def listen(event, arguments):
    if event in LOUD:
        effects.append(event)
    elif event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
        effects.append("a file is written")
def loop(*arguments, made=asyncio.new_event_loop):
    effects.append("an event loop is made")
    return made(*arguments)
asyncio.new_event_loop = loop
sys.addaudithook(listen)
handlers = len(logging.getLogger().handlers)
began = time.process_time()
importlib.import_module(sys.argv[1])
took_s = time.process_time() - began
if threading.active_count() > 1:
    effects.append("a thread is started")
if len(logging.getLogger().handlers) > handlers:
    effects.append("logging is configured")
print(json.dumps({"cpu_s": took_s, "effects": sorted(set(effects))}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """`cpu_s` is processor time: a busy machine does not change it much."""

    module: str
    cpu_s: float
    effects: list[str]


def import_module_apart(sink: SinkDeclaration, *, cpu_s_max: float) -> Imported:
    """Import the module that the entry point of `sink` names; without one, the module that opens it.

    It is imported again, a few times, where it took more than `cpu_s_max`.
    """
    imported = Imported(module=_module_of(sink), cpu_s=math.inf, effects=[])
    for _ in range(_ATTEMPTS):
        answer = _import(imported.module)
        imported = replace(imported, cpu_s=min(imported.cpu_s, answer["cpu_s"]), effects=answer["effects"])
        if imported.cpu_s < cpu_s_max:
            break
    return imported


def _module_of(sink: SinkDeclaration) -> str:
    for point in entry_points(group="streamflow.sinks", name=sink.name):
        if point.load() is sink.plugin:
            return point.module
    return str(sink.plugin.open.__module__)


def _import(module: str) -> dict[str, Any]:
    finished = subprocess.run(  # noqa: S603 - our own interpreter and program
        [sys.executable, "-B", "-c", _PROGRAM, module, json.dumps(sys.path)],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert finished.returncode == 0, f"{module} cannot be imported by itself: {finished.stderr[-2000:]}"
    answer: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return answer
