"""`python -m fuzz`: the properties that need nothing but Hypothesis, in turn, with new examples until the time is up.

The suite tries each with a hundred; this goes on from there. A failure prints the smallest example that fails, which then
becomes an explicit one of that property, and ends with status 1.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
import traceback
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from hypothesis import HealthCheck, Phase, settings

from streamflow.clock import thread_monotonic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TESTS = Path(__file__).parents[1]
_FOLDERS = ("fuzz", "property")
# Examples of one property before it is the next one's turn.
_TURN = 50

settings.register_profile(
    "fuzz",
    max_examples=_TURN,
    deadline=None,
    print_blob=True,
    phases=[Phase.generate, Phase.target, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


@click.command()
@click.option(
    "--seconds", type=click.FloatRange(0), default=60.0, show_default=True, help="Each has one turn at least."
)
@click.option("--only", default="", help="Properties whose name has this in it.")
def main(seconds: float, only: str) -> None:
    """Look for inputs that break a property."""
    settings.load_profile("fuzz")
    examples: Counter[str] = Counter()
    found = {name: _counted(name, test, examples) for name, test in _properties() if only in name}
    if not found:
        sys.exit(f"no property has {only!r} in its name")
    until_s, turns, broken = thread_monotonic() + seconds, 0, set[str]()
    while turns == 0 or thread_monotonic() < until_s:
        for name, test in found.items():
            if turns and thread_monotonic() >= until_s:
                break
            if name not in broken and not _holds(name, test):
                broken.add(name)
        turns += 1
    for name in found:
        print(f"{examples[name]:>9,}  {name}{'  BROKEN' if name in broken else ''}")
    print(f"{examples.total():>9,}  examples of {len(found)} properties, {len(broken)} broken")
    sys.exit(1 if broken else 0)


def _holds(name: str, test: Callable[[], None]) -> bool:
    try:
        # What tests print of their own is for whoever reads a failed one.
        with redirect_stdout(sys.stderr):
            test()
    except Exception:  # noqa: BLE001 - whatever a property raises, it does not hold
        print(f"\n{name}", file=sys.stderr)
        traceback.print_exc()
        return False
    return True


def _properties() -> Iterator[tuple[str, Any]]:
    for folder in _FOLDERS:
        for path in sorted((_TESTS / folder).glob("test_*.py")):
            for name, test in vars(_module(path)).items():
                # Those that want more than Hypothesis gives are pytest's to call.
                if getattr(test, "is_hypothesis_test", False) and not inspect.signature(test).parameters:
                    yield f"{folder}/{path.stem}::{name}", test


def _module(path: Path) -> Any:
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[path.stem] = module
    specification.loader.exec_module(module)
    return module


def _counted(name: str, test: Any, examples: Counter[str]) -> Callable[[], None]:
    inner = test.hypothesis.inner_test

    def counting(*values: Any, **named: Any) -> Any:
        examples[name] += 1
        return inner(*values, **named)

    test.hypothesis.inner_test = counting
    called: Callable[[], None] = test
    return called


if __name__ == "__main__":
    main()
