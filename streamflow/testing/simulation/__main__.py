"""`python -m streamflow.testing.simulation`: one seed again, or a sweep over many, and what came of it."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from streamflow.testing.simulation.faults import KINDS
from streamflow.testing.simulation.interrupted import INTERRUPTED, play
from streamflow.testing.simulation.running import Outcome, Sweep, shrink, sweep
from streamflow.testing.simulation.setups import SCALES
from streamflow.testing.simulation.sometimes import STATES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_INTERRUPTED_EVERY = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 1 where an invariant was broken, or a state that `--reach-all` asks for was never reached."""
    options = _parser().parse_args(arguments)
    if options.seed is not None:
        return _replay(options.seed, options.world or "small", options.without, smaller=options.shrink)
    total = sweep(
        _work(options.world, options.first_seed),
        seconds=options.seconds,
        processes=options.processes,
        heard=_tell_failure,
        without=options.without,
        run=play,
    )
    _tell(total)
    if options.keep:
        Path(options.keep).write_bytes(
            msgspec.json.format(msgspec.json.encode(_kept(total, options)), indent=1) + b"\n"
        )
    missed = [state for state in STATES if not total.reached[state]]
    return int(bool(total.failed) or (options.reach_all and bool(missed)))


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m streamflow.testing.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one, and tell everything about it")
    parser.add_argument(
        "--world",
        choices=[*sorted(SCALES), INTERRUPTED],
        help="by default small ones and standard ones in turn; one in twenty of a sweep is run with and without stops",
    )
    parser.add_argument(
        "--without", action="append", default=[], metavar="KIND", help="a kind of fault, or a site of them"
    )
    parser.add_argument(
        "--shrink", action="store_true", help="leave out one kind of fault after the other while it fails"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to sweep")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=1)
    parser.add_argument("--keep", metavar="FILE", help="write what a sweep has come to, as JSON")
    parser.add_argument(
        "--reach-all", action="store_true", help="fail where one of the interesting states was never reached"
    )
    return parser


def _work(world: str | None, first_seed: int) -> Iterator[tuple[int, str]]:
    """Ten small worlds to one standard one: the first find more, the second is what a user has."""
    for seed in count(first_seed):
        chosen = world or ("standard" if seed % 10 == 0 else "small")
        yield seed, INTERRUPTED if seed % _INTERRUPTED_EVERY == 1 else chosen


def _replay(seed: int, world: str, without: Sequence[str], *, smaller: bool) -> int:
    outcome = play(seed, world, without=without)
    for violation in outcome.violations:
        _say(str(violation))
    _say(
        f"{outcome.simulated_s:.0f} simulated seconds in {outcome.took_s:.1f} s, {outcome.records} records, "
        f"{outcome.duplicates} duplicates, trace {outcome.trace}"
    )
    _say("faults: " + (", ".join(f"{kind} {times}" for kind, times in sorted(outcome.injected.items())) or "none"))
    if outcome.failed and smaller:
        smallest = shrink(outcome, lambda kinds: play(seed, world, without=kinds), tell=_say)
        _say("it takes " + (", ".join(sorted(smallest.injected)) or "no fault at all"))
        _say(smallest.command)
    return int(outcome.failed)


def _tell_failure(outcome: Outcome) -> None:
    if outcome.failed:
        first = str(outcome.violations[0]).partition("\n")[0]
        _say(f"seed {outcome.seed}, {outcome.scale} world: {first}\n  {outcome.command}")


def _kept(total: Sweep, options: argparse.Namespace) -> dict[str, Any]:
    world = f" --world {options.world}" if options.world else ""
    return {
        "command": (
            f"python -m streamflow.testing.simulation{world} --seconds {options.seconds:g} --processes {options.processes} "
            f"--first-seed {options.first_seed}"
        ),
        "seconds": options.seconds,
        "processes": options.processes,
        "runs": total.runs,
        "hours": round(total.simulated_s.total() / 3600, 1),
        "standard_hours": round(total.simulated_s["standard"] / 3600, 1),
        "records": total.records,
        "duplicates": total.duplicates,
        "failed": len(total.failed),
        "injected": {name: total.injected[name] for name in KINDS},
        "states_reached": sum(bool(total.reached[state]) for state in STATES),
        "states": len(STATES),
    }


def _tell(total: Sweep) -> None:
    hours = total.simulated_s.total() / 3600
    _say(
        f"{total.runs} runs, {hours:.1f} simulated hours, {total.records} records, {total.duplicates} duplicates, "
        f"{total.injected.total()} faults, {len(total.failed)} runs failed"
    )
    for site in dict.fromkeys(kind.site for kind in KINDS.values()):
        struck = {name: total.injected[name] for name, kind in KINDS.items() if kind.site == site}
        _say(f"  {site}: " + ", ".join(f"{name.partition('.')[2]} {times}" for name, times in struck.items()))
    missed = [state for state in STATES if not total.reached[state]]
    _say(
        f"  states reached: {len(STATES) - len(missed)} of {len(STATES)}"
        + ("".join(f"\n    never: {s}" for s in missed))
    )
    broken = Counter(violation.invariant for outcome in total.failed for violation in outcome.violations)
    if broken:
        _say("  broken: " + ", ".join(f"{name} {times}" for name, times in sorted(broken.items())))


if __name__ == "__main__":
    sys.exit(main())
