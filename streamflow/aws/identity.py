"""Who streamflow is to AWS: the default credential chain or a role to assume, refreshed before the credentials expire."""

from __future__ import annotations

import re
import socket
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aioboto3
import aiobotocore.session
import anyio
from aiobotocore.config import AioConfig
from aiobotocore.credentials import AioAssumeRoleCredentialFetcher, AioDeferredRefreshableCredentials
from botocore import exceptions as botocore_errors
from botocore.loaders import create_loader

from streamflow.aws.errors import translate, with_code
from streamflow.aws.signing import Keys
from streamflow.errors import AccessDeniedError, ConfigError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from streamflow.clock import Clock
    from streamflow.pipeline import AwsOptions

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 20.0
# Of one client: a sink writes many shards at the same time, and an invocation of a function holds its connection to the end.
CONNECTIONS_MAX = 100

# A thousand shards that all meet the same expired token look the credentials up once in this time.
_RENEWAL_INTERVAL_S = 10.0
# IAM's own rule for the name of a session: 2 to 64 characters of these.
_NOT_IN_SESSION_NAME = re.compile(r"[^\w+=,.@-]", re.ASCII)


class Identity:
    """The session that every client comes from, and the keys that the wire signs with. Open it with `open_identity`."""

    def __init__(self, options: AwsOptions, clock: Clock, session: Any, credentials: Any) -> None:
        self.options = options
        self.session = session
        self._clock = clock
        self._credentials = credentials
        self._lock = anyio.Lock()
        self._renewable_at = float("-inf")

    async def keys(self) -> Keys:
        """The keys as they are now; fetches new ones when the old ones are about to expire.

        Raises:
            AccessDeniedError: the role may not be assumed, or a login is needed.
            SourceError: where credentials come from cannot be reached.
        """
        try:
            frozen = await self._credentials.get_frozen_credentials()
        except Exception as error:
            found = translate(error)
            if self.options.role_arn is None:
                raise found from error
            message = f"cannot assume the role {self.options.role_arn}: {found}"
            raise with_code(type(found)(message), found.code or type(found).__name__) from error
        return Keys(access_key=frozen.access_key, secret_key=frozen.secret_key, token=frozen.token or None)

    async def renew(self, refused: Keys) -> bool:
        """Look the credentials up anew, after the service called `refused` expired; True if there are others now.

        Raises:
            AccessDeniedError, SourceError: as `keys` does.
        """
        async with self._lock:
            if await self.keys() != refused:
                return True
            if self._clock.monotonic() < self._renewable_at:
                return False
            self._renewable_at = self._clock.monotonic() + _RENEWAL_INTERVAL_S
            self.session, self._credentials = await _look_up(self.options)
            return await self.keys() != refused


async def open_identity(options: AwsOptions, clock: Clock) -> Identity:
    """Find session and credentials, and fetch the first keys.

    Raises:
        ConfigError: no region, an unknown profile, an unreadable file.
        AccessDeniedError: no credentials, or the role may not be assumed.
    """
    identity = Identity(options, clock, *await _look_up(options))
    await identity.keys()
    return identity


def client(
    session: Any,
    options: AwsOptions,
    service: str,
    *,
    attempts_max: int,
    read_timeout_s: float = READ_TIMEOUT_S,
    **keys: str | None,
) -> AbstractAsyncContextManager[Any]:
    """A botocore client for cold calls; every call has deadlines, and TLS is verified."""
    config = AioConfig(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=read_timeout_s,
        max_pool_connections=CONNECTIONS_MAX,
        retries={"mode": "standard", "total_max_attempts": attempts_max},
    )
    opened: AbstractAsyncContextManager[Any] = session.client(
        service, config=config, endpoint_url=options.endpoint_url, verify=options.ca_bundle, **keys
    )
    return opened


async def _look_up(options: AwsOptions) -> tuple[Any, Any]:
    """The session and its credentials; those of a role belong to a session of their own, and so do their source's."""
    session = _open_session(options)
    try:
        if options.role_arn is not None:
            source, core = session, aiobotocore.session.get_session()
            session = _open_session(options, core)
            core.get_component("credential_provider").providers.insert(0, _AssumedRole(source, options))
        credentials = await session.get_credentials()
    except botocore_errors.BotoCoreError as error:
        raise translate(error) from error
    if credentials is None:
        raise _no_credentials()
    return session, credentials


@cache
def _loader(data_path: str | None) -> Any:
    """The models of the services, read and parsed once per process: every session would do so for itself."""
    return create_loader(data_path)


def _open_session(options: AwsOptions, core: Any = None) -> Any:
    if options.ca_bundle is not None and not Path(options.ca_bundle).is_file():
        raise ConfigError(f"aws.ca_bundle: there is no file {options.ca_bundle}")
    core = core or aiobotocore.session.get_session()
    try:
        if options.profile is not None:
            core.set_config_variable("profile", options.profile)
        core.register_component("data_loader", _loader(core.get_config_variable("data_path")))
        session = aioboto3.Session(botocore_session=core, profile_name=options.profile, region_name=options.region)
        region = session.region_name
    except botocore_errors.ProfileNotFound as error:
        known = ", ".join(sorted(aiobotocore.session.get_session().available_profiles)) or "none"
        raise ConfigError(
            f"aws.profile: {error}; known profiles: {known} (`aws configure --profile NAME` makes one)"
        ) from error
    except botocore_errors.ConfigParseError as error:
        raise ConfigError(f"aws: {error}") from error
    if region is None:
        raise ConfigError(
            "aws.region: no AWS region is set; set region, AWS_DEFAULT_REGION, or `aws configure set region REGION`"
        )
    return session


def _no_credentials() -> AccessDeniedError:
    message = (
        "no AWS credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile, "
        "log in (`aws sso login`), or run where there is a role"
    )
    error = AccessDeniedError(message)
    error.code = botocore_errors.NoCredentialsError.__name__
    return error


class _AssumedRole:
    """First in the credential chain of the role's session: its credentials assume the role anew before they expire."""

    METHOD = "streamflow-assume-role"

    def __init__(self, source: Any, options: AwsOptions) -> None:
        self._source = source
        self._options = options

    async def load(self) -> AioDeferredRefreshableCredentials:
        source_credentials = await self._source.get_credentials()
        if source_credentials is None:
            raise _no_credentials()
        arguments = {"RoleSessionName": session_name()}
        if self._options.external_id is not None:
            arguments["ExternalId"] = self._options.external_id
        fetcher = AioAssumeRoleCredentialFetcher(
            self._sts, source_credentials, self._options.role_arn, extra_args=arguments
        )
        return AioDeferredRefreshableCredentials(fetcher.fetch_credentials, self.METHOD)

    def _sts(self, service: str, **keys: Any) -> AbstractAsyncContextManager[Any]:
        return client(self._source, self._options, service, attempts_max=3, **keys)


def session_name() -> str:
    """What CloudTrail shows for the assumed role: which machine it was."""
    return _NOT_IN_SESSION_NAME.sub("-", f"streamflow-{socket.gethostname()}")[:64]  # noqa: TID251 - tells whose session it is
