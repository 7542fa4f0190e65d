"""ARTBP: the distance between cuts, the table of hazards, and the bias of a cap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.strategies import ages

import seqjax
from seqjax.testing.compare import assert_close, assert_far
from seqjax.testing.proofs.cases import T
from seqjax.testing.proofs.claims import check_unbiased, check_window

pytestmark = pytest.mark.usefixtures("x64")

TABLE = (0.1, 0.6, 0.3)


def artbp(**fields):
    return seqjax.create("gradient", "artbp", **fields)


def survival(strategy, num_ages):
    """S(a), the probability that at least a edges are kept after a cut."""
    hazards = np.broadcast_to(strategy.hazard(jnp.arange(num_ages), ()), num_ages).astype(np.float64)
    return np.concatenate([[1.0], np.cumprod(1 - hazards)])


@pytest.mark.parametrize(("length", "alpha"), [(16.0, None), (16.0, 4.0), (50.0, 6.0), (1.2, 4.0)])
def test_cuts_are_length_steps_apart_on_average(length, alpha):
    S = survival(artbp(length=length, alpha=alpha), 1_000_000)
    np.testing.assert_allclose(S.sum(), length, rtol=1e-8)


def test_the_tail_is_polynomial():
    S = survival(artbp(length=8.0, alpha=4.0), 100_000)
    np.testing.assert_allclose(S[100_000] / S[10_000], 10.0 ** (1 - 4), rtol=0.01)


def test_a_table_is_read_by_age_and_its_last_entry_repeated():
    hazards = [float(artbp(table=TABLE).hazard(jnp.int32(age), ())) for age in range(5)]
    assert hazards == [0.1, 0.6, 0.3, 0.3, 0.3]
    check_unbiased(artbp(table=TABLE), ages(0, 5), cases=["learned"])


def test_a_cap_makes_it_biased():
    assert (artbp().claim, artbp(cap=5).claim) == ("unbiased", "biased")


def test_capped_at_one_step_nothing_passes_and_capped_without_hazard_every_cap_steps():
    check_window(artbp(cap=1), [0.0] * T, ["learned"])  # also at the window's first step
    strategy = artbp(table=(0.0,), cap=3)
    (memory,) = ages(2)
    noise = strategy.draw(jax.random.key(0), None, None, memory, T)
    edge_weights, _ = strategy.edge_weights(noise, memory, T)
    np.testing.assert_array_equal(edge_weights, [0, 1, 1, 0, 1, 1])


@pytest.mark.parametrize("fields", [{"alpha": None}, {"alpha": 4.0}, {"table": TABLE}], ids=repr)
def test_a_cap_keeps_its_share_of_each_lag(fields):
    """The mean product of k consecutive edge weights, over all outcomes, at the ages in the long run."""
    cap = 4
    strategy = artbp(length=3.0, cap=cap, **fields)
    age = np.eye(cap)[0]
    c = np.broadcast_to(strategy.hazard(jnp.arange(cap), ()), cap)
    for _ in range(400):  # the probabilities of the ages after one more edge
        age = np.concatenate([[age @ c], (age * (1 - c))[:-1]])

    def products(start):
        (memory,) = ages(start)
        noise, probability = strategy.outcomes(None, None, memory, T)
        edge_weights, _ = jax.vmap(lambda cuts: strategy.edge_weights(cuts, memory, T))(jnp.asarray(noise))
        return np.array([[probability @ jnp.prod(edge_weights[:, t : t + k], 1) for k in range(T)] for t in (0, 1)])

    mean = sum(p * products(a) for a, p in enumerate(age))
    assert_close(mean, np.tile(strategy.kept(T - 1), (2, 1)), "kept")
    assert_far(products(0), mean, "kept at age 0", 1e-2)
    np.testing.assert_array_equal(artbp(**fields).kept(3), np.ones(4))
    np.testing.assert_array_equal(strategy.kept(0), [1.0])


def test_a_table_without_hazards_is_refused():
    with pytest.raises(seqjax.Error, match=r"table = \(\) has no hazard"):
        artbp(table=())
