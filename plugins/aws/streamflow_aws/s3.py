"""S3: each batch as an object of JSON lines or Parquet, in folders that query engines take for partitions."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import anyio
from pydantic import Field, model_validator

from streamflow.sdk import Capabilities, ConfigError, PayloadForm, Permission, SinkPlugin
from streamflow_aws.clients import Target, open_client
from streamflow_aws.s3_bucket import BUSY_CODES, Bucket
from streamflow_aws.s3_objects import Format, Partition, object_form
from streamflow_aws.s3_writers import Layout, ObjectWriter, TransactionalObjectWriter
from streamflow_aws.settings import AwsSinkSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow.sdk import SinkContext, Writer
    from streamflow_aws.s3_objects import ObjectForm

# Encoding takes the processor: more threads only take turns.
_THREADS = 2


class S3Settings(AwsSinkSettings):
    bucket: Annotated[str, Field(examples=["orders-archive"], pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
    """Name of the bucket."""
    prefix: Annotated[
        str, Field(examples=["orders"], pattern=r"^[A-Za-z0-9!_.*'()=-]+(/[A-Za-z0-9!_.*'()=-]+)*$", max_length=512)
    ]
    """What all keys begin with, without a slash at its end. Pipelines with one prefix share their folders."""
    format: Annotated[Format, Field(examples=["parquet"])] = "jsonl.zst"
    """JSON lines, plain or compressed with Zstandard, or Parquet, which takes `streamflow-engine-aws[parquet]`."""
    payload: PayloadForm = "lambda"
    """What a line holds: a record of a Lambda event, the new image, or the change with both images."""
    partition: Partition = "day"
    """Folders by the time of an object's first record: `dt=2026-11-25`, or `dt=2026-11-25/hour=07`."""
    transactional: bool = False
    """Announce each object in the shard's checkpoint, which is kept in the bucket, and go on from that: each change once."""

    @model_validator(mode="after")
    def _payload_is_of_lines(self) -> S3Settings:
        if self.format == "parquet" and "payload" in self.model_fields_set:
            raise ValueError('payload is for lines of JSON: format = "parquet" has columns of its own')
        return self


@asynccontextmanager
async def _open(settings: S3Settings, context: SinkContext) -> AsyncIterator[Writer]:
    form = _form(settings)
    async with open_client(context, "s3", aws=settings.aws, busy_codes=BUSY_CODES) as client:
        target = Target(
            name=f"s3: the bucket {settings.bucket}",
            permission="s3:ListBucket",
            creation=f"aws s3 mb s3://{settings.bucket}",
        )
        await client.look("head_bucket", target, Bucket=settings.bucket)
        objects = ObjectWriter(
            bucket=Bucket(client, settings.bucket),
            layout=Layout(prefix=settings.prefix, partition=settings.partition, form=form),
            threads=anyio.CapacityLimiter(_THREADS),
            note_suppressed=context.note_suppressed,
        )
        if settings.transactional:
            yield TransactionalObjectWriter(pipeline=context.pipeline, outside=objects)
        else:
            yield objects


def _form(settings: S3Settings) -> ObjectForm:
    try:
        return object_form(settings.format, settings.payload)
    except ImportError as error:
        raise ConfigError(
            f'sink s3: format = "parquet" takes pyarrow ({error}): pip install "streamflow-engine-aws[parquet]"'
        ) from error


def _capabilities(settings: S3Settings) -> Capabilities:
    # The same batch is the same object; but after a failure or a restart batches may be cut elsewhere.
    return Capabilities(
        order="shard",
        idempotence="transactional" if settings.transactional else "none",
        idempotence_key="checkpoint of the shard, which announces each object" if settings.transactional else None,
        partial_failures=True,
        needs_images=settings.format != "parquet" and settings.payload == "image",
        batch_size=1_000,
    )


def _permissions(settings: S3Settings) -> list[Permission]:
    bucket = f"arn:{{partition}}:s3:::{settings.bucket}"
    actions = ("s3:GetObject", "s3:PutObject") if settings.transactional else ("s3:PutObject",)
    where = f"{settings.bucket}/{settings.prefix}"
    return [
        Permission(purpose=f"look at {settings.bucket}", actions=("s3:ListBucket",), resources=(bucket,)),
        Permission(
            purpose=f"write objects below {where}", actions=actions, resources=(f"{bucket}/{settings.prefix}/*",)
        ),
    ]


s3 = SinkPlugin(
    name="s3",
    api_version="1.0",
    summary="Batches as objects of JSON lines or Parquet, partitioned by day, each change once if you like.",
    settings=S3Settings,
    examples={
        "lines": {"bucket": "orders-archive", "prefix": "orders"},
        "parquet, each change once": {
            "bucket": "orders-archive",
            "prefix": "orders",
            "format": "parquet",
            "transactional": True,
        },
    },
    open=_open,
    capabilities=_capabilities,
    permissions=_permissions,
)
