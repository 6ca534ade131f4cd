"""Draws by address, and faults: none shifts when another is left out."""

from __future__ import annotations

import pytest

from streamflow.testing.simulation.draws import NUMBERS, Draws
from streamflow.testing.simulation.faults import KINDS, Faults


def test_an_address_draws_the_same_whatever_else_is_drawn() -> None:
    first, second = Draws(7), Draws(7)
    second.uniform("elsewhere")
    assert first.uniforms("store", "w1.1", 3) == second.uniforms("store", "w1.1", 3)
    assert first.rng("store", 3).random() == second.rng("store", 3).random()


def test_what_is_drawn_for_a_seed_stays_as_it_was() -> None:
    """Or every seed in the corpus would mean another run."""
    assert Draws(7).uniform("store", "w1.1", 3) == 0.7220069154867995
    assert Draws(7).rng("store", "w1.1", 3).randrange(1000) == 356


def test_seeds_and_addresses_draw_apart() -> None:
    drawn = {
        Draws(seed).uniform(*address) for seed in range(20) for address in (("a", 1), ("a", 2), ("a", "1"), ("a1",))
    }
    assert len(drawn) == 80


def test_numbers_are_spread_over_the_unit_interval() -> None:
    draws = Draws(1)
    numbers = [number for n in range(2_000) for number in draws.uniforms("spread", n)]
    assert len(numbers) == 2_000 * NUMBERS
    assert all(0 <= number < 1 for number in numbers)
    tenths = [sum(tenth <= number * 10 < tenth + 1 for number in numbers) for tenth in range(10)]
    assert all(1_400 < count < 1_800 for count in tenths)


def test_a_third_of_the_runs_is_without_a_kind_and_no_rate_is_above_its_greatest() -> None:
    runs = [Faults(Draws(seed)).rates for seed in range(300)]
    for name, kind in KINDS.items():
        rates = [run[name] for run in runs]
        assert 60 < rates.count(0.0) < 140
        assert 0.5 * kind.rate_max < max(rates) <= kind.rate_max


def test_kinds_and_sites_that_are_left_out_have_no_rate() -> None:
    faults = Faults(Draws(1), without=["network", "store.throttled"])
    assert not [name for name in faults.rates if name.startswith("network.")]
    assert "store.throttled" not in faults.rates
    assert "store.read_only" in faults.rates
    with pytest.raises(KeyError):
        faults.strikes("network.misspelt", 1)


def test_leaving_out_a_kind_moves_no_strike_of_another() -> None:
    def strikes(*without: str) -> list[bool]:
        rates = {"network.twice": 0.3, "network.clog": 0.3}
        faults = Faults(Draws(1), without=without, rates=rates)
        return [faults.strikes("network.twice", n) for n in range(200)]

    assert any(strikes())
    assert strikes() == strikes("network.clog")


def test_one_kind_at_most_strikes_at_a_call_each_at_its_rate() -> None:
    faults = Faults(Draws(1), rates={"network.twice": 0.2, "network.clog": 0.1})
    struck = [faults.at("network", n) for n in range(5_000)]
    assert 400 < struck.count("network.clog") < 600
    assert 800 < struck.count("network.twice") < 1_000
    assert faults.injected == {kind: struck.count(kind) for kind in ("network.twice", "network.clog")}


def test_nothing_strikes_while_it_is_quiet() -> None:
    faults = Faults(Draws(1), rates={"network.twice": 1.0})
    assert faults.strikes("network.twice", 1)
    faults.quiet = True
    assert not faults.strikes("network.twice", 2)
    assert faults.at("network", 2) is None
    faults.quiet = False
    assert faults.at("network", 3) == "network.twice"
    assert faults.injected == {"network.twice": 2}
