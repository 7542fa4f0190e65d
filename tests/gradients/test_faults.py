"""The checks see the faults that they are there for."""

import jax.numpy as jnp
import pytest
import strategies as planted
from checks import (
    check_ages,
    check_draw,
    check_gates,
    check_history,
    check_initial_state,
    check_mean_of_calls,
    check_rows,
    check_rows_draw_apart,
    check_unbiased,
    check_window,
)
from oracle import CUTS, case
from strategies import ages

from seqjax import Memory

pytestmark = pytest.mark.usefixtures("x64")

ONE = ["learned"]
FAULTS = {
    "1/π left out": lambda: check_unbiased(planted.Unweighted(keep_prob=0.6), cases=ONE),
    "1/(1 - hazard) left out": lambda: check_unbiased(planted.UnweightedCuts(), cases=ONE),
    "edges weighed at another age": lambda: check_unbiased(planted.YoungWeights(), ages(0, 5), cases=ONE),
    "age dropped": lambda: check_ages(planted.ForgetsAge()),
    "drawn at another age": lambda: check_draw(planted.YoungDraw(), *ages(5)),
    "drawn with the mean probability": lambda: check_draw(planted.SmoothedDraw(keep_prob=(0.3, 0.9, 0.5, 0.7))),
    "drawn once for all steps": lambda: check_draw(planted.RepeatedDraw(keep_prob=0.5)),
    "1/π left out of whole calls": lambda: check_mean_of_calls(planted.Unweighted(keep_prob=0.5), Memory()),
    "all rows draw the same": lambda: check_rows_draw_apart(planted.SharedDraw(keep_prob=0.5)),
    "gates one step late": lambda: check_window(planted.Shifted(steps=2), CUTS[2], ONE),
    "gate at the window's edge": lambda: check_window(planted.CutsTheEdge(steps=2), CUTS[2], ONE),
    "learned state cut off": lambda: check_initial_state(planted.CutsTheEdge(steps=2)),
    "memory dropped": lambda: check_history(planted.Forgetful(), ONE),
    "memory of fresh rows kept": lambda: check_history(planted.NeverResets(), ONE),
    "fresh rows started outside": lambda: check_window(planted.StartsOutside(), cases=ONE),
    "weights ignored": lambda: check_window(planted.Unweighed(), cases=ONE),
    "mean of shard means": lambda: check_rows(planted.Normalised(), ONE),
    "drawn by local row": lambda: check_rows(planted.LocalRows(keep_prob=0.5), ONE),
}
UNROLLS = {
    "gates one step late": lambda gates: jnp.roll(gates, 1, 0),
    "gates ignored": jnp.ones_like,
    "gates of another row": lambda gates: jnp.roll(gates, 1, 1) if gates.ndim == 2 else gates,
    "gates rounded to cuts": jnp.sign,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_planted_fault_is_seen(fault):
    with pytest.raises(AssertionError, match=r"worst relative error|chi-square|z-score|gradient of|ages after"):
        FAULTS[fault]()


@pytest.mark.parametrize("fault", UNROLLS)
def test_planted_fault_in_an_unroll_is_seen(fault):
    with pytest.raises(AssertionError, match="worst relative error"):
        check_gates(planted.FaultyUnroll(case("learned").problem, UNROLLS[fault]), "learned")
