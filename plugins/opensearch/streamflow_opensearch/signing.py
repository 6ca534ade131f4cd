"""Requests to the services of AWS, signed by botocore's own signer with the credentials of the context's client."""

from __future__ import annotations

from contextlib import asynccontextmanager
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError

from streamflow.sdk import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from streamflow.sdk import AwsSettings, SinkContext


class Signer:
    """Signs for one service in the client's region, with credentials that the client keeps fresh."""

    def __init__(self, request_signer: Any, *, service: str, region: str) -> None:
        self._request_signer = request_signer
        self._service = service
        self._region = region

    async def headers(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> dict[str, str]:
        """`headers` with a signature over them, the body and the encoded URL."""
        auth = await self._request_signer.get_auth_instance(
            signing_name=self._service, region_name=self._region, signature_version="v4"
        )
        # OpenSearch Serverless asks for the hash in a header; the signature covers it in any case.
        signed = {**headers, "X-Amz-Content-SHA256": sha256(body).hexdigest()}
        request = AWSRequest(method=method, url=url, data=body, headers=signed)
        auth.add_auth(request)
        return dict(request.headers.items())


@asynccontextmanager
async def open_signer(service: str, aws: AwsSettings | None, context: SinkContext) -> AsyncIterator[Signer]:
    """A signer for the length of the block.

    A client hands its signer to whoever listens for `before-sign`; a URL that is signed in advance makes it sign once,
    without a request to anybody.

    Raises:
        ConfigError: there are no credentials.
    """
    async with context.aws_client("sts", aws=aws) as client:
        found: list[Any] = []

        def take(*, request_signer: Any, **_: object) -> None:
            found.append(request_signer)

        client.meta.events.register("before-sign.sts.GetCallerIdentity", take)
        try:
            await client.generate_presigned_url("get_caller_identity")
        except BotoCoreError as error:
            raise ConfigError(
                f"opensearch: requests cannot be signed for {service}: {error}; give credentials of AWS to the "
                "environment, or name a profile or role in aws"
            ) from error
        yield Signer(found[0], service=service, region=client.meta.region_name)
