"""What the operating system lets a worker have, looked at before it starts."""

from __future__ import annotations

import logging
import resource

FILES_WANTED = 65_536
FILES_MIN = 512
"""Connections to AWS and to sinks, the store, the admin server, what handlers open: with fewer a busy worker may run out."""

_logger = logging.getLogger("streamflow")


def raise_files() -> None:
    """Have this process open as many files and connections as it may, and say where that is too few.

    The usual soft limit of 1,024 is there for programs that use `select`, and may be raised by whoever does not.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, FILES_WANTED)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    if soft != resource.RLIM_INFINITY and soft < FILES_MIN:
        _logger.warning("few files may be opened limit=%d, of at least %d: raise `ulimit -n`", soft, FILES_MIN)
