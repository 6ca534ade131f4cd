"""Mistakes in a declaration, each in one line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from streamflow.sdk.settings import is_secret

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

_CREDENTIALS = re.compile(r"://[^/?#]*@")  # of a URL


def problem(detail: ErrorDetails, model: type[BaseModel] | None = None) -> str:
    """What is wrong, where, and what was found. What a secret field of `model` holds is not shown,
    and no URL with credentials in it."""
    message = detail["msg"].removeprefix("Value error, ")
    found = detail.get("input")
    secret = model is not None and bool(detail["loc"]) and is_secret(model, str(detail["loc"][0]))
    shown = (
        isinstance(found, str | int | float | bool) and len(str(found)) <= 80 and not _CREDENTIALS.search(str(found))
    )
    if secret or not shown or detail["type"] == "extra_forbidden":
        return f"{place(detail)}: {message}"
    return f"{place(detail)}: {message} (found {found!r})"


def place(detail: ErrorDetails) -> str:
    """The path of the field, with dots."""
    return ".".join(str(part) for part in detail["loc"]) or "declaration"
