"""What is watched: a record, a batch, a page, an empty poll and a shard, each the difference between two scenes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from guard.costs import Figure, count
from guard.scenes import Scene, look_at_nothing
from guard.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from streamflow.batches import Batch


def scene(
    *,
    shards: int = 1,
    pages: int = 4,
    records: int = 100,
    empty_pages: int = 0,
    batch_size: int = 100,
    look: Callable[[Batch], object] = look_at_nothing,
    caught_up: bool = False,
    whole: bool = False,
    **options: Any,
) -> Scene:
    return Scene(
        stream=Stream(shards=shards, pages=pages, records=records, empty_pages=empty_pages),
        batch_size=batch_size,
        look=look,
        options=options,
        caught_up=caught_up,
        whole=whole,
    )


def warm_up() -> None:
    """Have done what is only done at first use."""
    count(scene(pages=1, records=10, empty_pages=2, whole=True))


def _of_a_record(name: str, words: str, look: Callable[[Batch], object], **options: Any) -> Figure:
    """Pages and batches are as many, and larger: so large that each page is one batch, or one for each lane."""
    less, more = (scene(records=records, batch_size=1_000, look=look, **options) for records in (200, 600))
    return Figure(name=name, words=words, unit="records", less=less, more=more)


def read_new_images(batch: Batch) -> None:
    for record in batch:
        assert record.new_image is not None


def make_event(batch: Batch) -> None:
    assert batch.lambda_event()


def splice_event(batch: Batch) -> None:
    assert batch.lambda_event_json()


_RULES: dict[str, Any] = {
    "filters": ['{"eventName": ["INSERT"]}', '{"dynamodb": {"Keys": {"line": {"N": ["7"]}}}}'],
    "parallelization_factor": 4,
}

FIGURES = (
    _of_a_record("record", "a record, whose handler looks at nothing", look_at_nothing),
    _of_a_record("record_new_image", "a record, whose handler reads the new image", read_new_images),
    _of_a_record("record_lambda_event", "a record, whose handler takes the Lambda event as objects", make_event),
    _of_a_record("record_splice", "a record, whose handler takes the Lambda event as JSON", splice_event),
    _of_a_record("record_rules", "a record that passes two filters into one of four lanes", look_at_nothing, **_RULES),
    Figure(
        name="batch",
        words="a batch, its records not included",
        unit="batches",
        less=scene(pages=2, records=1_000, batch_size=100),
        more=scene(pages=2, records=1_000, batch_size=50),
    ),
    Figure(
        name="page",
        words="a page with records, its records and batches not included",
        unit="pages",
        less=scene(pages=4, records=200, batch_size=100),
        more=scene(pages=8, records=100, batch_size=100),
    ),
    Figure(
        name="empty_poll",
        words="a poll that finds nothing, and the waiting for the next one",
        unit="empty_polls",
        less=scene(shards=20, pages=1, records=10, empty_pages=2, caught_up=True),
        more=scene(shards=20, pages=1, records=10, empty_pages=6, caught_up=True),
    ),
    Figure(
        name="shard",
        words="a shard from taking its lease to closing its row, with one page of 10 records",
        unit="shards",
        along=frozenset({"pages", "batches", "records"}),
        less=scene(shards=5, pages=1, records=10, whole=True),
        more=scene(shards=25, pages=1, records=10, whole=True),
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The same with few and with many shards: what each unit costs must not grow with their number."""

    name: str
    few: Figure
    many: Figure


def _page_of(shards: int, *, less: int, more: int) -> Figure:
    # Caught up, and with an empty page before the end: all shards go from page to page together.
    scenes = [scene(shards=shards, pages=pages, records=20, empty_pages=1, caught_up=True) for pages in (less, more)]
    along = frozenset({"batches", "records"})
    return Figure(
        name=f"page_of_{shards}_shards",
        words=f"a page of 20 records and its batch, with {shards} shards",
        unit="pages",
        along=along,
        less=scenes[0],
        more=scenes[1],
    )


def _poll_of(shards: int, *, less: int, more: int) -> Figure:
    scenes = [scene(shards=shards, pages=1, records=10, empty_pages=polls, caught_up=True) for polls in (less, more)]
    return Figure(
        name=f"poll_of_{shards}_shards",
        words=f"a poll that finds nothing, with {shards} shards",
        unit="empty_polls",
        less=scenes[0],
        more=scenes[1],
    )


SCALES = (
    Scale(name="page", few=_page_of(10, less=1, more=6), many=_page_of(100, less=1, more=2)),
    Scale(name="poll", few=_poll_of(10, less=2, more=12), many=_poll_of(100, less=2, more=3)),
)
