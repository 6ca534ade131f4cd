"""Parameters of a call: compared with what the operation takes, then filled for each record. Values are never parsed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeAlias

from streamflow_aws.record_values import check_name
from streamflow_aws.templates import Template, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Place:
    """A text to fill. `typed`: it stands for a value as it is, which need not be a text."""

    template: Template
    typed: bool


Filled: TypeAlias = Any
Compiled: TypeAlias = "Place | dict[str, Compiled] | list[Compiled] | int | float | bool | None"

# What takes a text; a timestamp takes a number, too.
_TEXTS = frozenset({"string", "character", "blob"})
_ANY = "document"


def check_templates(parameters: object) -> None:
    """Raises `ValueError`: a place is not closed, or names nothing of a record."""
    for text in texts_in(parameters):
        for name in parse(text, opening="${").names:
            check_name(name)


def compiled(parameters: Mapping[str, Any], shape: Any) -> dict[str, Compiled]:
    """The parameters as `filled` takes them. `shape` is botocore's, of the operation's input; None where it has none.

    Raises:
        ValueError: they are not what the operation takes; the message has a line for each mistake.
    """
    from botocore.validate import ParamValidator

    problems: list[str] = []
    made: dict[str, Compiled] = _structure(parameters, shape, "", problems)
    if not problems and shape is not None:
        report = ParamValidator().validate(_sample(made, shape), shape)
        problems += report.generate_report().splitlines() if report.has_errors() else []
    if problems:
        raise ValueError("\n".join(problems))
    return made


def filled(parameters: Compiled, text: Callable[[str], str], value: Callable[[str], Any]) -> Filled:
    """With what `text` and `value` say for each name."""
    match parameters:
        case Place(template=template, typed=typed):
            return value(template.only) if typed and template.only is not None else template.text(text)
        case dict():
            return {name: filled(each, text, value) for name, each in parameters.items()}
        case list():
            return [filled(each, text, value) for each in parameters]
    return parameters


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """That there is no such thing, and what may have been meant."""
    names = sorted(known)
    meant = get_close_matches(name, names, n=1, cutoff=0.6)
    if meant:
        return f"there is no {what} {name!r}: did you mean {meant[0]!r}?"
    return f"there is no {what} {name!r}: there are {', '.join(names[:30])}{', …' if len(names) > 30 else ''}"


# --- parameters and shapes -------------------------------------------------------------------------------------------


def _structure(parameters: Mapping[str, Any], shape: Any, at: str, problems: list[str]) -> dict[str, Compiled]:
    members = {} if shape is None else shape.members
    made: dict[str, Compiled] = {}
    for name, each in parameters.items():
        if name in members:
            made[name] = _compile(each, members[name], f"{at}{name}", problems)
        else:
            problems.append(unknown("parameter", f"{at}{name}", [f"{at}{member}" for member in members]))
    return made


def _compile(value: Any, shape: Any, at: str, problems: list[str]) -> Compiled:
    kind = _ANY if shape is None or getattr(shape, "is_document_type", False) else shape.type_name
    match value:
        case str():
            return Place(parse(value, opening="${"), typed=kind not in _TEXTS)
        case Mapping() if kind == "structure":
            return _structure(value, shape, f"{at}.", problems)
        case Mapping() if kind in {"map", _ANY}:
            inner = shape.value if kind == "map" else None
            return {name: _compile(each, inner, f"{at}.{name}", problems) for name, each in value.items()}
        case Sequence() if kind in {"list", _ANY}:
            inner = shape.member if kind == "list" else None
            return [_compile(each, inner, f"{at}[{place}]", problems) for place, each in enumerate(value)]
        case Mapping() | Sequence():
            problems.append(f"{at} takes a {kind}, not {type(value).__name__}")
            return None
    plain: int | float | bool | None = value
    return plain


def _sample(value: Compiled, shape: Any) -> Any:
    """Parameters that botocore's own check can judge: with something fitting where a record's values will stand."""
    match value:
        case Place(template=template, typed=typed):
            if not template.names:
                return template.texts[0]
            return _fitting(shape) if typed and template.only is not None else "x" * _least(shape)
        case dict():
            return {name: _sample(each, _member(shape, name)) for name, each in value.items()}
        case list():
            return [_sample(each, _member(shape, None)) for each in value]
    return value


def _fitting(shape: Any) -> Any:
    match None if shape is None else shape.type_name:
        case "integer" | "long":
            return _least(shape)
        case "float" | "double":
            return float(_least(shape))
        case "boolean":
            return True
        case "timestamp":
            return 0
        case "list":
            return [_fitting(shape.member)] * _least(shape)
        case "map":
            return {"x": _fitting(shape.value)}
        case "structure":
            return {name: _fitting(shape.members[name]) for name in shape.required_members}
    return "x" * _least(shape)


def _least(shape: Any) -> int:
    return max(1, int(shape.metadata.get("min", 1))) if shape is not None else 1


def _member(shape: Any, name: str | None) -> Any:
    match None if shape is None or getattr(shape, "is_document_type", False) else shape.type_name:
        case "structure":
            return shape.members[name]
        case "map":
            return shape.value
        case "list":
            return shape.member
    return None


def texts_in(value: object) -> Iterator[str]:
    """Every text of a nested value, in order."""
    match value:
        case str():
            yield value
        case Mapping():
            for each in value.values():
                yield from texts_in(each)
        case Sequence():
            for each in value:
                yield from texts_in(each)
