"""What the answers of the server mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
import pytest

from streamflow_opensearch import answers
from streamflow_opensearch.answers import OpenSearchError
from streamflow_opensearch.documents import Stored

if TYPE_CHECKING:
    from streamflow_opensearch.settings import Versioning


def item(status: int, kind: str | None = None, reason: str = "what it says") -> dict[str, Any]:
    return {"status": status} | ({} if kind is None else {"error": {"type": kind, "reason": reason}})


@pytest.mark.parametrize(
    ("found", "versioning", "kind"),
    [
        (item(201), "ordered", None),
        (item(200) | {"result": "noop"}, "scripted", None),
        (item(404) | {"result": "not_found"}, "ordered", None),
        (item(409, "version_conflict_engine_exception"), "external", None),
        (item(409, "version_conflict_engine_exception"), "compared", "failed"),
        (item(404, "index_not_found_exception"), "ordered", "failed"),
        (item(429, "es_rejected_execution_exception"), "ordered", "waiting"),
        (item(503, "unavailable_shards_exception"), "ordered", "waiting"),
        (item(400, "mapper_parsing_exception"), "ordered", "refused"),
        (item(400, "document_parsing_exception"), "ordered", "refused"),
        (item(400, "illegal_argument_exception"), "scripted", "refused"),
        (item(400, "illegal_argument_exception", "cannot execute [inline] scripts"), "scripted", "failed"),
        (item(400, "invalid_index_name_exception"), "ordered", "failed"),
        (item(403, "security_exception"), "ordered", "failed"),
        (item(500, "exception"), "ordered", "failed"),
    ],
)
def test_each_status_says_what_to_do(found: dict[str, Any], versioning: Versioning, kind: str | None) -> None:
    rejection = answers.rejection(found, versioning)
    assert (rejection and rejection.kind) == kind
    assert rejection is None or "what it says" not in rejection.reason


def test_an_older_version_is_told_apart_from_a_conflict() -> None:
    assert answers.is_older(item(409), "external")
    assert not answers.is_older(item(409), "compared")
    assert answers.is_older({"status": 200, "result": "noop"}, "scripted")


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"{}", b'{"items":[]}'])
def test_an_answer_to_something_else_is_an_error(body: bytes) -> None:
    with pytest.raises(OpenSearchError):
        answers.items(body, expected=1)
    with pytest.raises(OpenSearchError):
        answers.stored(body, expected=1)


def test_what_is_stored_is_there_missing_or_written_by_somebody_else() -> None:
    there = {"found": True, "_seq_no": 3, "_primary_term": 1}
    documents: list[dict[str, Any]] = [
        there | {"_source": {"_sf_seq": "0011"}},
        there,
        there | {"_source": {"_sf_seq": 1}},
        {"found": False},
        {"error": {"type": "index_not_found_exception"}},
    ]
    assert answers.stored(orjson.dumps({"docs": documents}), expected=5) == [
        Stored(found=True, sequence="0011", seq_no=3, primary_term=1),
        Stored(found=True, seq_no=3, primary_term=1),
        Stored(found=True, seq_no=3, primary_term=1),
        Stored(found=False),
        Stored(found=False),
    ]


def test_a_document_that_cannot_be_looked_at_is_an_error() -> None:
    body = orjson.dumps({"docs": [{"error": {"type": "security_exception", "reason": "what it says"}}]})
    with pytest.raises(OpenSearchError, match="security_exception") as found:
        answers.stored(body, expected=1)
    assert "what it says" not in str(found.value)
