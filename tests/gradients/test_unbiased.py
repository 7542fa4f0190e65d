"""Random strategies are unbiased, which is proved by summing over all outcomes and not by sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.checks import check_ages
from support.strategies import Adapting, Aging, Constant, Randomized, ages

from seqjax.testing.proofs.cases import case
from seqjax.testing.proofs.claims import check_mean, check_unbiased
from seqjax.testing.proofs.draws import check_draw, check_rows_draw_apart

pytestmark = pytest.mark.usefixtures("x64")

PER_STEP = (0.9, 0.3, 1.0, 0.6, 0.5, 0.8)


@pytest.mark.parametrize(
    ("strategy", "starts"),
    [
        pytest.param(Randomized(keep_prob=0.4), (), marks=pytest.mark.slow),
        (Randomized(keep_prob=PER_STEP), ()),
        pytest.param(Constant(), (0, 5), marks=pytest.mark.slow),
        (Aging(), (0, 5)),
        pytest.param(Adapting(), (0, 5), marks=pytest.mark.slow),
    ],
    ids=repr,
)
def test_outcomes_sum_to_the_gradient_for_any_memory(strategy, starts):
    check_unbiased(strategy, ages(*starts), cases=["learned", "foreign"] if strategy == Aging() else ["learned"])


@pytest.mark.parametrize(
    ("strategy", "age"),
    [
        (Randomized(keep_prob=PER_STEP), 0),
        (Aging(), 5),
        pytest.param(Randomized(keep_prob=0.4), 0, marks=pytest.mark.slow),
        pytest.param(Constant(), 5, marks=pytest.mark.slow),
    ],
    ids=repr,
)
def test_draw_follows_the_probabilities(strategy, age):
    check_draw(strategy, ages(age))


@pytest.mark.parametrize("start", [0, 5])
def test_ages_count_the_edges_kept_since_the_last_cut_and_persist(start):
    strategy, (memory,), c = Aging(), ages(start), case("learned")
    cuts_MT, _ = strategy.outcomes(c.problem, c.params, memory, 4)
    edge_weights_MT, after = jax.vmap(lambda cuts_T: strategy.edge_weights(cuts_T, memory, 4))(jnp.asarray(cuts_MT))
    want_MT, want = np.zeros(cuts_MT.shape), np.full(len(cuts_MT), start)
    for t, cut in enumerate(cuts_MT.T):
        want_MT[:, t] = np.where(cut, 0, 1 / (1 - 3 / (6 + want)))
        want = np.where(cut, 0, want + 1)
    np.testing.assert_allclose(edge_weights_MT, want_MT, rtol=1e-6)  # an int32 age divides in float32
    assert after.rows.dtype == jnp.int32
    np.testing.assert_array_equal(after.rows, want)


def test_reset_rows_start_at_age_0_and_the_others_keep_theirs():
    check_ages(Constant())


@pytest.mark.parametrize("strategy", [Randomized(keep_prob=0.5), Aging()], ids=["randomized", "aging"])
def test_calls_average_to_the_gradient(strategy):
    check_mean(strategy, ["small"])


def test_rows_and_calls_draw_apart():
    check_rows_draw_apart(Randomized(keep_prob=0.5))
