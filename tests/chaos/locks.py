"""Whether a stopped process holds everybody up: SQLite's write lock stays with a writer that is stopped inside a transaction.

No protocol over the rows can help then: nobody can write a row. So such a pause counts as what it is, an outage of the
store, for as long as it lasts. A killed process leaves no lock behind.
"""

from __future__ import annotations

from pathlib import Path

# WAL_WRITE_LOCK: a byte of the file beside the database that ends in -shm, in SQLite's documents on the WAL-index.
_WRITE_LOCK = ["120", "120"]


def holds_write_lock(pid: int, locks: str | None = None) -> bool:
    """`locks` is the text of /proc/locks."""
    text = Path("/proc/locks").read_text() if locks is None else locks
    return any(_is_held_by(line.split(), pid) for line in text.splitlines())


def _is_held_by(fields: list[str], pid: int) -> bool:
    """`1: POSIX ADVISORY WRITE 4711 fe:00:2154500 120 120`; one that only waits for it has an arrow in front."""
    return fields[1:5] == ["POSIX", "ADVISORY", "WRITE", str(pid)] and fields[-2:] == _WRITE_LOCK
