"""Everything that a plugin may import; what is not here, or in `streamflow` itself, may change without notice."""

from streamflow.batches import Batch
from streamflow.clock import Clock
from streamflow.errors import (
    ConfigError,
    FencedError,
    LambdaFunctionError,
    MalformedRecordError,
    PartialFailure,
    RecordRefusedError,
    SinkBusyError,
    StreamflowError,
)
from streamflow.failures import RecordFailure, RecordsFailedError
from streamflow.payloads import PayloadForm, image_json, payload, table_of
from streamflow.positions import Position, sortable
from streamflow.protocols import TransactionalWriter, Writer
from streamflow.records import Record, Shard
from streamflow.rules.requests import newest, packed, waves
from streamflow.rules.responses import accept_response
from streamflow.sdk.capabilities import Capabilities
from streamflow.sdk.context import SinkContext
from streamflow.sdk.declarations import (
    API_VERSION,
    DestinationDeclaration,
    DestinationPlugin,
    MiddlewarePlugin,
    SinkDeclaration,
    SinkPlugin,
    StorePlugin,
)
from streamflow.sdk.encoding import BEHIND_IN_SHARD, Encoded, encode_in_order
from streamflow.sdk.permissions import Permission, nothing_at_aws, resource_arn
from streamflow.sdk.requests import BEHIND, Answers, Rejection, write_in_requests
from streamflow.sdk.settings import AwsSettings, Settings

__all__ = [
    "API_VERSION",
    "BEHIND",
    "BEHIND_IN_SHARD",
    "Answers",
    "AwsSettings",
    "Batch",
    "Capabilities",
    "Clock",
    "ConfigError",
    "DestinationDeclaration",
    "DestinationPlugin",
    "Encoded",
    "FencedError",
    "LambdaFunctionError",
    "MalformedRecordError",
    "MiddlewarePlugin",
    "PartialFailure",
    "PayloadForm",
    "Permission",
    "Position",
    "Record",
    "RecordFailure",
    "RecordRefusedError",
    "RecordsFailedError",
    "Rejection",
    "Settings",
    "Shard",
    "SinkBusyError",
    "SinkContext",
    "SinkDeclaration",
    "SinkPlugin",
    "StorePlugin",
    "StreamflowError",
    "TransactionalWriter",
    "Writer",
    "accept_response",
    "encode_in_order",
    "image_json",
    "newest",
    "nothing_at_aws",
    "packed",
    "payload",
    "resource_arn",
    "sortable",
    "table_of",
    "waves",
    "write_in_requests",
]
