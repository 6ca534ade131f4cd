"""The metrics of several workers on one page: the same families, with a label more that says whose a series is. Pure.

Nothing is added up here: a worker that is started again begins at 0, which is a reset of its own series and no backward
step of a sum. Adding up is one `sum by (pipeline)` in the query.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client.core import Metric as Family

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from prometheus_client import CollectorRegistry

LABEL = "worker"


def families(registry: CollectorRegistry) -> list[Any]:
    """All of a registry as JSON has it: `[name, help, type, [[sample, labels, value], …]]` for each family."""
    return [
        [
            family.name,
            family.documentation,
            family.type,
            [[sample.name, sample.labels, sample.value] for sample in family.samples],
        ]
        for family in registry.collect()
    ]


def merged(own: Iterable[Family], pages: Mapping[str, Sequence[Any]]) -> Iterator[Family]:
    """The supervisor's own families, then those of `pages`: worker id to its families. Each name appears once.

    Where two versions of a worker disagree on the type of a family, the first one's samples are shown.
    """
    found = {family.name: family for family in own}
    for worker_id, page in pages.items():
        for name, documentation, kind, samples in page:
            family = found.setdefault(name, Family(name, documentation, kind))
            if family.type == kind:
                for sample, labels, value in samples:
                    family.add_sample(sample, {**labels, LABEL: worker_id}, value)
    yield from found.values()
