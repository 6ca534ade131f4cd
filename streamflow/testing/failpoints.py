"""Arms the points of `streamflow.failpoints`: with a function, or in a process with what STREAMFLOW_FAILPOINTS says.

    STREAMFLOW_FAILPOINTS="batch.handled=kill@3;lease.taken=sleep:5:0.5" python -m streamflow.testing.failpoints run app.py:app

kills the process as it reaches the first point for the third time, and has every other take of a lease last five seconds.
"""

from __future__ import annotations

import math
import os
import signal
import sys
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from itertools import count
from random import Random
from typing import TYPE_CHECKING, Literal, TypeAlias, cast, get_args

import anyio
import click

from streamflow.errors import ConfigError
from streamflow.failpoints import NAMES, VARIABLE, arm, disarm
from streamflow.targets import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamflow.failpoints import Action

What: TypeAlias = Literal["kill", "raise", "sleep"]


class FailpointError(Exception):
    """What `raise` raises: an error that nothing in the engine expects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What happens at one point: each time, with a probability, or only when it is reached for the `at`-th time."""

    name: str
    what: What
    seconds: float = 0.0
    probability: float = 1.0
    at: int | None = None

    @classmethod
    def parse(cls, text: str) -> Rule:
        """From `NAME=kill`, `NAME=raise` or `NAME=sleep:SECONDS`, each with `:PROBABILITY` and `@TIME` if you like.

        Raises:
            ConfigError: it is none of these.
        """
        name, equals, action = (part.strip() for part in text.partition("="))
        if not equals:
            raise ConfigError(f"{text!r} is no failpoint: write NAME=ACTION, for instance {_EXAMPLE}")
        if name not in NAMES:
            raise ConfigError(f"there is no failpoint {name!r}{did_you_mean(name, NAMES) or _LISTED}")
        action, at_sign, at = action.partition("@")
        what, *numbers = action.split(":")
        known = get_args(What)
        if what not in known:
            nearest = did_you_mean(what, known) or f": it may {', '.join(known)}"
            raise ConfigError(f"{name}: a failpoint cannot {what!r}{nearest}")
        seconds = "0"
        if what == "sleep":
            if not numbers:
                raise ConfigError(f"{name}: sleep how long? Write sleep:SECONDS")
            seconds, *numbers = numbers
        if len(numbers) > 1:
            raise ConfigError(f"{name}: {action!r} has more than a probability behind the colon")
        return cls(
            name=name,
            what=cast("What", what),
            seconds=_number(name, "seconds", seconds, highest=math.inf),
            probability=_number(name, "probability", numbers[0], highest=1.0) if numbers else 1.0,
            at=_time(name, at) if at_sign else None,
        )


_EXAMPLE = "batch.handled=kill@3"
_LISTED = ": `python -m streamflow.testing.failpoints` lists them"


def _number(name: str, noun: str, text: str, *, highest: float) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ConfigError(f"{name}: {noun} should be a number, not {text!r}") from None
    if not (0 <= number <= highest and math.isfinite(number)):
        raise ConfigError(f"{name}: {noun} should be {f'from 0 to {highest:g}' if highest < math.inf else '0 or more'}")
    return number


def _time(name: str, text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{name}: @ is followed by the number of the time it is reached, 1 or more, not {text!r}")
    return int(text)


def parse(text: str) -> list[Rule]:
    """Rules between semicolons. Those of one point all apply, in this order.

    Raises:
        ConfigError: with a line for each mistake.
    """
    rules, mistakes = [], []
    for each in filter(None, map(str.strip, text.split(";"))):
        try:
            rules.append(Rule.parse(each))
        except ConfigError as mistake:
            mistakes.append(f"{VARIABLE}: {mistake}")
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return rules


@dataclass(eq=False)
class Rules:
    """Performs rules; to be armed, in any number of threads."""

    rules: Sequence[Rule]
    random: Random = field(default_factory=Random)

    def __post_init__(self) -> None:
        self._by_name: defaultdict[str, list[Rule]] = defaultdict(list)
        for rule in self.rules:
            self._by_name[rule.name].append(rule)
        self._times = {name: count(1) for name in self._by_name}

    async def __call__(self, name: str) -> None:
        if name not in self._times:
            return
        time = next(self._times[name])
        for rule in self._by_name[name]:
            if rule.at in (None, time) and self.random.random() < rule.probability:
                await _perform(rule)


async def _perform(rule: Rule) -> None:
    match rule.what:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)  # noqa: TID251 - its own process is to die
        case "raise":
            raise FailpointError(f"the failpoint {rule.name} is armed to raise this")
        case "sleep":
            await anyio.sleep(rule.seconds)


@contextmanager
def armed(action: Action) -> Iterator[None]:
    """Have `action` awaited at every point that this process reaches in the block, with the point's name.

    It may wait, raise, or kill: whatever it does, it does to the task that has reached the point.
    """
    arm(action)
    try:
        yield
    finally:
        disarm(action)


def main() -> None:
    """The command line of streamflow with the points armed; without arguments, the list of points."""
    if len(sys.argv) == 1:
        for name, window in NAMES.items():
            click.echo(f"{name:24}{window}")
        return
    try:
        rules = parse(os.environ.get(VARIABLE, ""))
    except ConfigError as error:
        for line in str(error).splitlines():
            click.echo(f"error: {line}", err=True)
        sys.exit(2)
    # As it is installed: what users test with knows no commands.
    (command,) = entry_points(group="console_scripts", name="streamflow")
    with armed(Rules(rules)):
        command.load()()


if __name__ == "__main__":
    main()
