"""Every kind of fault is performed by somebody, and none is drawn that nobody declared."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import pytest

import streamflow.testing.simulation
from streamflow.testing.simulation.draws import Draws
from streamflow.testing.simulation.faults import KINDS, Faults

_PACKAGE = Path(streamflow.testing.simulation.__file__).parent
_DRAWN_TOGETHER_MAX = 8


def _texts() -> Counter[str]:
    """Every text in the modules that perform faults."""
    return Counter(
        node.value
        for path in sorted(_PACKAGE.rglob("*.py"))
        if path.name != "faults.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def test_every_kind_is_named_where_it_is_performed() -> None:
    texts = _texts()
    assert [kind for kind in KINDS if not texts[kind]] == []


def test_a_text_that_looks_like_a_kind_is_one() -> None:
    fronts = {kind.partition(".")[0] for kind in KINDS}
    looks = {text for text in _texts() if text.count(".") == 1 and text.partition(".")[0] in fronts and " " not in text}
    assert looks - KINDS.keys() == set()


@pytest.mark.parametrize("site", sorted({kind.site for kind in KINDS.values()}))
def test_no_site_has_more_kinds_than_one_draw_has_numbers(site: str) -> None:
    assert sum(kind.site == site for kind in KINDS.values()) <= _DRAWN_TOGETHER_MAX
    faults = Faults(Draws(1), rates=dict.fromkeys(KINDS, 1.0))
    assert faults.at(site, "anywhere") == next(name for name, kind in KINDS.items() if kind.site == site)
