"""What a user chooses, and what the sink promises for it."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from streamflow.sdk import Capabilities, PayloadForm, Settings

Mode: TypeAlias = Literal["json", "hash", "stream", "publish", "invalidate"]

_ONLY: dict[str, tuple[Mode, ...]] = {
    "key_prefix": ("json", "hash", "invalidate"),
    "key_attributes": ("json", "hash", "invalidate"),
    "payload": ("json", "stream", "publish"),
    "tombstone_ttl_s": ("json", "hash"),
    "stream": ("stream",),
    "maxlen": ("stream",),
    "dedupe_window_s": ("stream",),
    "channel": ("publish",),
}
"""In which modes a setting means something."""


class RedisSettings(Settings):
    url: Annotated[SecretStr, Field(examples=["rediss://streamflow:${REDIS_PASSWORD}@cache.example.com:6379/0"])]
    """Where the server is. `rediss` is TLS, with certificate and host name verified; `redis` is none."""
    mode: Mode = "json"
    """`json` and `hash` keep the latest state of each item, as a string or as a hash; `stream` adds each change to a
    stream; `publish` sends it to whoever listens; `invalidate` deletes the key of a changed item."""
    key_prefix: Annotated[str, Field(examples=["order:"])] = ""
    """What the key of an item begins with; its key attributes follow."""
    key_attributes: Annotated[tuple[str, ...], Field(examples=[["customer", "order"]])] = ()
    """Key attributes in the order in which they make the key, joined by `:`; by default sorted by name."""
    payload: Annotated[PayloadForm | None, Field(examples=["change"])] = None
    """Form of what is written; by default `image` in mode `json`, else `lambda`."""
    tombstone_ttl_s: Annotated[int | None, Field(ge=60, examples=[604_800])] = None
    """How long the version of a deleted item is remembered, so that an older change does not bring it back; by default
    for ever."""
    stream: Annotated[str, Field(examples=["order-changes"])] = ""
    """Key of the stream."""
    maxlen: Annotated[int | None, Field(ge=1, examples=[1_000_000])] = None
    """Entries that the stream keeps, about; by default all."""
    dedupe_window_s: Annotated[int, Field(ge=60, le=2_592_000, examples=[3_600])] = 86_400
    """How long a change is remembered that was added to the stream, so that it is not added twice."""
    channel: Annotated[str, Field(examples=["order-changes"])] = ""
    """Channel to publish to."""
    pool_size: Annotated[int, Field(ge=1, le=100, examples=[4])] = 4
    """Connections at most: so many shards write at the same time."""
    connect_timeout_s: Annotated[float, Field(gt=0, le=300, examples=[10])] = 10.0
    """How long a connection may take to be made."""
    command_timeout_s: Annotated[float, Field(gt=0, le=3_600, examples=[10])] = 10.0
    """How long a command may take."""

    @field_validator("url")
    @classmethod
    def _url_is_one(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        try:
            _ = urlsplit(url.get_secret_value()).port
        except ValueError:
            raise ValueError("cannot be read: rediss://user:password@host:6379/0") from None
        return url

    @model_validator(mode="after")
    def _settings_go_with_mode(self) -> RedisSettings:
        wrong = [name for name, modes in _ONLY.items() if name in self.model_fields_set and self.mode not in modes]
        wrong = [name for name in wrong if getattr(self, name) != type(self).model_fields[name].default]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: not in mode {self.mode}")
        for name in ("stream", "channel"):
            if self.mode in _ONLY[name] and not getattr(self, name):
                raise ValueError(f"{name}: mode {self.mode} needs it")
        return self

    @property
    def form(self) -> PayloadForm:
        return self.payload or ("image" if self.mode == "json" else "lambda")


def capabilities(settings: RedisSettings) -> Capabilities:
    common = partial(
        Capabilities,
        order="key",
        partial_failures=True,
        batch_size=500,
        request_records_max=1_000,
        request_bytes_max=8 * 1024 * 1024,
    )
    match settings.mode:
        case "json" | "hash":
            return common(
                idempotence="versioned",
                idempotence_key="item key and sequence number",
                needs_images=settings.mode == "hash" or settings.form == "image",
            )
        case "stream":
            return common(
                idempotence="window",
                idempotence_key="event id",
                idempotence_window_s=float(settings.dedupe_window_s),
                needs_images=settings.form == "image",
            )
        case "publish":
            return common(idempotence="none", needs_images=settings.form == "image")
        case "invalidate":
            return common(idempotence="none")
