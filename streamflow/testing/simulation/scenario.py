"""What users simulate: their own pipeline with their own handler, what happens to its table, and what has to come of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from streamflow.errors import ConfigError
from streamflow.pipeline import App, Pipeline
from streamflow.targets import code_line
from streamflow.testing.simulation.loop import NODE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from streamflow.records import Record, StreamViewType
    from streamflow.testing.items import WireItem
    from streamflow.testing.simulation.network import Network

T = TypeVar("T")

KeySchema: TypeAlias = Mapping[str, Literal["S", "N", "B"]]

_ITEMS = 20


def default_item(random: Random, number: int) -> WireItem:
    """One of twenty items: `id`, the `number` of the change, and an `amount` of 1 to 100."""
    return {
        "id": {"S": f"item-{random.randrange(_ITEMS)}"},
        "number": {"N": str(number)},
        "amount": {"N": str(random.randint(1, 100))},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What there is to judge when everything has come to rest.

    `records` are the changes that the pipeline had to deliver, oldest first in each shard: not what its filters leave out,
    nor what was written before a start at LATEST. `letters` are those of them that were given up or set aside. `items` are
    the table's items, in wire form.
    """

    records: Sequence[Record]
    letters: Sequence[Record]
    items: Sequence[WireItem]

    @property
    def delivered(self) -> Sequence[Record]:
        """Each record once that a handler has accepted."""
        gone = {record.event_id for record in self.letters}
        return [record for record in self.records if record.event_id not in gone]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """`app` is what would run, with one pipeline or a named one of several; its source and its store are not opened.

    A function that makes it is called for each life of a worker, as each process makes its own: what its middleware and
    its handler keep is gone after a crash. An app that is given as such outlives crashes, and is shared by all workers.

    `item` makes the item of the n-th change, in wire form (`{"id": {"S": "1"}}`), with the table's key in it; `deletes` is
    the share of changes that delete an item instead. `check` is called at the end and raises, as a test does, when something
    is wrong with what the handler has done.

    A scenario is for one run: what stands in for services is to be as new as it.
    """

    app: App | Pipeline | Callable[[], App | Pipeline]
    item: Callable[[Random, int], WireItem] = default_item
    key: KeySchema = field(default_factory=lambda: {"id": "S"})
    view_type: StreamViewType = "NEW_AND_OLD_IMAGES"
    deletes: float = 0.1
    check: Callable[[Ending], object] | None = None

    def __post_init__(self) -> None:
        if not 1 <= len(self.key) <= 2 or set(self.key.values()) - {"S", "N", "B"}:
            raise ConfigError(
                f'a scenario\'s key is one attribute or two with their types, such as {{"id": "S"}}: {self.key}'
            )

    def made_app(self) -> App:
        """The app of a life that begins.

        Raises:
            ConfigError: `app` makes something else.
        """
        app = self.app() if callable(self.app) else self.app
        if isinstance(app, Pipeline):
            return App(pipelines=(app,))
        if not isinstance(app, App):
            raise ConfigError(f"the app of a scenario is an App, a Pipeline, or a function that makes one: {app!r:.80}")
        return app


_network: ContextVar[Network | None] = ContextVar("_network", default=None)


def connect(network: Network) -> None:
    """Have `outside` go over this network, in this context and what is started from it."""
    _network.set(network)


async def outside(port: str, effect: Callable[[], T]) -> T:
    """Do something at another service: `effect` is what happens there, at one moment, `port` what the service is called.

    In a simulation it goes over the simulated network: it may happen and not be heard of, happen later, twice or never.
    Anywhere else it just happens. To be called by what stands in for a service. Returns and raises what `effect` does.

    Raises:
        ConnectionRefusedError: it did not happen.
        TimeoutError: it may have happened, or still happen.
    """

    async def happen() -> T:
        return effect()

    network = _network.get()
    if network is None:
        return effect()
    return await network.call(NODE.get(), port, "call", happen, failed=ConnectionRefusedError, unknown=TimeoutError)


def scenario_of(target: Any) -> Scenario:
    """The scenario of one run: the target itself, one around an app or a pipeline, or what a function makes.

    Raises:
        ConfigError: it is none of these, or the function fails.
    """
    if isinstance(target, Scenario):
        return target
    if isinstance(target, App | Pipeline):
        return Scenario(app=target)
    made = _made(target)
    if isinstance(made, Scenario):
        return made
    if isinstance(made, App | Pipeline):
        return Scenario(app=target)
    raise ConfigError(
        f"{_named(target)} makes {_kind(made)}: it is to make a Scenario, an App or a Pipeline, without being awaited"
    )


def _made(target: Any) -> object:
    if not callable(target) or inspect.isclass(target) or inspect.iscoroutinefunction(target):
        raise ConfigError(
            f"{_named(target)} is {_kind(target)}: name a Scenario, an App, a Pipeline, or a function that makes one"
        )
    try:
        inspect.signature(target).bind()
    except TypeError:
        raise ConfigError(f"{_named(target)} is called without arguments, and takes some") from None
    try:
        return target()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{code_line(error)}: {type(error).__name__}: {error}") from error


def _named(value: object) -> str:
    return str(getattr(value, "__name__", "this"))


def _kind(value: object) -> str:
    if inspect.isclass(value):
        return "a class"
    return "an async function" if inspect.iscoroutinefunction(value) else f"a {type(value).__name__}"
