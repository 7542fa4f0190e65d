"""What each strategy claims, against brute force: exact, unbiased, or cut where it says."""

import jax
import pytest
from checks import (
    assert_far,
    check_history,
    check_initial_state,
    check_padding,
    check_rows,
    check_unbiased,
    check_values,
    check_window,
    estimates,
)
from oracle import CASES, CUTS, T, case, truth

import seqjax

pytestmark = pytest.mark.usefixtures("x64")

FULL = seqjax.create("gradient", "full")
RTRL = seqjax.create("gradient", "rtrl")
NAMES = seqjax.names("gradient")


def truncated(steps):
    return seqjax.create("gradient", "truncated", steps=steps)


def randomized(keep_prob):
    return seqjax.create("gradient", "randomized", keep_prob=keep_prob)


CHECKS = {
    ("exact", "window"): check_window,
    ("exact", "history"): check_history,
    ("unbiased", "window"): check_unbiased,
    ("biased", "window"): check_values,
    ("biased", "history"): check_values,
}


@pytest.mark.parametrize("name", NAMES)
def test_every_strategy_does_what_it_claims(name):
    strategy = seqjax.create("gradient", name)
    CHECKS[strategy.claim, strategy.of](strategy, cases=["learned", "foreign"])


@pytest.mark.parametrize("name", CASES)
def test_the_window_in_full(name):
    check_window(FULL, cases=[name])


@pytest.mark.parametrize(
    "strategy", [truncated(T), truncated(T + 3), randomized(1.0), randomized((1.0,) * T)], ids=repr
)
def test_nothing_cut_is_the_window_in_full(strategy):
    check_window(strategy, cases=["foreign"])


@pytest.mark.parametrize("steps", [1, 2, T - 1])
def test_truncated_cuts_at_positive_multiples(steps):
    check_window(truncated(steps), CUTS[steps], cases=["rnn", "foreign"] if steps == 2 else ["learned"])


@pytest.mark.parametrize("name", CASES)
def test_rtrl_is_the_gradient_of_the_whole_sequence(name):
    check_history(RTRL, [name])


@pytest.mark.parametrize("name", CASES)
def test_full_summed_over_windows_is_not(name):
    grads = jax.tree.map(lambda *a: sum(a), *[e.grads for e in estimates(FULL, case(name))])
    assert_far(grads, truth(name, 0, 3).grads, "full, three windows")


@pytest.mark.parametrize("name", NAMES)
def test_a_learned_initial_state_learns_from_fresh_rows_only(name):
    check_initial_state(seqjax.create("gradient", name))


@pytest.mark.parametrize("name", NAMES)
def test_rows_are_independent(name):
    check_rows(seqjax.create("gradient", name))


@pytest.mark.parametrize("name", NAMES)
def test_padding_counts_nothing(name):
    check_padding(seqjax.create("gradient", name))
