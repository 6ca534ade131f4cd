"""`python -m reliability`: make the sections of docs/reliability.md anew from what is kept beside it."""

from __future__ import annotations

from reliability.figures import SECTIONS
from reliability.sections import write_section

for name, render in SECTIONS.items():
    write_section(name, render())
