"""What happens to shards in a history: they are split, closed, trimmed and forgotten."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamflow.testing.refusals import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    from streamflow.testing.simulation.world import World


@dataclass(frozen=True, slots=True)
class Reshaping:
    """Of the shards of one world."""

    world: World

    def strike(self, tick: int) -> None:
        """Do what is drawn for this tick."""
        faults, table = self.world.faults, self.world.table
        open_ids = self.world.controls.shard_ids(table.name, open_only=True)
        reshaping: dict[str, Callable[[Random], object]] = {
            "lineage.split": lambda rng: table.split(rng.choice(open_ids)),
            "lineage.roll_over": lambda rng: table.roll_over(rng.choice(open_ids)),
            "lineage.roll_over_all": lambda _: table.roll_over_all(),
            "lineage.trimmed": self._trim,
            "lineage.forgotten": self._forget,
        }
        few = len(open_ids) < 3 * self.world.setup.scale.shards
        for kind, reshape in reshaping.items():
            if (kind != "lineage.split" or few) and faults.strikes(kind, tick):
                with suppress(RefusedError):  # it is too small to be split
                    reshape(faults.rng(kind, tick))
                open_ids = self.world.controls.shard_ids(table.name, open_only=True)

    def _trim(self, rng: Random) -> None:
        holding = [shard for shard in self.world.table.stream.shards.values() if shard.numbers]
        if holding:
            shard = rng.choice(holding)
            self.world.table.trim(shard.shard_id, rng.randint(1, len(shard.numbers)))

    def _forget(self, rng: Random) -> None:
        """Of those that every pipeline has ended, parents before children: the service keeps each for a day."""
        truth = self.world.oracle.truth
        shards = self.world.table.stream.shards
        ended = [
            shard_id
            for shard_id, shard in shards.items()
            if shard.ending_number is not None
            and shard.parent_id not in shards
            and all(
                (course := truth.course(pipeline, shard_id)) is not None
                and course.row is not None
                and course.row.state.value == "ended"
                for pipeline in truth.pipelines
            )
        ]
        if ended:
            self.world.table.forget(rng.choice(ended))
