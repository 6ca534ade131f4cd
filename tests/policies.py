"""The grammar of IAM's JSON policies, as far as ours use it."""

from __future__ import annotations

import re
from typing import Any

_ACTION = re.compile(r"[a-z0-9-]+:[A-Za-z0-9]+")
_RESOURCE = re.compile(r"arn:aws[a-z-]*:[a-z0-9-]+:(\*|[a-zA-Z0-9_-]*):(\*|[a-zA-Z0-9_]*):[^\s{}]+")
_SID = re.compile(r"[A-Za-z0-9]+")


def check_policy(document: dict[str, Any]) -> dict[str, Any]:
    """Fails where the document is none, or allows more than it names; the answer is the document."""
    assert set(document) == {"Version", "Statement"}
    assert document["Version"] == "2012-10-17"
    sids = [statement["Sid"] for statement in document["Statement"]]
    assert len(set(sids)) == len(sids)
    for statement in document["Statement"]:
        assert set(statement) == {"Sid", "Effect", "Action", "Resource"}
        assert _SID.fullmatch(statement["Sid"])
        assert statement["Effect"] == "Allow"
        assert statement["Action"]
        assert all(_ACTION.fullmatch(action) for action in statement["Action"]), statement
        assert statement["Resource"]
        assert all(each == "*" or _RESOURCE.fullmatch(each) for each in statement["Resource"]), statement
    return document


def actions(document: dict[str, Any]) -> set[str]:
    return {action for statement in document["Statement"] for action in statement["Action"]}


def resources(document: dict[str, Any], action: str) -> list[str]:
    """Of one action, in order."""
    return [each for st in document["Statement"] if action in st["Action"] for each in st["Resource"]]
