"""Random strategies are unbiased, which is proved by summing over all outcomes and not by sampling."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.strategies import Adapting, Aging, Constant, Randomized, ages

from seqjax.testing.proofs.claims import check_mean, check_unbiased
from seqjax.testing.proofs.draws import check_draw, check_rows_draw_apart
from seqjax.testing.quick_jit import quick_jit

pytestmark = pytest.mark.usefixtures("x64")

PER_STEP = Randomized(keep_prob=(0.9, 0.3, 1.0, 0.6, 0.5, 0.8))


def quick(strategy, *others):
    """One strategy in the quick suite, the others in the long one."""
    return pytest.mark.parametrize(
        "strategy", [strategy, *(pytest.param(each, marks=pytest.mark.slow) for each in others)], ids=repr
    )


@quick(PER_STEP, Randomized(keep_prob=0.4), Constant(), Aging(), Adapting())
def test_outcomes_sum_to_the_gradient_for_any_memory(strategy):
    starts = () if isinstance(strategy, Randomized) else (0, 5)
    check_unbiased(strategy, ages(*starts), cases=["small"])


@quick(PER_STEP, Aging(), Constant())
def test_draw_follows_the_probabilities(strategy):
    check_draw(strategy, ages(0 if isinstance(strategy, Randomized) else 5))


@pytest.mark.parametrize("start", [0, 5])
def test_ages_count_the_edges_kept_since_the_last_cut_and_persist(start):
    strategy, (memory,) = Aging(), ages(start)
    cuts_MT = np.array([*itertools.product([False, True], repeat=4)])
    edge_weights_MT, after = quick_jit(jax.vmap(lambda cuts_T: strategy.edge_weights(cuts_T, memory, 4)))(cuts_MT)
    want_MT, want = np.zeros(cuts_MT.shape), np.full(len(cuts_MT), start)
    for t, cut in enumerate(cuts_MT.T):
        want_MT[:, t] = np.where(cut, 0, 1 / (1 - 3 / (6 + want)))
        want = np.where(cut, 0, want + 1)
    np.testing.assert_allclose(edge_weights_MT, want_MT, rtol=1e-6)  # an int32 age divides in float32
    assert after.rows.dtype == jnp.int32
    np.testing.assert_array_equal(after.rows, want)


@quick(Aging(), PER_STEP)
def test_calls_average_to_the_gradient_and_rows_draw_apart(strategy):
    check_mean(strategy, ["small"])
    check_rows_draw_apart(strategy, ["small"])
