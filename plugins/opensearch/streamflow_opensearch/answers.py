"""What the answers to requests mean. Pure, and without a word of the server's own, which may quote a document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from streamflow.sdk import Rejection, StreamflowError
from streamflow_opensearch.documents import Stored

if TYPE_CHECKING:
    from collections.abc import Mapping

    from streamflow_opensearch.settings import Versioning

FIELDS = "items.*.status,items.*.result,items.*.error.type,items.*.error.reason"
"""All that is looked at, as `filter_path`: the rest of an answer can be larger than its request."""

# The document is at fault: no repetition will do.
_REFUSED = frozenset(
    {
        "mapper_parsing_exception",
        "document_parsing_exception",
        "strict_dynamic_mapping_exception",
        "illegal_argument_exception",
        "parsing_exception",
        "parse_exception",
        "x_content_parse_exception",
    }
)
# The server's setting is at fault, under the name of an illegal argument.
_NO_SCRIPTS = "cannot execute"


class OpenSearchError(StreamflowError):
    """The server failed, or answered what nobody expects; whether it has written is not known."""


def items(body: bytes, *, expected: int) -> list[dict[str, Any]]:
    """What became of each entry, in order.

    Raises:
        OpenSearchError: the answer is not one to this request.
    """
    answer = _parsed(body)
    found = answer.get("items")
    if not isinstance(found, list) or len(found) != expected:
        raise OpenSearchError(f"the answer to _bulk does not tell of {expected} entries")
    return [next(iter(item.values())) for item in found]


def rejection(item: Mapping[str, Any], versioning: Versioning) -> Rejection | None:
    """None for an entry that is written, or need not be."""
    status, error = item["status"], item.get("error") or {}
    kind = str(error.get("type", ""))
    reason = f"status {status}" + (f", {kind}" if kind else "")
    if status < 300 or is_older(item, versioning):
        return None
    if status == 404 and not kind:
        return None  # a delete of what is not there
    if status in {429, 503}:
        return Rejection("waiting", reason)
    if status == 413 or (status == 400 and kind in _REFUSED and _NO_SCRIPTS not in str(error.get("reason", ""))):
        return Rejection("refused", reason)
    return Rejection("failed", reason)


def is_older(item: Mapping[str, Any], versioning: Versioning) -> bool:
    """The document that is there is as new as this one, or newer: it was left alone."""
    return item.get("result") == "noop" or (versioning == "external" and item["status"] == 409)


def stored(body: bytes, *, expected: int) -> list[Stored]:
    """What is there of the documents that `_mget` was asked for, in order.

    Raises:
        OpenSearchError: the answer is not one to this request, or a document cannot be looked at.
    """
    found = _parsed(body).get("docs")
    if not isinstance(found, list) or len(found) != expected:
        raise OpenSearchError(f"the answer to _mget does not tell of {expected} documents")
    return [_stored(document) for document in found]


def _stored(document: Mapping[str, Any]) -> Stored:
    if "error" in document:
        kind = document["error"].get("type", "unknown")
        if kind == "index_not_found_exception":
            return Stored(found=False)
        raise OpenSearchError(f"a document cannot be looked at: {kind}")
    if not document.get("found"):
        return Stored(found=False)
    sequence = document.get("_source", {}).get("_sf_seq")
    return Stored(
        found=True,
        sequence=sequence if isinstance(sequence, str) else None,
        seq_no=document["_seq_no"],
        primary_term=document["_primary_term"],
    )


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise OpenSearchError("the answer is no JSON: is a proxy in between?") from None
    if not isinstance(answer, dict):
        raise OpenSearchError("the answer is no JSON object")
    return answer
