"""A table of a pipeline file: a declaration whose mistakes are collected instead of raised one by one."""

from __future__ import annotations

from pydantic import BaseModel

from streamflow.declaration import Declaration


class Table(Declaration):
    """Unlike `Declaration`, validation raises pydantic's `ValidationError`, which holds the mistakes of inner tables too."""

    __init__ = BaseModel.__init__  # pyright: ignore[reportAssignmentType] - pydantic knows its own by identity
