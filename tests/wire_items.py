"""Hypothesis strategies for items as the wire has them: every type, nested, with what people put into strings."""

from __future__ import annotations

import base64
from decimal import Context

from hypothesis import strategies as st

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
digits = st.text("0123456789", min_size=1, max_size=38).map(lambda text: text.lstrip("0") or "0")
numbers = st.builds(
    lambda sign, text, exponent: str(Context(prec=38).create_decimal(f"{sign}{text}E{exponent}")),
    st.sampled_from(["", "-"]),
    digits,
    st.integers(-125, 87),
)
binaries = st.binary(max_size=30).map(lambda data: base64.b64encode(data).decode())
scalars = (
    texts.map(lambda value: {"S": value})
    | numbers.map(lambda value: {"N": value})
    | binaries.map(lambda value: {"B": value})
    | st.booleans().map(lambda value: {"BOOL": value})
    | st.just({"NULL": True})
    | st.lists(texts, min_size=1, max_size=4, unique=True).map(lambda values: {"SS": values})
    | st.lists(numbers, min_size=1, max_size=4, unique=True).map(lambda values: {"NS": values})
    | st.lists(binaries, min_size=1, max_size=4, unique=True).map(lambda values: {"BS": values})
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4).map(lambda members: {"L": members})
        | st.dictionaries(texts, inner, max_size=4).map(lambda members: {"M": members})
    ),
    max_leaves=10,
)
items = st.dictionaries(texts, values, max_size=6)
