"""A verdict as a table for people and as JSON for machines. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.claims import Contender, Verdict

_COLUMNS: tuple[str, ...] = ("", "median", "spread", "CPU", "ours / peer", "floor / ours")


def table(verdict: Verdict) -> str:
    """The claim's words and a row for each contender: the peers, ours, the floors, the server's ceiling."""
    claim = verdict.claim
    rows = [_COLUMNS]
    rows += [_row(verdict, peer, advantage=verdict.advantage(peer)) for peer in claim.peers]
    rows += [_row(verdict, claim.ours)]
    rows += [_row(verdict, floor, distance=verdict.distance(floor)) for floor in claim.floors]
    if claim.ceiling is not None:
        rows += [_row(verdict, claim.ceiling)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows]
    target = (f"Target: {claim.target}.",) if claim.target else ()
    return "\n".join((f"{claim.name} [{claim.unit}]", claim.words, *target, "", *lines))


def _row(
    verdict: Verdict, contender: Contender, *, advantage: float | None = None, distance: float | None = None
) -> tuple[str, ...]:
    summary = verdict.summaries[contender.name]
    return (
        contender.name,
        f"{summary.median:,.0f}" if summary.median >= 1_000 else f"{summary.median:.4g}",
        f"{summary.spread:.0%}",
        f"{summary.cpu_share:.0%}",
        "" if advantage is None else f"{advantage:.1f}x",
        "" if distance is None else f"{distance:.1f}x",
    )


def _aligned(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    first, *others = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]


def results(verdicts: Sequence[Verdict], *, profile: str, machine: Mapping[str, Any]) -> dict[str, Any]:
    """What `results.json` holds; figures are medians in the claim's unit, `spread` is ours."""
    return {"profile": profile, "claims": [_result(verdict, machine) for verdict in verdicts]}


def _result(verdict: Verdict, machine: Mapping[str, Any]) -> dict[str, Any]:
    claim, summaries = verdict.claim, verdict.summaries
    peer, floor = verdict.ratio_to_peer, verdict.ratio_to_floor
    return {
        "name": claim.name,
        "words": claim.words,
        "unit": claim.unit,
        "target": claim.target,
        "ours": summaries[claim.ours.name].median,
        "peer": summaries[claim.peers[0].name].median if claim.peers else None,
        "floor": summaries[claim.floors[0].name].median if claim.floors else None,
        "ratio_to_peer": None if peer is None else round(peer, 2),
        "ratio_to_floor": None if floor is None else round(floor, 2),
        "spread": round(summaries[claim.ours.name].spread, 4),
        "unmet": verdict.unmet(),
        "cautions": verdict.cautions(),
        "contenders": {
            name: {
                "median": summary.median,
                "spread": round(summary.spread, 4),
                "cpu_share": round(summary.cpu_share, 4),
                "rounds": list(summary.rounds),
            }
            for name, summary in summaries.items()
        },
        "machine": dict(machine),
    }
