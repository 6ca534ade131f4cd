"""The S3 sink keeps the contract of sinks in each of its modes, on MiniStack."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import pyarrow.parquet
import pytest
import zstandard

from aws_contract import AwsContract
from far_messages import client
from streamflow.testing.sink_contract import Seen, exact_json
from streamflow_aws.s3 import s3

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from streamflow.sdk import SinkDeclaration

pytestmark = [pytest.mark.anyio, pytest.mark.integration]


class BucketContract(AwsContract):
    kind = "log"

    @pytest.fixture
    def far(self, ministack: str) -> Iterator[None]:
        self._s3 = client("s3", ministack)
        self._s3.create_bucket(Bucket="archive")
        yield
        self._s3.close()

    @pytest.fixture
    def sink(self, far: None) -> SinkDeclaration:
        return s3(bucket="archive", prefix="all/orders", **self.settings())

    @pytest.fixture
    def missing_target(self, sink: SinkDeclaration) -> SinkDeclaration:
        return self.declared(sink, bucket="none")

    def settings(self) -> dict[str, Any]:
        return {}

    async def read_back(self, sink: SinkDeclaration) -> Sequence[Seen]:
        return await anyio.to_thread.run_sync(lambda: [each for body in self.bodies() for each in self.seen(body)])

    def bodies(self) -> Iterator[bytes]:
        """The objects of records, each shard's in the order of their first sequence numbers."""
        pages = self._s3.get_paginator("list_objects_v2").paginate(Bucket="archive", Prefix="all/orders/dt=")
        keys = [str(each["Key"]) for page in pages for each in page.get("Contents", ())]
        for key in sorted(keys, key=lambda key: int(key.rpartition("/")[2].partition("-")[0])):
            yield self._s3.get_object(Bucket="archive", Key=key)["Body"].read()

    def seen(self, body: bytes) -> list[Seen]:
        raise NotImplementedError


class LinesContract(BucketContract):
    def seen(self, body: bytes) -> list[Seen]:
        if self.settings().get("format", "jsonl.zst") == "jsonl.zst":
            body = zstandard.ZstdDecompressor().decompress(body)
        return [Seen.of_payload(line, self.settings().get("payload", "lambda")) for line in body.splitlines()]


class ParquetContract(BucketContract):
    def seen(self, body: bytes) -> list[Seen]:
        rows = pyarrow.parquet.read_table(io.BytesIO(body)).to_pylist()
        return [
            Seen(
                item_key=row["keys"],
                event_id=row["_sf_event_id"],
                image=None if row["image"] is None else exact_json(row["image"]),
                deleted=row["_sf_deleted"],
            )
            for row in rows
        ]


class TestCompressedLines(LinesContract):
    mode = "jsonl.zst"


class TestLines(LinesContract):
    mode = "jsonl"

    def settings(self) -> dict[str, Any]:
        return {"format": "jsonl", "payload": "change"}


class TestParquet(ParquetContract):
    mode = "parquet"

    def settings(self) -> dict[str, Any]:
        return {"format": "parquet"}


class TestTransactionalLines(LinesContract):
    mode = "jsonl.zst, transactional"

    def settings(self) -> dict[str, Any]:
        return {"transactional": True}


class TestTransactionalParquet(ParquetContract):
    mode = "parquet, transactional"

    def settings(self) -> dict[str, Any]:
        return {"format": "parquet", "transactional": True}
