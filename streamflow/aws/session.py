"""The way to AWS: cold calls through aioboto3 clients, hot ones through the wire, both under one identity."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from botocore import exceptions as botocore_errors
from botocore.httpsession import get_cert_path
from botocore.session import Session

from streamflow.aws import identity as identities
from streamflow.aws.errors import translate
from streamflow.aws.wire import Endpoint, check_json, open_wire
from streamflow.clock import SystemClock
from streamflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from streamflow.aws.identity import Identity
    from streamflow.aws.wire import Wire
    from streamflow.clock import Clock
    from streamflow.pipeline import AwsOptions

_COLD_ATTEMPTS_MAX = 3


class Aws:
    """Open it with `open_aws`. It holds no connection: clients and wires do, each for as long as it is open."""

    def __init__(self, identity: Identity, clock: Clock) -> None:
        self._identity = identity
        self._clock = clock

    @property
    def region(self) -> str:
        return str(self._identity.session.region_name)

    @asynccontextmanager
    async def client(
        self,
        service: str,
        *,
        region: str | None = None,
        attempts_max: int = _COLD_ATTEMPTS_MAX,
        read_timeout_s: float | None = None,
    ) -> AsyncIterator[Any]:
        """An aioboto3 client for cold calls, in the session's region where none is named.

        `attempts_max` is 1 for writes whose lost answer must not be hidden. `read_timeout_s` is by default that of
        `identity`.

        Its calls raise botocore's errors: `streamflow.aws.errors.translate` reads them.

        Raises:
            ConfigError: there is no such endpoint.
        """
        identity = self._identity
        opening = identities.client(
            identity.session,
            identity.options,
            service,
            attempts_max=attempts_max,
            read_timeout_s=read_timeout_s or identities.READ_TIMEOUT_S,
            region_name=region,
        )
        async with AsyncExitStack() as stack:
            try:
                client = await stack.enter_async_context(opening)
            except (botocore_errors.BotoCoreError, ValueError) as error:
                raise ConfigError(f"aws: cannot make a client for {service}: {error}") from error
            client.meta.events.register_last("before-call.s3", _send_at_once)
            client.meta.events.register("before-parse", _check_answer)
            yield client

    async def renew(self) -> None:
        """Look for other credentials, after a service called ours expired, for the clients to come. Seldom does so twice.

        Raises:
            AccessDeniedError, SourceError: as `Identity.keys` does.
        """
        await self._identity.renew(await self._identity.keys())

    @asynccontextmanager
    async def open_wire(self, service: str) -> AsyncIterator[Wire]:
        """The fast lane to a service that speaks JSON: `dynamodbstreams` or `kinesis`.

        Raises:
            ConfigError: there is no such endpoint, or its certificates cannot be loaded.
        """
        endpoint = await self._endpoint(service)
        async with open_wire(endpoint, self._identity, clock=self._clock) as wire:
            yield wire

    async def _endpoint(self, service: str) -> Endpoint:
        """Where a client of the SDK would send its requests, FIPS, dual-stack and overrides considered.

        `meta.endpoint_url` is not that: it predates the endpoint rules and names a dual-stack host that does not exist.
        """
        async with self.client(service) as client:
            try:
                signed_url = await client.generate_presigned_url("list_streams")
            except Exception as error:
                raise translate(error) from error
            metadata = client.meta.service_model.metadata
            region = client.meta.region_name
        url = urlsplit(signed_url)
        return Endpoint(
            url=f"{url.scheme}://{url.netloc}/",
            region=region,
            signing_name=metadata.get("signingName") or metadata["endpointPrefix"],
            content_type=f"application/x-amz-json-{metadata['jsonVersion']}",
            certificates=self._certificates(),
        )

    def _certificates(self) -> str:
        """The file of certificates to trust, in the SDK's own order."""
        options = self._identity.options
        profile = Session(profile=options.profile)
        configured = options.ca_bundle or profile.get_config_variable("ca_bundle")
        path: str = get_cert_path(configured or os.environ.get("REQUESTS_CA_BUNDLE") or True)
        return path


def _send_at_once(params: dict[str, Any], **_: object) -> None:
    """Do not ask S3 whether it wants an object: ours are small, and the question costs a round trip.

    And where the connection has ended in the meantime, aiohttp's task that waits for the answer fails unheard.
    """
    params["headers"].pop("Expect", None)


def _check_answer(operation_model: Any, response_dict: dict[str, Any], **_: object) -> None:
    """Refuse the body of a success that cannot be what the service sent, where it is the whole answer and JSON.

    The SDK takes one that is no JSON for an empty answer, in which a row that is there is missing. And it looks at the
    checksum only to repeat the call, not where that is not allowed.

    Raises:
        SourceError: "CorruptAnswer".
    """
    shape, body = operation_model.output_shape, response_dict["body"]
    speaks_json = operation_model.service_model.resolved_protocol == "json"
    if not speaks_json or shape is None or not shape.members or not isinstance(body, bytes):
        return  # XML is looked at by the SDK, nothing may come as nothing, and a stream is read later
    if response_dict["status_code"] < 300:
        check_json(body, response_dict["headers"].get("x-amz-crc32"))


@asynccontextmanager
async def open_aws(options: AwsOptions, *, clock: Clock | None = None) -> AsyncIterator[Aws]:
    """Reach AWS as `options` say; what they leave out comes from the environment and the shared files.

    Raises:
        ConfigError: no region, an unknown profile, an unreadable file.
        AccessDeniedError: no credentials, or the role may not be assumed.
        SourceError: where credentials come from cannot be reached.
    """
    clock = clock or SystemClock()
    yield Aws(await identities.open_identity(options, clock), clock)
