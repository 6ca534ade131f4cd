"""What a destination of AWS calls, and on what."""

from __future__ import annotations

from streamflow.errors import ConfigError
from streamflow.sdk.permissions import Permission


def destination_permission(arn: str) -> Permission:
    """For the destination with this ARN. Where it is encrypted with a key of KMS, that key has a say, too.

    Raises:
        ConfigError: no destination has such an ARN.
    """
    match arn.split(":", 5):
        case ["arn", _, "sqs", _, _, name]:
            # The URL is looked up; where that is refused, it is the one that every queue has.
            return _permission(name, arn, "sqs:GetQueueUrl", "sqs:SendMessage")
        case ["arn", _, "sns", _, _, name]:
            return _permission(name, arn, "sns:Publish")
        case ["arn", _, "s3", "", "", bucket]:
            return _permission(bucket, f"{arn}/aws/lambda/*", "s3:PutObject")
    raise ConfigError(f"{arn!r} is no destination: name the ARN of an SQS queue, of an SNS topic, or of an S3 bucket")


def _permission(name: str, resource: str, *actions: str) -> Permission:
    return Permission(purpose=f"hand over failed batches to {name}", actions=actions, resources=(resource,))
