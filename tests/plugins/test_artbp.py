"""ARTBP: the distance between cuts, the table of hazards, and the bias of a cap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.strategies import ages

import seqjax
from seqjax.testing.compare import assert_close, assert_far
from seqjax.testing.proofs.cases import T
from seqjax.testing.proofs.claims import check_unbiased
from seqjax.testing.quick_jit import quick_jit
from seqjax_gradients import ARTBP

pytestmark = pytest.mark.usefixtures("x64")

TABLE = (0.1, 0.6, 0.3)


def survival(strategy, num_ages):
    """S(a), the probability that at least a edges are kept after a cut."""
    hazards = np.broadcast_to(strategy.hazard(jnp.arange(num_ages), ()), num_ages).astype(np.float64)
    return np.concatenate([[1.0], np.cumprod(1 - hazards)])


@pytest.mark.parametrize(("length", "alpha"), [(16.0, None), (16.0, 4.0), (50.0, 6.0), (1.2, 4.0)])
def test_cuts_are_length_steps_apart_on_average(length, alpha):
    S = survival(ARTBP(length=length, alpha=alpha), 1_000_000)
    np.testing.assert_allclose(S.sum(), length, rtol=1e-8)


def test_the_tail_is_polynomial():
    S = survival(ARTBP(length=8.0, alpha=4.0), 1_000_000)
    np.testing.assert_allclose(S[100_000] / S[10_000], 10.0 ** (1 - 4), rtol=0.01)


def test_a_table_is_read_by_age_and_its_last_entry_repeated():
    assert np.asarray(ARTBP(table=TABLE).hazard(jnp.arange(5), ())).tolist() == [0.1, 0.6, 0.3, 0.3, 0.3]
    check_unbiased(ARTBP(table=TABLE), ages(0, 5), cases=["small"])


def test_a_cap_makes_it_biased():
    assert (ARTBP().claim, ARTBP(cap=5).claim) == ("unbiased", "biased")


def test_capped_without_hazard_it_cuts_every_cap_steps():
    """Capped at one step nothing passes: test_reach.py."""
    strategy, (memory,) = ARTBP(table=(0.0,), cap=3), ages(2)

    @quick_jit
    def edge_weights(key):
        return strategy.edge_weights(strategy.draw(key, None, None, memory, T), memory, T)[0]

    np.testing.assert_array_equal(edge_weights(jax.random.key(0)), [0, 1, 1, 0, 1, 1])


@pytest.mark.parametrize(
    "fields",
    [{"alpha": 4.0}, *(pytest.param(f, marks=pytest.mark.slow) for f in ({"alpha": None}, {"table": TABLE}))],
    ids=repr,
)
def test_a_cap_keeps_its_share_of_each_lag(fields):
    """The mean product of k consecutive edge weights, over all outcomes, at the ages in the long run."""
    cap = 4
    strategy = ARTBP(length=3.0, cap=cap, **fields)
    age = np.eye(cap)[0]
    c = np.broadcast_to(strategy.hazard(jnp.arange(cap), ()), cap)
    for _ in range(400):  # the probabilities of the ages after one more edge
        age = np.concatenate([[age @ c], (age * (1 - c))[:-1]])

    @quick_jit
    def outcomes(memory):
        noise, probability = strategy.outcomes(None, None, memory, T)
        return jax.vmap(lambda cuts: strategy.edge_weights(cuts, memory, T)[0])(jnp.asarray(noise)), probability

    def products(start):
        edge_weights, probability = map(np.asarray, outcomes(*ages(start)))
        return np.array([[probability @ np.prod(edge_weights[:, t : t + k], 1) for k in range(T)] for t in (0, 1)])

    mean = sum(p * products(a) for a, p in enumerate(age))
    assert_close(mean, np.tile(strategy.kept(T - 1), (2, 1)), "kept")
    assert_far(products(0), mean, "kept at age 0", 1e-2)
    np.testing.assert_array_equal(ARTBP(**fields).kept(3), np.ones(4))
    np.testing.assert_array_equal(strategy.kept(0), [1.0])


def test_a_table_without_hazards_is_refused():
    with pytest.raises(seqjax.Error, match=r"table = \(\) has no hazard"):
        ARTBP(table=())
