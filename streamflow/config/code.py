"""Keys of a pipeline file that name code: imported and looked at while the file is validated."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

from streamflow.errors import ConfigError
from streamflow.pipeline import LambdaFunction
from streamflow.targets import TARGET_PATTERN, load_module, load_target

if TYPE_CHECKING:
    from collections.abc import Callable


def imported(value: object, info: ValidationInfo) -> object:
    """What the target names; the validation context holds the `directory` of the file."""
    if not isinstance(value, str):
        raise ValueError("should be module:name or path/file.py:name")  # noqa: TRY004 - pydantic collects ValueErrors
    try:
        return load_target(value, directory=_directory(info))
    except ConfigError as error:
        raise ValueError(" · ".join(error.problems)) from None


def _directory(info: ValidationInfo) -> Path:
    directory: Path = (info.context or {}).get("directory", Path())
    return directory


def handler_target(value: object, info: ValidationInfo) -> object:
    """The handler that `module:name` names; None stays None."""
    if value is None:
        return None
    found = imported(value, info)
    if isinstance(found, LambdaFunction) or (hasattr(found, "__aexit__") and not inspect.isclass(found)):
        return found
    return _function(value, found, "a batch", object())


def _predicate(value: object, info: ValidationInfo) -> object:
    return _function(value, imported(value, info), "a record", object())


def _factory(value: object, info: ValidationInfo) -> object:
    return _function(value, imported(value, info), "")


def _lambda_target(value: object, info: ValidationInfo) -> object:
    function = _function(value, imported(value, info), "event and context", object(), object())
    if inspect.iscoroutinefunction(function):
        raise ValueError(f"{value} is async: AWS Lambda calls plain functions; give it as handler")
    place, _, name = str(value).rpartition(":")
    # By the module's name: a path would be looked for in the current directory, and the file imported a second time.
    return f"{load_module(place, directory=_directory(info)).__name__}:{name}"


def _function(target: object, found: object, called_with: str, *arguments: object) -> Callable[..., Any]:
    if not callable(found) or inspect.isclass(found):
        raise ValueError(f"{target} is {_kind(found)}, not a function")
    if called_with and not accepts(found, *arguments):
        raise ValueError(f"{target}{inspect.signature(found)} cannot be called with {called_with}")
    return found


def accepts(function: Callable[..., Any], *arguments: object) -> bool:
    """Whether `function(*arguments)` fits its parameters; true where Python does not know them."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        return True
    try:
        signature.bind(*arguments)
    except TypeError:
        return False
    return True


def _kind(found: object) -> str:
    if inspect.isclass(found):
        return f"the class {found.__name__}"
    if inspect.ismodule(found):
        return f"the module {found.__name__}"
    return f"a value of type {type(found).__name__}"


_NAMES_CODE = WithJsonSchema({"type": "string", "pattern": TARGET_PATTERN})
HandlerTarget: TypeAlias = Annotated[Any, PlainValidator(handler_target), _NAMES_CODE]
PredicateTarget: TypeAlias = Annotated[Any, PlainValidator(_predicate), _NAMES_CODE]
FactoryTarget: TypeAlias = Annotated[Any, PlainValidator(_factory), _NAMES_CODE]
LambdaTarget: TypeAlias = Annotated[str, PlainValidator(_lambda_target), _NAMES_CODE]
