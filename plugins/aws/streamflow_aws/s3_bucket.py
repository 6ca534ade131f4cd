"""The few calls that the writers of a bucket make, each with its condition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streamflow_aws.errors import AwsCallError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamflow_aws.clients import Client

BUSY_CODES = frozenset({"ConditionalRequestConflict", "OperationAborted", "ServiceUnavailable"})
_MISSING_CODES = frozenset({"404", "NoSuchKey", "NotFound"})


class OvertakenError(Exception):
    """The condition of a put does not hold: somebody else has put the object, or another version of it."""


@dataclass(frozen=True, slots=True)
class Bucket:
    client: Client
    name: str

    async def create(self, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str]) -> str:
        """Put an object that is not there, and return its version.

        Raises:
            OvertakenError: it is there.
        """
        return await self._put(key, body, content_type=content_type, metadata=metadata, condition={"IfNoneMatch": "*"})

    async def replace(self, key: str, body: bytes, *, version: str | None) -> str:
        """Put a small object in the place of this version of it, None for none.

        Raises:
            OvertakenError: there is another version.
        """
        condition = {"IfNoneMatch": "*"} if version is None else {"IfMatch": version}
        return await self._put(key, body, content_type="application/json", metadata={}, condition=condition)

    async def get(self, key: str) -> tuple[bytes, str] | None:
        """The object and its version; None where there is none."""
        try:
            answer = await self.client.call("get_object", Bucket=self.name, Key=key)
        except AwsCallError as error:
            if error.code in _MISSING_CODES:
                return None
            raise
        try:
            return await answer["Body"].read(), str(answer["ETag"])
        except Exception as error:  # noqa: BLE001 - botocore, aiohttp and the socket raise what they like
            raise AwsCallError(
                f"get_object: the answer broke off ({type(error).__name__})", kind="failed", code=type(error).__name__
            ) from None

    async def metadata(self, key: str) -> Mapping[str, str] | None:
        """What the object says of itself; None where there is none."""
        try:
            answer = await self.client.call("head_object", Bucket=self.name, Key=key)
        except AwsCallError as error:
            if error.code in _MISSING_CODES:
                return None
            raise
        found: Mapping[str, str] = answer["Metadata"]
        return found

    async def _put(
        self, key: str, body: bytes, *, content_type: str, metadata: Mapping[str, str], condition: Mapping[str, str]
    ) -> str:
        try:
            answer = await self.client.call(
                "put_object",
                Bucket=self.name,
                Key=key,
                Body=body,
                ContentType=content_type,
                Metadata=dict(metadata),
                **condition,
            )
        except AwsCallError as error:
            # A version that is to be replaced may also be gone.
            if error.code == "PreconditionFailed" or ("IfMatch" in condition and error.code in _MISSING_CODES):
                raise OvertakenError from None
            raise
        return str(answer["ETag"])
