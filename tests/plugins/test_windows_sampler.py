import itertools

import numpy as np
import pytest

from seqjax import Error, Plan
from seqjax.data.sampler import draw_plan
from seqjax.samplers import Windows

BOUNDS = [[0, 34], [0, 0, 13, 13, 14, 40, 71, 71], [0, 5, 10, 14], [0, *range(1, 20), 30]]


def windows(plan, num_steps):
    """The starts of the scored windows, in order; those that are not scored are last."""
    count = plan.scored.reshape(-1, 2)[:, 1]
    (scored,) = np.nonzero(count)
    assert scored.tolist() == list(range(len(scored)))
    assert (count[scored] == num_steps).all()
    return plan.starts.ravel()[scored].tolist()


def plan(sampler, bounds, epoch=0) -> Plan:
    return draw_plan(sampler, np.array(bounds, np.int64), 0, epoch)


@pytest.mark.parametrize("bounds", BOUNDS)
@pytest.mark.parametrize(("batch_size", "num_steps", "stride"), [(4, 5, 1), (3, 5, 2), (1, 4, 7), (100, 5, 5)])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_window_of_every_document_once(bounds, batch_size, num_steps, stride, shuffle):
    expected = [start for a, b in itertools.pairwise(bounds) for start in range(a, b, stride) if start + num_steps <= b]
    found = plan(Windows(batch_size, num_steps, stride, shuffle), bounds)
    starts = windows(found, num_steps)
    assert (sorted(starts) if shuffle else starts) == expected
    assert len(found.starts) == -(-len(expected) // batch_size)
    assert (found.scored[..., 0] == 0).all()
    assert found.reset.all()


def test_each_epoch_has_its_own_order():
    sampler = Windows(batch_size=4, num_steps=3)
    orders = [windows(plan(sampler, [0, 30], epoch), 3) for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert plan(Windows(4, 3, shuffle=False), [0, 30], 0).starts.tolist() == \
        plan(Windows(4, 3, shuffle=False), [0, 30], 1).starts.tolist()  # fmt: skip


@pytest.mark.parametrize("bounds", [[0], [0, 0], [0, 4], [0, 4, 8]])
def test_documents_shorter_than_a_window_are_an_error_with_both_numbers(bounds):
    with pytest.raises(Error, match=f"num_steps = 5 .* the longest has {max(np.diff(bounds), default=0)}") as caught:
        Windows(num_steps=5).plan(np.array(bounds), np.random.default_rng((0, 0)))
    assert "--sampler.num-steps" in str(caught.value)
