"""What the sinks of AWS have in common to choose."""

from __future__ import annotations

from streamflow.sdk import AwsSettings, PayloadForm, Settings


class AwsSinkSettings(Settings):
    """Every sink has them."""

    aws: AwsSettings | None = None
    """How to reach AWS; by default as the pipeline gets to its stream."""


class PayloadSettings(AwsSinkSettings):
    """Of sinks that send each record by itself."""

    payload: PayloadForm = "lambda"
    """What is sent of a record: an element of a Lambda event, the new image, or the change with both images."""
