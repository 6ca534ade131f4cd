"""Buckets as they have to be: made so where there are none, and refused where they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from streamflow.errors import ConfigError
from streamflow_nats.store_buckets import Bucket

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from streamflow_nats.store_calls import Calls


def configuration(name: str, replicas: int) -> dict[str, Any]:
    """Of the stream of a bucket, in JetStream's words."""
    return {
        "name": f"KV_{name}",
        "subjects": [f"$KV.{name}.>"],
        "storage": "file",
        "num_replicas": replicas,
        "max_msgs_per_subject": 1,
        "discard": "new",
        "deny_delete": True,
        "allow_rollup_hdrs": True,
        "allow_direct": True,
        "allow_atomic": True,
    }


async def open_bucket(calls: Calls, name: str, replicas: int | None) -> Bucket:
    """The bucket, made if it is not there.

    Raises:
        ConfigError: it is there, and has to be another.
        StoreError: it cannot be looked at or made.
    """
    bucket = Bucket(calls, name)
    found = await bucket.info()
    if found is None:
        await bucket.create(configuration(name, replicas or 1))
        found = await bucket.info() or {}
    if wrong := list(_mistakes(found, replicas)):
        raise ConfigError([f"store {calls.shown}: the stream KV_{name} {each}" for each in wrong])
    bucket.replicas = int(found["num_replicas"])
    return bucket


def _mistakes(found: Mapping[str, Any], replicas: int | None) -> Iterator[str]:
    wanted = {
        "storage": ("file", "a restart of the server would lose everything"),
        "max_msgs_per_subject": (1, "old entries would be found"),
        "max_age": (0, "entries would vanish"),
        "retention": ("limits", "entries would vanish"),
        "discard_new_per_subject": (False, "entries could not be changed"),
        "allow_direct": (True, "entries could not be listed"),
        "allow_atomic": (True, "what belongs together could not be written together"),
    }
    for name, (value, why) in wanted.items():
        if found.get(name, False) != value:  # JetStream leaves out what is false, and 0 is equal to it
            yield f"has to have {name} = {orjson.dumps(value).decode()}: {why} (change it, or name another bucket)"
    if found.get("discard") != "new" and any(found.get(limit, -1) > 0 for limit in ("max_msgs", "max_bytes")):
        yield 'has to have discard = "new": it would forget the oldest when it is full (change it, or name another bucket)'
    if replicas is not None and found.get("num_replicas") != replicas:
        yield (
            f"has {found.get('num_replicas')} replicas and the URL asks for {replicas} (nats stream edit --replicas "
            f"{replicas}, or change the URL)"
        )
