"""ARTBP: the distance between cuts, the table of hazards, and the bias of a cap."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.strategies import ages

import seqjax
from seqjax.gradients import ARTBP
from seqjax.testing.compare import assert_close, assert_far
from seqjax.testing.proofs.cases import T
from seqjax.testing.proofs.claims import check_unbiased
from seqjax.testing.quick_jit import quick_jit

pytestmark = pytest.mark.usefixtures("x64")

TABLE = (0.1, 0.6, 0.3)


@functools.cache
def hazards():
    """The hazards of some strategies at the first ages."""
    fields = [(16.0, None), (16.0, 4.0), (50.0, 6.0), (1.2, 4.0), (8.0, 4.0)]
    strategies = [ARTBP(length=length, alpha=alpha) for length, alpha in fields]
    ages = np.arange(1_000_000)
    found, table = quick_jit(lambda ages: ([s.hazard(ages, ()) for s in strategies], of_table(ages[:5])))(ages)
    return dict(zip(fields, found, strict=True)), np.asarray(table).tolist()


def of_table(ages):
    return ARTBP(table=TABLE).hazard(ages, ())


def survival(length, alpha):
    """S(a), the probability that at least a edges are kept after a cut."""
    return np.concatenate([[1.0], np.cumprod(1 - np.broadcast_to(hazards()[0][length, alpha], 1_000_000))])


@pytest.mark.parametrize(("length", "alpha"), [(16.0, None), (16.0, 4.0), (50.0, 6.0), (1.2, 4.0)])
def test_cuts_are_length_steps_apart_on_average(length, alpha):
    np.testing.assert_allclose(survival(length, alpha).sum(), length, rtol=1e-8)


def test_the_tail_is_polynomial():
    S = survival(length=8.0, alpha=4.0)
    np.testing.assert_allclose(S[100_000] / S[10_000], 10.0 ** (1 - 4), rtol=0.01)


def test_a_table_is_read_by_age_and_its_last_entry_repeated():
    assert hazards()[1] == [0.1, 0.6, 0.3, 0.3, 0.3]


@pytest.mark.slow
def test_by_a_table_it_is_unbiased():
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
    c = np.broadcast_to(quick_jit(strategy.hazard)(np.arange(cap), ()), cap)
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
