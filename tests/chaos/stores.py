"""The stores that a run can have, each on a real server of its own where it needs one."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from chaos.plan import CREDENTIALS, REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from chaos.plan import Plan


@contextmanager
def _sqlite(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder / 'chaos.db'}"


@contextmanager
def _dynamodb(folder: Path) -> Iterator[str]:
    import boto3

    from servers.ministack import running_ministack

    with running_ministack() as endpoint_url, _credentials():
        # Its first answer takes seconds, more than a store waits for one.
        boto3.client("dynamodb", endpoint_url=endpoint_url, region_name=REGION).list_tables()
        yield "dynamodb://chaos?" + urlencode({"region": REGION, "endpoint_url": endpoint_url})


@contextmanager
def _credentials() -> Iterator[None]:
    """Some that MiniStack takes, and nothing of this machine's: whoever looks at the rows reaches AWS as workers do."""
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("AWS_")}
    os.environ.update(CREDENTIALS)
    try:
        yield
    finally:
        for name in CREDENTIALS:
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _postgresql(folder: Path) -> Iterator[str]:
    from servers.postgres import running_postgres

    with running_postgres() as server:
        yield server.dsn()


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    from servers.valkey import running_valkey

    with running_valkey() as server:
        yield server.url()


@contextmanager
def _nats(folder: Path) -> Iterator[str]:
    from servers.nats import nats_server

    (folder / "nats").mkdir()
    with nats_server(folder / "nats") as server:
        yield server.url


STORES: dict[str, Callable[[Path], AbstractContextManager[str]]] = {
    "sqlite": _sqlite,
    "dynamodb": _dynamodb,
    "postgresql": _postgresql,
    "redis": _redis,
    "nats": _nats,
}
"""By scheme: a store's URL for the length of the block; what it keeps is in a folder."""


def paced(plan: Plan) -> Plan:
    """The plan at a pace that its store can bear.

    In the layout of the KCL every lease is renewed by itself, and MiniStack answers a few hundred calls a second: there
    it takes the KCL's own lease duration, rarer checkpoints, and fewer looks of ours.
    """
    if plan.store != "dynamodb":
        return plan
    return replace(plan, lease_duration_s=10.0, checkpoint_interval_s=3.0, look_interval_s=0.4)
