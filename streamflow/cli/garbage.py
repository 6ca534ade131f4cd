"""When Python looks for objects that only refer to each other: not while a worker starts, and seldom after that.

For the processes of `streamflow run` alone: whoever embeds a worker decides for the whole of his process. What a target sets
when it is imported stays.
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

YOUNG_MAX = 50_000
"""So many more objects made than gone before the young ones are looked through; Python's own number is 700.

One batch of 100 records as Lambda events is thousands of objects while its handler runs, all of which go without being looked
for. CPU time with 700 and with this number, medians of three interleaved rounds: 44 and 22 µs for a record as a Lambda
event, 20 and 17 µs for one whose images are read, 543 and 386 µs for a poll of one of a thousand idle shards. A handler
that counts gains nothing.
"""


@contextmanager
def put_off() -> Iterator[None]:
    """Nothing is looked for in the block, until `settle`: while modules load nearly all that is made stays."""
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    gc.set_threshold(0)
    try:
        yield
    finally:
        if not frozen:  # else what others have frozen would be looked through again
            gc.unfreeze()
        gc.set_threshold(*before)


def settle() -> None:
    """The worker has started: what is there stays, and is never looked through again; the rest is, but seldom.

    Going through all that a started worker has took 65 ms, and 166 ms with a thousand shards, in which nothing is polled or
    delivered. Some 4,000 objects of 100,000 that only the start needed stay too.
    """
    if gc.get_threshold()[0] == 0:
        gc.freeze()
        gc.set_threshold(YOUNG_MAX)
