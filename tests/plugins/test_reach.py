"""How far back each strategy in reverse mode takes the gradient of a loss, against sums of its parts."""

import pytest
from support.parts import check_shares

from seqjax.gradients import ARTBP, K1K2, Adaptive, Directional, Discounted, Full, Immediate, Only, Sliding, Truncated
from seqjax.testing.proofs.cases import T

pytestmark = pytest.mark.usefixtures("x64")


def segments(steps):
    return lambda t, u: t // steps == max(u, 0) // steps


def chunks(k1, k2):
    """The losses of k1 steps reach back to the step k2 before the end of these, or to the start of the window."""
    return lambda t, u: u >= (t // k1 + 1) * k1 - k2 or (t // k1 + 1) * k1 - k2 <= 0


QUICK = [
    (K1K2(2, 5), chunks(2, 5)),
    (Sliding(steps=3), lambda t, u: t - u < 3),
    (Immediate(), lambda t, u: t == u or (t, u) == (0, -1)),
    (Discounted(discount=0.7), lambda t, u: 0.7 ** (t - u)),
    (ARTBP(cap=1), lambda t, u: t == u),
    (Directional(), lambda t, u: 1),
]
SLOW = [
    (Full(), lambda t, u: 1),
    (Full(checkpoint=True), lambda t, u: 1),
    *((Truncated(steps=k), segments(k)) for k in (1, 2, 4, T, T + 3)),
    *((K1K2(k1, k2), chunks(k1, k2)) for k1, k2 in ((1, 3), (2, 3), (4, 4), (4, 5), (5, 6), (5, T + 4))),
    *((Sliding(steps=k), lambda t, u, k=k: t - u < k) for k in (1, 2, T + 1)),
    (Discounted(discount=0.0), lambda t, u: t == u),
    (Discounted(discount=1.0), lambda t, u: 1),
    (Adaptive(max_steps=2, every=10**6), segments(2)),
    (Only(Truncated(steps=2), leaves=("h",)), segments(2)),
]


def described(value):
    """A strategy by its fields; the two workers of a session have to give a test the same name."""
    return "share" if callable(value) and hasattr(value, "__code__") else repr(value)


@pytest.mark.parametrize(
    ("strategy", "share"), [*QUICK, *(pytest.param(*each, marks=pytest.mark.slow) for each in SLOW)], ids=described
)
def test_the_gradient_is_the_sum_of_the_parts_within_reach(strategy, share):
    check_shares(strategy, share)
