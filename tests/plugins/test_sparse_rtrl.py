"""`sparse-rtrl` against its definition, step by step."""

import jax.numpy as jnp
import numpy as np
import pytest
from support.influence import H, Rtrl, V, by_hand, of_model, run
from support.parts import ravel

import seqjax
from seqjax.gradients import SparseRTRL
from seqjax.models import GRU, LSTM, RNN
from seqjax.testing.compare import assert_close, assert_far
from seqjax.testing.quick_jit import quick_jit

TOKENS, VALUES = seqjax.Spec(seqjax.Tokens(V)), seqjax.Spec(seqjax.Values(2))


def masked(strategy):
    """RTRL in which a few entries of J_t are kept."""

    class Masked(Rtrl):
        def advance(self, J, I):
            super().advance(np.where(strategy.mask(len(J)), J, 0), I)

    return Masked


@pytest.mark.parametrize(
    ("model", "spec"),
    [
        (RNN(hidden=H), TOKENS),
        pytest.param(GRU(hidden=H), VALUES, marks=pytest.mark.slow),
        pytest.param(RNN(hidden=5, initializer="uniform"), TOKENS, marks=pytest.mark.slow),
        pytest.param(LSTM(hidden=H), TOKENS, marks=pytest.mark.slow),
    ],
    ids=["rnn", "gru", "rnn of five units", "lstm"],
)
def test_three_windows_give_the_gradients_of_the_definition(x64, model, spec):
    c, steps = of_model(model, spec)
    strategy = SparseRTRL(paths=2, seed=3)
    expected = by_hand(c, steps, masked(strategy))
    assert_close(run(strategy, c), expected, "of few paths", 1e-13)
    assert_far(by_hand(c, steps, Rtrl)[2][1], expected[2][1], "the gradient without the mask")


@pytest.mark.parametrize("paths", [1, pytest.param(3, marks=pytest.mark.slow)], ids=["", "all paths, which is rtrl"])
def test_the_influence_on_a_learned_initial_state_is_masked_from_its_first_step_on(x64, paths):
    """For a tanh network with the loss |s_t|², whose state begins anew inside of the window."""

    def step(params, s, x):
        s = jnp.tanh(params["W"] @ s + x)
        return s, (s**2).sum()

    rng, reset, strategy = np.random.default_rng(0), np.array([True, False, True, False]), SparseRTRL(paths=paths)
    params, xs = {"W": rng.normal(size=(3, 3)), "h": rng.normal(size=3)}, rng.normal(size=(4, 3))
    mask, expected = strategy.mask(3), 0.0
    assert mask.all() == (paths == 3)
    for x, anew in zip(xs, reset, strict=True):
        if anew:  # The columns of M are those of W, and then those of h.
            s, M = params["h"], np.eye(3, 12, 9)
        s_before, s = s, np.tanh(params["W"] @ s + x)
        slope = np.diag(1 - s**2)
        J, I = slope @ params["W"], np.pad(np.kron(slope, s_before), ((0, 0), (0, 3)))
        expected = expected + 2 * s @ (J @ M + I) / 4
        M = np.where(mask, J, 0) @ M + I
    problem = seqjax.Problem(step, lambda params, key=None: params["h"])
    estimate = quick_jit(seqjax.estimate(problem, strategy))
    found = ravel(estimate(params, np.ones(3), xs, reset=reset).grads)
    assert_close(found, expected, "the gradient", 1e-13)


@pytest.mark.parametrize(("paths", "size"), [(1, 6), (4, 64), (9, 3)])
def test_each_row_of_the_mask_has_its_number_of_paths_at_random_places(paths, size):
    mask = SparseRTRL(paths=paths).mask(size)
    assert mask.sum(1).tolist() == [min(paths, size)] * size
    if paths < size:
        assert (mask != SparseRTRL(paths=paths, seed=1).mask(size)).any()
        assert len({tuple(row) for row in mask.tolist()}) > 1
