"""`streamflow run`: workers in the foreground, until a signal, the end of their streams, or a failure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from streamflow.cli import garbage, limits, options, run_options
from streamflow.cli.run_options import RunOptions
from streamflow.cli.serving import run_app, say
from streamflow.cli.showing import show_json, show_lines, show_live

if TYPE_CHECKING:
    from streamflow.cli.showing import Show
    from streamflow.launch import Running

WORKERS_MAX = 256


@click.command(short_help="Run a pipeline file or an app.")
@run_options.declared
@click.option(
    "--workers",
    type=click.IntRange(1, WORKERS_MAX),
    metavar="N",
    default=1,
    show_default=True,
    help="Run N processes that share the work, and keep them running.",
)
@options.as_json("Print progress as one JSON object a line on stdout, the last one at the end.")
@options.debug
@click.pass_context
def run(context: click.Context, /, *, workers: int, as_json: bool, **given: Any) -> None:
    """Run TARGET: a pipeline file, module:app or path/file.py:app, where app is an App or a Pipeline.

    The options stand in for what TARGET says. SIGTERM or Ctrl-C finishes what is in flight, stores how far it is and
    exits with 0; a second one stops at once and says which records will be delivered again.
    """
    chosen = RunOptions(**given)
    show = show_json if as_json else show_live if chosen.log_format == "text" else show_lines
    context.exit(_run_one(chosen, show) if workers == 1 else _run_several(chosen, workers, show, context))


def _run_one(chosen: RunOptions, show: Show) -> int:
    async def beside(worker: Running) -> None:
        garbage.settle()
        if worker.admin_url is not None:
            say(f"admin server: {worker.admin_url}")
        await show(worker.progress.snapshot)

    with garbage.put_off():
        app = chosen.app()
        chosen.configure_logging()
        limits.raise_files()
        return run_app(app, beside, hang_limit_s=chosen.hang_limit)


def _run_several(chosen: RunOptions, workers: int, show: Show, context: click.Context) -> int:
    from streamflow.cli.supervision.supervisor import supervise

    chosen.configure_logging()
    return supervise(chosen, workers=workers, show=show, debug=context.obj is not None and context.obj.debug)
