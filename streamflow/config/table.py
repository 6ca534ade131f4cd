"""A table of a pipeline file: a declaration whose mistakes are collected instead of raised one by one."""

from __future__ import annotations

from typing import get_args

from pydantic import BaseModel, ValidationInfo, field_validator

from streamflow.pipeline import Declaration


class Table(Declaration):
    """Unlike `Declaration`, validation raises pydantic's `ValidationError`, which holds the mistakes of inner tables too."""

    __init__ = BaseModel.__init__  # pyright: ignore[reportAssignmentType] - pydantic knows its own by identity

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_is_a_number(cls, value: object, info: ValidationInfo) -> object:
        # Strings do become numbers: that is how "${PORT}" fills one.
        annotation = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and {annotation, *get_args(annotation)} & {int, float}:
            raise ValueError(f"should be a number, not {str(value).lower()}")
        return value
