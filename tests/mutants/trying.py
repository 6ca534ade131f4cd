"""One mutant after the other, each in a copy of the product that is gone afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import msgspec

import streamflow
from mutants.hunt import Catch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mutants.protocol import Mutant

PRODUCT = Path(streamflow.__file__).parent
_TESTS = Path(__file__).parents[1]
_LONGER_S = 240.0
"""A run that was begun is finished; a mutant that makes it endless is told apart by this."""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one mutant. `stuck` is one whose run did not end: that is noticed too."""

    name: str
    says: str
    catch: Catch
    stuck: bool = False

    @property
    def caught(self) -> bool:
        return self.stuck or bool(self.catch.invariants)


class NoSuchTextError(Exception):
    """The text that a mutant replaces is not there, or more than once: the product has changed since."""


def tried(mutant: Mutant, seconds: float) -> Verdict:
    """Run the simulation over the mutant for so long, or until it is caught."""
    with mutated(mutant) as folder:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), str(_TESTS)])}
        command = [sys.executable, "-m", "mutants.hunt", str(seconds)]
        try:
            done = subprocess.run(
                command, env=environment, cwd=folder, capture_output=True, check=False, timeout=seconds + _LONGER_S
            )
        except subprocess.TimeoutExpired:
            return Verdict(name=mutant.name, says=mutant.says, catch=Catch(seconds=seconds + _LONGER_S), stuck=True)
    if done.returncode:
        raise RuntimeError(f"{mutant.name}: the hunt has failed:\n{done.stderr.decode()}")
    return Verdict(name=mutant.name, says=mutant.says, catch=msgspec.json.decode(done.stdout, type=Catch))


@contextmanager
def mutated(mutant: Mutant) -> Iterator[Path]:
    """A folder in which `streamflow` is the mutant.

    Raises:
        NoSuchTextError: the product has changed since the mutant was written.
    """
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "streamflow"
        shutil.copytree(PRODUCT, copy, ignore=shutil.ignore_patterns("__pycache__"))
        for edit in mutant.edits:
            path = copy / edit.path
            path.write_text(replaced(path.read_text("utf-8"), edit.before, edit.after), encoding="utf-8")
        yield Path(folder)


def replaced(text: str, before: str, after: str) -> str:
    """The text with its one `before` replaced; raises `NoSuchTextError`."""
    if (found := text.count(before)) != 1:
        raise NoSuchTextError(f"{found} times instead of once: {before!r}")
    return text.replace(before, after)
