"""What users may choose, and what librdkafka is told because of it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from streamflow.sdk import PayloadForm, Settings

_TOPIC = re.compile(r"^(?:[A-Za-z0-9._-]|\{table\}){1,249}$")

OWNED = frozenset(
    {
        "acks",
        "allow.auto.create.topics",
        "auto.offset.reset",
        "bootstrap.servers",
        "compression.codec",
        "compression.type",
        "delivery.report.only.error",
        "delivery.timeout.ms",
        "dr_cb",
        "dr_msg_cb",
        "enable.auto.commit",
        "enable.gapless.guarantee",
        "enable.idempotence",
        "enable.partition.eof",
        "error_cb",
        "fetch.wait.max.ms",
        "group.id",
        "isolation.level",
        "linger.ms",
        "logger",
        "max.in.flight",
        "max.in.flight.requests.per.connection",
        "message.max.bytes",
        "message.send.max.retries",
        "message.timeout.ms",
        "metadata.broker.list",
        "on_delivery",
        "queue.buffering.max.ms",
        "queuing.strategy",
        "request.required.acks",
        "retries",
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.password",
        "sasl.username",
        "security.protocol",
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.key.password",
        "transaction.timeout.ms",
        "transactional.id",
    }
)
"""Keys of librdkafka that have a setting of their own, or on which a promise of the sink rests."""


class KafkaSettings(Settings):
    bootstrap_servers: Annotated[str, Field(examples=["broker-1:9092,broker-2:9092"], min_length=1)]
    """Brokers to begin with, `host:port` with commas between them."""
    topic: Annotated[str, Field(examples=["orders", "cdc.{table}"])]
    """Topic to write to; `{table}` stands for the name of the stream's table. It must exist."""
    transactional: Annotated[bool, Field(examples=[True])] = False
    """Commit the records of a batch together with the checkpoint of their shard, so that a consumer with
    `isolation.level=read_committed` sees each change once. Otherwise each is written at least once."""
    payload: Annotated[PayloadForm, Field(examples=["image"])] = "lambda"
    """What a message's value is: the record of a Lambda event, the new image, or before and after."""
    tombstones: Annotated[bool, Field(examples=[True])] = False
    """Send a delete as a message without a value, on which a compacted topic forgets the key. For `payload = "image"`."""
    compression: Annotated[Literal["none", "gzip", "snappy", "lz4", "zstd"], Field(examples=["lz4"])] = "none"
    """How batches of messages are compressed."""
    record_bytes_max: Annotated[int, Field(ge=1_000, le=100_000_000, examples=[1_000_000])] = 1_000_000
    """A message with more bytes in key, value and headers is refused. Not above the topic's `max.message.bytes`."""
    linger_s: Annotated[float, Field(ge=0, le=1, examples=[0.005])] = 0.005
    """How long a message waits for others to be sent with it."""
    connect_timeout_s: Annotated[float, Field(gt=0, le=300, examples=[10])] = 10.0
    """How long opening waits for the brokers to answer."""
    delivery_timeout_s: Annotated[float, Field(gt=0, le=300, examples=[30])] = 30.0
    """How long a batch may take; what is not acknowledged by then is given up, and counts as failed."""
    checkpoint_topic: Annotated[
        str, Field(examples=["__streamflow_checkpoints"], pattern=r"^[A-Za-z0-9._-]{1,249}$")
    ] = "__streamflow_checkpoints"
    """Compacted topic in which `transactional` keeps how far each shard is. It must exist."""
    producers_max: Annotated[int, Field(ge=1, le=1000, examples=[50])] = 50
    """Most producers that `transactional` keeps at a time: it needs one for each shard. Past it, one that is idle
    is closed, and opened again when its shard has something to write."""
    security_protocol: Annotated[
        Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"], Field(examples=["sasl_ssl"])
    ] = "plaintext"
    """How to talk to the brokers."""
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "GSSAPI", "OAUTHBEARER"] | None,
        Field(examples=["SCRAM-SHA-512"]),
    ] = None
    """How to log in, for `sasl_plaintext` and `sasl_ssl`."""
    username: Annotated[str | None, Field(examples=["streamflow"])] = None
    """User to log in as."""
    password: Annotated[SecretStr | None, Field(examples=["${KAFKA_PASSWORD}"])] = None
    """Password of `username`."""
    ca_file: Annotated[str | None, Field(examples=["/etc/ssl/kafka-ca.pem"])] = None
    """Certificates to trust instead of those of the system."""
    certificate_file: Annotated[str | None, Field(examples=["/etc/ssl/streamflow.pem"])] = None
    """Certificate to show to the brokers."""
    key_file: Annotated[str | None, Field(examples=["/etc/ssl/streamflow.key"])] = None
    """Private key of `certificate_file`."""
    key_password: Annotated[SecretStr | None, Field(examples=["${KAFKA_KEY_PASSWORD}"])] = None
    """Password of `key_file`."""
    config: Annotated[
        dict[str, SecretStr], Field(examples=[{"client.id": "streamflow", "client.rack": "euw1-az2"}])
    ] = {}  # noqa: RUF012 - pydantic copies it
    """More settings of librdkafka by their own names; none that has a setting here. They are treated as secrets."""

    @field_validator("topic")
    @classmethod
    def _topic_can_be(cls, topic: str) -> str:
        if not _TOPIC.match(topic):
            raise ValueError("a topic is made of a-z A-Z 0-9 . _ - and {table}, 249 characters at most")
        return topic

    @field_validator("config", mode="before")
    @classmethod
    def _plain_values(cls, config: object) -> object:
        if isinstance(config, dict):
            return {key: _plain(value) for key, value in config.items()}
        return config

    @field_validator("config")
    @classmethod
    def _nothing_owned(cls, config: dict[str, SecretStr]) -> dict[str, SecretStr]:
        if owned := sorted(OWNED & config.keys()):
            raise ValueError(f"{', '.join(owned)}: the sink sets this itself, by its other settings")
        return config

    @model_validator(mode="after")
    def _go_together(self) -> KafkaSettings:
        if self.tombstones and self.payload != "image":
            raise ValueError('tombstones go with payload = "image"')
        if (self.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        if self.security_protocol.startswith("sasl") != (self.sasl_mechanism is not None):
            raise ValueError("sasl_mechanism goes with security_protocol sasl_plaintext or sasl_ssl")
        if self.key_file is not None and self.certificate_file is None:
            raise ValueError("key_file goes with certificate_file")
        return self


def _plain(value: object) -> object:
    """A value of a pipeline file as librdkafka reads it."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def connection(settings: KafkaSettings) -> dict[str, Any]:
    """What every client is told: where the brokers are, how to log in, and what the user added."""
    told: dict[str, Any] = {key: value.get_secret_value() for key, value in settings.config.items()}
    told |= {
        "bootstrap.servers": settings.bootstrap_servers,
        "security.protocol": settings.security_protocol,
        "sasl.mechanism": settings.sasl_mechanism,
        "sasl.username": settings.username,
        "sasl.password": settings.password and settings.password.get_secret_value(),
        "ssl.ca.location": settings.ca_file,
        "ssl.certificate.location": settings.certificate_file,
        "ssl.key.location": settings.key_file,
        "ssl.key.password": settings.key_password and settings.key_password.get_secret_value(),
    }
    return {key: value for key, value in told.items() if value is not None}


def producing(settings: KafkaSettings) -> dict[str, Any]:
    """What a producer is told.

    A message has no timeout of its own. If messages ran out of time one by one, an earlier change of an item could be
    dropped a moment before the brokers are back, and a later one be sent. So the sink gives up on whole writes: see
    `Sender`.
    """
    return {
        "partitioner": "murmur2_random",  # the one of Kafka's own Java client
        **connection(settings),
        "acks": "all",
        "enable.idempotence": True,
        "message.timeout.ms": 0,
        "message.max.bytes": settings.record_bytes_max + FRAMING_BYTES,
        "linger.ms": settings.linger_s * 1000,
        "compression.type": settings.compression,
    }


FRAMING_BYTES = 1_024
"""Room for what the protocol adds to a message; far below what `max.message.bytes` is above a million by default."""


def transacting(settings: KafkaSettings, transactional_id: str) -> dict[str, Any]:
    """What the producer of one shard is told. Order is no matter of timeouts here: all is written, or nothing."""
    timeout_ms = int(settings.delivery_timeout_s * 1000) + _TRANSACTION_MARGIN_MS
    return {
        **producing(settings),
        "transactional.id": transactional_id,
        "transaction.timeout.ms": timeout_ms,
        "message.timeout.ms": timeout_ms,
    }


_TRANSACTION_MARGIN_MS = 10_000


def reading(settings: KafkaSettings, *, committed: bool) -> dict[str, Any]:
    """What a reader of checkpoints is told: it belongs to no group, and stores no offsets."""
    return {
        **connection(settings),
        "group.id": "streamflow",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "fetch.wait.max.ms": 10,  # the end of a partition is told when a fetch comes back empty
        "isolation.level": "read_committed" if committed else "read_uncommitted",
    }
