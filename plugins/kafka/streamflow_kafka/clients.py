"""Clients of librdkafka, made and tried out; all of it blocks, and runs in threads."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar

from confluent_kafka import Consumer, KafkaException, Producer

from streamflow.sdk import ConfigError
from streamflow_kafka.settings import reading

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import KafkaError

    from streamflow_kafka.settings import KafkaSettings

_log = logging.getLogger("streamflow_kafka")


class _QuietLog:
    """What librdkafka logs, on the level DEBUG: brokers that are away are told by the writes that fail for it."""

    def log(self, _: int, message: str, *values: object) -> None:
        _log.debug(message, *values)


C = TypeVar("C", Producer, Consumer)


def make_producer(settings: KafkaSettings, config: dict[str, Any]) -> Producer:
    """Raises `ConfigError` that names the keys of `settings.config` that librdkafka does not take."""
    return _made(Producer, settings, config)


def make_reader(settings: KafkaSettings, *, committed: bool) -> Consumer:
    return _made(Consumer, settings, reading(settings, committed=committed))


def _made(kind: Callable[..., C], settings: KafkaSettings, config: dict[str, Any]) -> C:
    try:
        return kind({**config, "error_cb": _note}, logger=_QuietLog())
    except KafkaException as error:
        # librdkafka's own text quotes values, and any of them may be a secret.
        wrong = [key for key, value in settings.config.items() if not _is_taken(key, value.get_secret_value())]
        what = ", ".join(f"config.{key}" for key in wrong) or "a combination of its settings"
        raise ConfigError(
            f"kafka: librdkafka does not take {what} ({error.args[0].name()}); its documentation lists keys and values"
        ) from None


def _is_taken(key: str, value: str) -> bool:
    try:
        Producer({key: value}, logger=_QuietLog())
    except KafkaException:
        return False
    return True


def _note(error: KafkaError) -> None:
    """What librdkafka notices by itself, and mends by itself where it can: each write hears of it by its own outcome."""
    _log.debug("%s: %s", error.name(), error.str())


def topics(client: Producer | Consumer, settings: KafkaSettings) -> dict[str, list[int]]:
    """The partitions of every topic that may be seen. Raises `KafkaException`: no broker answers, or none lets us in."""
    # Two looks, as in `ShardProducer.begin`: a producer that gets its id in between gets it half a second later.
    client.list_topics(timeout=settings.connect_timeout_s)
    listed = client.list_topics(timeout=settings.connect_timeout_s)
    return {name: sorted(topic.partitions) for name, topic in listed.topics.items() if topic.error is None}


def unreachable(error: KafkaException, settings: KafkaSettings) -> ConfigError:
    return ConfigError(
        f"kafka: no broker of {settings.bootstrap_servers} answered within {settings.connect_timeout_s:g} s "
        f"({error.args[0].name()}): look at bootstrap_servers, security_protocol ({settings.security_protocol}), and "
        "user and password"
    )


def missing_topic(topic: str, settings: KafkaSettings, *, compacted: bool = False) -> ConfigError:
    options = " --config cleanup.policy=compact --config segment.bytes=16777216" if compacted else ""
    return ConfigError(
        f"kafka: there is no topic {topic} at {settings.bootstrap_servers}, or it may not be seen; make it: "
        f"kafka-topics.sh --bootstrap-server {settings.bootstrap_servers} --create --topic {topic}{options}"
    )
