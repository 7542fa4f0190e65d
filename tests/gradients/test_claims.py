"""Correct strategies have the gradients that they claim, against brute force."""

import jax
import pytest
from support.checks import CUTS

import seqjax
from seqjax import create
from seqjax.testing.compare import assert_far
from seqjax.testing.proofs.calls import estimates
from seqjax.testing.proofs.cases import MAIN, T, case
from seqjax.testing.proofs.claims import check_history, check_unbiased, check_unbiased_history, check_window
from seqjax.testing.proofs.oracle import truth

SMALL = ["small", "linear", "ids", "nothing"]


def test_forward_mode_adds_up_to_the_history(x64):
    check_history(create("gradient", "rtrl"), cases=["small"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "strategy",
    [
        *(create("gradient", "truncated", steps=steps) for steps in (T, T + 3)),
        *(create("gradient", "randomized", keep_prob=keep_prob) for keep_prob in ((1.0,) * T, 1.0)),
    ],
    ids=repr,
)
def test_nothing_cut_is_the_window_in_full(strategy, x64):
    check_window(strategy, cases=["foreign"])


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 2, T - 1])
def test_truncated_cuts_at_positive_multiples(steps, x64):
    check_window(create("gradient", "truncated", steps=steps), CUTS[steps], MAIN)


@pytest.mark.slow
@pytest.mark.parametrize("name", MAIN)
def test_full_summed_over_windows_is_not_the_history(name, x64):
    grads = jax.tree.map(lambda *a: sum(a), *[e.grads for e in estimates(create("gradient", "full"), case(name))])
    assert_far(grads, truth(name, 0, 3).grads, "full, three windows")


@pytest.mark.slow
def test_small_problems_serve_as_well(x64):
    check_window(create("gradient", "full"), cases=SMALL)
    check_history(create("gradient", "rtrl"), cases=SMALL)


@pytest.mark.slow
def test_evolution_strategies_are_unbiased_where_the_loss_is_linear(x64):
    es, pes = (create("gradient", name, particles=2) for name in ("es", "pes"))
    check_unbiased(es, cases=["linear"])
    check_unbiased_history(pes, ["linear"])
    with pytest.raises(seqjax.Error, match="worst relative error"):
        check_unbiased_history(pes, ["small"])  # smoothing changes this loss
