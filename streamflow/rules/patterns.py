"""FilterCriteria compiled to closures. (stub, replaced at once)"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from streamflow.errors import PatternError as PatternError


def compile_pattern(text: str, *, extensions: bool = False) -> Callable[[Mapping[str, Any]], bool]:
    raise PatternError("not yet")
