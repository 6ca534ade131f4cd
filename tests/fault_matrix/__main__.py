"""`python -m fault_matrix docs/fault-matrix.json docs/fault-matrix.md` makes the page from what the tests found."""

from __future__ import annotations

import sys
from pathlib import Path

from fault_matrix.page import render
from fault_matrix.results import load
from fault_matrix.rows import ROWS

source, target = map(Path, sys.argv[1:3])
target.write_text(render(ROWS, load(source)), encoding="utf-8")
