"""What a command line says of one worker: options that stand in for what its target says, and back to a command line."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click

from streamflow.cli import options
from streamflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from streamflow.http_options import HttpOptions
    from streamflow.pipeline import App, Pipeline

F = TypeVar("F", bound="Callable[..., Any]")

HANG_LIMIT_S = 300.0
"""Five times as long as a loop may stand still until its leases run out: what it still does, others have long been doing."""
HTTP_TOKEN_VARIABLE = "STREAMFLOW_HTTP_TOKEN"  # noqa: S105 - the name of it


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """As they were given; None is not given."""

    target: str
    store: str | None
    http: str | None
    worker_id: str | None
    endpoint_url: str | None
    region: str | None
    log_format: Literal["text", "json"]
    log_level: str
    hang_limit: float

    def app(self) -> App:
        """The target, changed as the options say.

        Raises:
            ConfigError: it cannot be loaded, or an option does not fit.
        """
        from streamflow.config.load import load_app

        app = load_app(self.target)
        app = options.changed(
            app, {"store": self.store, "worker_id": self.worker_id, "http": served_at(self.http, app.http)}
        )
        return redirected(app, {"endpoint_url": self.endpoint_url, "region": self.region})

    def arguments(self) -> list[str]:
        """The command line that says the same."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "target"}
        words = [f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None]
        return [*words, "--", self.target]

    def configure_logging(self) -> None:
        from streamflow.observe.logs import configure_logging

        configure_logging(self.log_format, self.log_level.upper())


def declared(command: F) -> F:
    """Gives a command the argument and the options of which `RunOptions` is made."""
    for declare in reversed(_DECLARATIONS):
        command = declare(command)
    return command


_DECLARATIONS: tuple[Callable[[Any], Any], ...] = (
    click.argument("target", metavar="TARGET"),
    click.option("--store", metavar="URL", help="Where leases and checkpoints are kept: sqlite:///PATH or memory:"),
    click.option(
        "--http", metavar="[HOST:]PORT", help="Serve /metrics, /livez and /readyz there; port 0 picks a free one."
    ),
    click.option(
        "--worker-id", metavar="ID", help="Owner of the leases; a restart under the same id continues at once."
    ),
    options.endpoint_url,
    options.region,
    click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="How to log, on stderr.",
    ),
    click.option(
        "--log-level",
        type=click.Choice(["debug", "info", "warning", "error"]),
        default="info",
        show_default=True,
        help="What to log from.",
    ),
    click.option(
        "--hang-limit",
        type=click.FloatRange(min=0, max=86_400),
        default=HANG_LIMIT_S,
        show_default=True,
        metavar="SECONDS",
        help="End the process when its event loop stands still for so long; 0 for never.",
    ),
)


# --- what the options change -----------------------------------------------------------------------------------------


def served_at(text: str | None, declared: HttpOptions | None) -> HttpOptions | None:
    """`PORT`, `HOST:PORT` or `[IPV6]:PORT`; what is not given stays as declared. A token that is not declared is that of
    the environment: on a command line everybody on the machine could read it.

    Raises:
        ConfigError: it is none of these, or beyond loopback and neither has a token nor is declared to need none.
    """
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit()) or int(port) > 65_535:
        raise ConfigError(f"--http: {text!r} is no address: write PORT or HOST:PORT")
    from pydantic import SecretStr

    from streamflow.http_options import HttpOptions

    declared = declared or HttpOptions()
    found = "" if declared.without_token else os.environ.get(HTTP_TOKEN_VARIABLE, "")
    return HttpOptions(
        host=host.strip("[]") or declared.host,
        port=int(port),
        token=declared.token or (SecretStr(found) if found else None),
        without_token=declared.without_token,
    )


def redirected(app: App, changes: Mapping[str, str | None]) -> App:
    """`app` with AWS reached as `changes` say, for every stream of it."""
    from streamflow.pipeline import DynamoDBStream

    def redirect(pipeline: Pipeline) -> Pipeline:
        source = pipeline.source
        if not isinstance(source, DynamoDBStream) or source.aws is None:
            return pipeline
        return options.changed(
            pipeline, {"source": options.changed(source, {"aws": options.changed(source.aws, changes)})}
        )

    pipelines = tuple(redirect(pipeline) for pipeline in app.pipelines)
    return options.changed(app, {"aws": options.changed(app.aws, changes), "pipelines": pipelines})
