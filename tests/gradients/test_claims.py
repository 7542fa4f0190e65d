"""Truncation cuts the right edges, against brute force."""

import jax
import pytest
from support.checks import CUTS

import seqjax
from seqjax.testing.compare import assert_far
from seqjax.testing.proofs.calls import estimates
from seqjax.testing.proofs.cases import MAIN, T, case
from seqjax.testing.proofs.claims import check_history, check_unbiased, check_unbiased_history, check_window
from seqjax.testing.proofs.oracle import truth

FULL = seqjax.create("gradient", "full")


def truncated(steps):
    return seqjax.create("gradient", "truncated", steps=steps)


def randomized(keep_prob):
    return seqjax.create("gradient", "randomized", keep_prob=keep_prob)


@pytest.mark.parametrize(
    "strategy",
    [
        truncated(T),
        randomized((1.0,) * T),
        pytest.param(truncated(T + 3), marks=pytest.mark.slow),
        pytest.param(randomized(1.0), marks=pytest.mark.slow),
    ],
    ids=repr,
)
def test_nothing_cut_is_the_window_in_full(strategy, x64):
    check_window(strategy, cases=["foreign"])


@pytest.mark.parametrize("steps", [2, *(pytest.param(steps, marks=pytest.mark.slow) for steps in (1, T - 1))])
def test_truncated_cuts_at_positive_multiples(steps, x64):
    check_window(truncated(steps), CUTS[steps], ["cell", "foreign"] if steps == 2 else ["learned"])


@pytest.mark.parametrize("name", ["cell", *(pytest.param(n, marks=pytest.mark.slow) for n in MAIN if n != "cell")])
def test_full_summed_over_windows_is_not_the_history(name, x64):
    grads = jax.tree.map(lambda *a: sum(a), *[e.grads for e in estimates(FULL, case(name))])
    assert_far(grads, truth(name, 0, 3).grads, "full, three windows")


@pytest.mark.slow
def test_small_problems_serve_as_well(x64):
    check_window(FULL, cases=["small", "linear", "ids", "nothing"])
    check_history(seqjax.create("gradient", "rtrl"), cases=["small", "linear", "ids", "nothing"])


@pytest.mark.slow
def test_evolution_strategies_are_unbiased_where_the_loss_is_linear(x64):
    es, pes = (seqjax.create("gradient", name, particles=2) for name in ("es", "pes"))
    check_unbiased(es, cases=["linear"])
    check_unbiased_history(pes, ["linear"])
    with pytest.raises(seqjax.Error, match="worst relative error"):
        check_unbiased_history(pes, ["small"])  # smoothing changes this loss
