"""Whatever happens to the owners of a shard, the objects of the transactional sink hold each change once and in order."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, cast

import anyio
import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from shard_owners import Play, World, fates, steps
from streamflow.testing.sink_contract import Changes
from streamflow_aws.errors import AwsCallError
from streamflow_aws.s3_bucket import Bucket
from streamflow_aws.s3_objects import object_form
from streamflow_aws.s3_writers import Layout, ObjectWriter, TransactionalObjectWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shard_owners import Fate, Step
    from streamflow_aws.clients import Client


class Objects:
    """GetObject, HeadObject and PutObject with their conditions, as S3 has them."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self._metadata: dict[str, Mapping[str, str]] = {}
        self._tags: dict[str, str] = {}
        self._numbers = count(1)

    def put_object(
        self,
        *,
        Bucket: str,  # noqa: N803
        Key: str,  # noqa: N803
        Body: bytes,  # noqa: N803
        ContentType: str,  # noqa: N803
        Metadata: Mapping[str, str],  # noqa: N803
        IfMatch: str | None = None,  # noqa: N803
        IfNoneMatch: str | None = None,  # noqa: N803
    ) -> Mapping[str, Any]:
        if (IfNoneMatch and Key in self.bodies) or (IfMatch and self._tags.get(Key) != IfMatch):
            raise AwsCallError("put_object", kind="failed", code="PreconditionFailed")
        self.bodies[Key], self._metadata[Key], self._tags[Key] = Body, Metadata, f'"{next(self._numbers)}"'
        return {"ETag": self._tags[Key]}

    def get_object(self, *, Bucket: str, Key: str) -> Mapping[str, Any]:  # noqa: N803
        if Key not in self.bodies:
            raise AwsCallError("get_object", kind="failed", code="NoSuchKey")
        return {"Body": _Stream(self.bodies[Key]), "ETag": self._tags[Key]}

    def head_object(self, *, Bucket: str, Key: str) -> Mapping[str, Any]:  # noqa: N803
        if Key not in self.bodies:
            raise AwsCallError("head_object", kind="failed", code="404")
        return {"Metadata": self._metadata[Key]}


class _Stream:
    def __init__(self, body: bytes) -> None:
        self._body = body

    async def read(self) -> bytes:
        return self._body


@settings(max_examples=300)
@given(records=st.integers(8, 25), script=steps, script_fates=fates)
def test_the_objects_hold_each_change_once(
    records: int, script: list[tuple[Step, int]], script_fates: list[Fate]
) -> None:
    changes = Changes()
    changes.put_many(records, items=3)
    objects = Objects()
    world = World(objects)
    form = object_form("jsonl", "lambda")

    def new_writer() -> TransactionalObjectWriter:
        plain = ObjectWriter(
            bucket=Bucket(cast("Client", world), "archive"),
            layout=Layout(prefix="orders", partition="day", form=form),
            threads=anyio.CapacityLimiter(1),
            note_suppressed=lambda _: None,
        )
        return TransactionalObjectWriter(pipeline="orders", outside=plain)

    play = Play(world=world, records=changes.records, new_writer=new_writer)
    anyio.run(play.run, script, script_fates)

    data = {key: body for key, body in objects.bodies.items() if "/_streamflow/" not in key}
    keys = sorted(
        (key for key, body in data.items() if body), key=lambda key: int(key.rpartition("/")[2].split("-")[0])
    )
    found = [orjson.loads(line)["eventID"] for key in keys for line in data[key].splitlines()]
    assert len(found) == len(set(found)), "a change is there twice"
    expected = [record.event_id for record in changes.records]
    assert set(expected) - set(found) <= play.skipped, "a change is not there"
    assert found == [event_id for event_id in expected if event_id in set(found)], "the changes are out of order"
