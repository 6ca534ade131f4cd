"""What IAM calls a call. Its prefix and its action are those of the service's model, but for the few that are told here."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from streamflow.sdk import Permission
from streamflow_aws.parameters import texts_in

if TYPE_CHECKING:
    from collections.abc import Mapping

# Operations that are permitted under another name, and services whose prefix is not that of their signature.
_ACTIONS: Mapping[str, str] = {
    "lambda:Invoke": "lambda:InvokeFunction",
    "s3:CopyObject": "s3:PutObject",
    "s3:DeleteObjects": "s3:DeleteObject",
    "s3:HeadBucket": "s3:ListBucket",
    "s3:HeadObject": "s3:GetObject",
    "s3:ListObjectsV2": "s3:ListBucket",
    "sns:PublishBatch": "sns:Publish",
    "sqs:SendMessageBatch": "sqs:SendMessage",
}
_PREFIXES: Mapping[str, str] = {"cloudwatch": "cloudwatch", "iot-data": "iot"}


def permission(service: str, operation: str, parameters: Mapping[str, Any]) -> Permission:
    """For the resources that the parameters name by ARN; where they name none, for all of the service."""
    action = f"{_PREFIXES.get(service) or _signing_name(service)}:{operation}"
    named = tuple(dict.fromkeys(text for text in texts_in(parameters) if text.startswith("arn:") and "${" not in text))
    return Permission(
        purpose=f"call {service} {operation}", actions=(_ACTIONS.get(action, action),), resources=named or ("*",)
    )


@cache
def _signing_name(service: str) -> str:
    """Reads the service's model from the disk; a service that there is not keeps its name, and opening the sink tells."""
    from botocore.exceptions import UnknownServiceError
    from botocore.session import Session

    try:
        metadata: Mapping[str, str] = Session().get_service_model(service).metadata
    except UnknownServiceError:
        return service
    return metadata.get("signingName") or metadata["endpointPrefix"]
