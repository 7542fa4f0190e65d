"""From a plan to batches: which steps are read, and which are scored."""

import jax
import numpy as np
import pytest

from seqjax import Plan
from seqjax.data import Stream
from seqjax.data.windows import past_warmup, scored_steps, window
from seqjax.testing.quick_jit import quick_jit


def test_a_window_past_the_end_repeats_the_last_entry():
    stream = Stream(np.arange(10, dtype=np.int32), np.arange(20.0, dtype=np.float32).reshape(10, 2), None)
    inputs, targets = map(np.asarray, quick_jit(window, static_argnums=2)(stream, np.array([0, 8]), 3))
    assert inputs.tolist() == [[0, 8], [1, 9], [2, 9]]
    assert targets[:, 1, 1].tolist() == [17, 19, 19]


def test_a_step_is_scored_in_the_scored_range_and_the_mask():
    mask, t = np.random.default_rng(0).random(33) < 0.5, np.arange(5)[:, None]
    starts, scored = np.array([0, 7, 13, 20, 28]), np.array([[0, 5], [1, 4], [3, 3], [0, 2], [0, 2]])
    in_range = (scored[:, 0] <= t) & (t < scored[:, 1])
    batch, is_scored = Plan(starts, scored, np.zeros(5, bool)), quick_jit(scored_steps, static_argnums=2)
    assert is_scored(Stream(None, None, None), batch, 5).tolist() == in_range.tolist()
    expected = in_range & mask[starts + t]
    assert is_scored(Stream(None, None, None, mask[:30]), batch, 5).tolist() == expected.tolist()


@pytest.mark.parametrize("warmup", [1, 7])
def test_the_warmup_after_a_reset_is_not_scored(warmup):
    """A row that is not reset in the first batch continues an earlier one, and is past its warm-up."""
    T, reset = 3, np.array([[1, 0], [0, 0], [0, 1], [1, 0], [0, 0]], bool)
    scored = np.stack(np.broadcast_arrays(0, np.array([[3, 3], [3, 2], [3, 3], [1, 3], [3, 3]])), -1).astype(np.int32)
    plan = jax.device_get(past_warmup(Plan(np.zeros((5, 2), np.int64), scored, reset), warmup, T))
    for row in range(2):
        age = None
        for batch in range(5):
            age = 0 if reset[batch, row] else age
            for t in range(T):
                expected = t < scored[batch, row, 1] and (age is None or age + t >= warmup)
                first, last = plan.scored[batch, row]
                assert (first <= t < last) == expected
            age = None if age is None else age + T
