"""k2 steps back every k1 steps; test_reach.py tests how far each loss reaches back."""

import jax.numpy as jnp
import numpy as np
import pytest

import seqjax
from seqjax.gradients import K1K2
from seqjax.testing.quick_jit import quick_jit


def test_k2_is_at_least_k1():
    with pytest.raises(seqjax.Error, match=r"k2 = 2 < k1 = 3.*make k2 at least k1"):
        K1K2(3, 2)


@pytest.mark.parametrize(("k1", "k2"), [(2, 3), *(pytest.param(*k, marks=pytest.mark.slow) for k in ((2, 5), (3, 4)))])
def test_no_step_is_taken_past_the_window(k1, k2, x64):
    """A step past the window would divide by zero here, and 0 times infinity is NaN."""

    def step(w, state, x):
        h, n = state
        h = jnp.tanh(w * h + x)
        return (h, n + 1), h**2 / (5 - n)

    found = quick_jit(seqjax.estimate(step, K1K2(k1, k2), batched=True))(
        0.7, (np.full(1, 0.3), np.zeros(1)), np.ones((5, 1))
    )
    h, want = 0.3, 0.0
    for n in range(5):
        h = np.tanh(0.7 * h + 1)
        want += h**2 / (5 - n) / 5
    assert float(found.loss) == pytest.approx(want, rel=1e-13)
    assert np.isfinite(found.grads)
