import itertools
import math

import numpy as np
import pytest

from seqjax import Error
from seqjax.analysis import markov


def chain(size, seed=0, zeros=0.0):
    """A random transition matrix. Some entries are 0, but none on a cycle, so that every state leads to every other."""
    rng = np.random.default_rng(seed)
    P = rng.random((size, size)) * (rng.random((size, size)) >= zeros)
    P[np.arange(size), (np.arange(size) + 1) % size] += 0.1
    return P / P.sum(1, keepdims=True)


def paths(size, steps, start):
    """All paths of a number of steps from a start."""
    return [(start, *rest) for rest in itertools.product(range(size), repeat=steps)]


def probability(P, path):
    """The probability of a path, the product over its steps."""
    return math.prod(P[i, j] for i, j in itertools.pairwise(path))


CHAINS = pytest.mark.parametrize(
    "P", [chain(2), chain(3, 1), chain(4, 2, zeros=0.6)], ids=["2 states", "3 states", "4 states with zeros"]
)


@CHAINS
@pytest.mark.parametrize("k", [0, 1, 2, 4])
def test_k_steps_are_the_sum_over_all_paths(P, k):
    expected = np.zeros_like(P)
    for start in range(len(P)):
        for path in paths(len(P), k, start):
            expected[start, path[-1]] += probability(P, path)
    np.testing.assert_allclose(markov.k_step(P, k), expected, rtol=1e-13, atol=1e-16)


@CHAINS
def test_the_stationary_distribution_does_not_change_in_a_step(P):
    pi = markov.stationary(P)
    np.testing.assert_allclose(pi @ P, pi, rtol=1e-14)
    assert pi.sum() == pytest.approx(1, abs=1e-15)
    np.testing.assert_allclose(markov.k_step(P, 200), np.tile(pi, (len(P), 1)), rtol=1e-12)


def test_stationary_distributions_that_are_known():
    np.testing.assert_allclose(markov.stationary([[0.7, 0.3], [0.1, 0.9]]), [0.25, 0.75], rtol=1e-15)
    np.testing.assert_array_equal(markov.stationary([[0, 1], [1, 0]]), [0.5, 0.5], "periodic")
    np.testing.assert_array_equal(markov.stationary([[1.0]]), [1])


def test_states_that_the_chain_leaves_for_ever_have_probability_0():
    P = [[0.5, 0.25, 0.25, 0], [0, 0.7, 0.3, 0], [0, 0.1, 0.9, 0], [0.5, 0, 0, 0.5]]
    np.testing.assert_allclose(markov.stationary(P), [0, 0.25, 0.75, 0], rtol=1e-14)


def test_sets_of_states_with_hardly_any_transitions_between_them_have_the_right_shares():
    """1 - 1e-20 is 1 in float64, so that a linear system with I - P has no answer."""
    P = [[1, 1e-20, 0], [2e-20, 0.5, 0.5], [0, 0.5, 0.5]]
    np.testing.assert_allclose(markov.stationary(P), [0.5, 0.25, 0.25], rtol=1e-14)


@pytest.mark.parametrize("function", [markov.stationary, markov.entropy_rate, markov.reverse])
def test_a_stationary_distribution_that_is_not_unique_is_an_error(function):
    with pytest.raises(Error, match=r"not unique: there are 2 sets .* \[0, 1\], \[2\]"):
        function([[0, 1, 0], [1, 0, 0], [0, 0, 1.0]])


@CHAINS
def test_backwards_is_bayes_rule(P):
    """P(x_1 = i | x_2 = j) P(x_2 = j) = P(x_1 = i) P(x_2 = j | x_1 = i)."""
    weights = np.arange(1.0, len(P) + 1)
    for initial in (None, weights / weights.sum()):
        pi = markov.stationary(P) if initial is None else initial
        R = markov.reverse(P, initial)
        np.testing.assert_allclose(R * (pi @ P)[:, None], (pi[:, None] * P).T, rtol=1e-12)
    np.testing.assert_allclose(markov.reverse(markov.reverse(P)), P, rtol=1e-12, err_msg="twice backwards is forwards")


def test_backwards_to_a_known_first_state():
    np.testing.assert_array_equal(markov.reverse(chain(3), [0, 1, 0]), [[0, 1, 0]] * 3)


@CHAINS
@pytest.mark.parametrize("steps", [0, 1, 2, 5])
def test_the_most_likely_path_is_the_best_of_all(P, steps):
    size = len(P)
    for start in range(size):
        by_end = {}
        for path in paths(size, steps, start):
            by_end.setdefault(path[-1], []).append((probability(P, path), path))
        for end in [None, *by_end]:
            p, _ = max(itertools.chain(*by_end.values()) if end is None else by_end[end])
            if p == 0:
                with pytest.raises(Error, match=f"no path leads from state {start} to state {end} in {steps} steps"):
                    markov.most_likely_path(P, start, steps, end)
                continue
            states, log_p = markov.most_likely_path(P, start, steps, end)
            assert (len(states), states[0]) == (steps + 1, start)
            assert end in (None, states[-1])
            assert probability(P, states) == pytest.approx(p, rel=1e-12)
            assert log_p == pytest.approx(math.log(p), abs=1e-12)
            assert markov.log_probability(P, states) == pytest.approx(log_p, abs=1e-12)


def test_a_long_path_does_not_underflow():
    states, log_p = markov.most_likely_path(np.full((4, 4), 0.25), 1, 5000)
    assert len(states) == 5001
    assert log_p == pytest.approx(-5000 * math.log(4), rel=1e-12)


@CHAINS
def test_the_entropy_rate_is_the_entropy_that_a_longer_block_adds(P):
    """H(x_0, ..., x_n) - H(x_0, ..., x_{n-1}) by enumeration, x_0 from the stationary distribution."""
    pi = markov.stationary(P)

    def block(steps):
        p = np.array([pi[i] * probability(P, path) for i in range(len(P)) for path in paths(len(P), steps, i)])
        return -np.sum(p[p > 0] * np.log(p[p > 0]))

    assert markov.entropy_rate(P) == pytest.approx(block(4) - block(3), abs=1e-12)


def test_entropy_rates_that_are_known():
    assert markov.entropy_rate(np.full((7, 7), 1 / 7)) == pytest.approx(math.log(7), rel=1e-14)
    assert markov.entropy_rate([[0, 1], [1, 0]]) == 0


def test_an_impossible_sequence():
    assert markov.log_probability([[0, 1], [1, 0]], [0, 1, 0]) == 0
    assert markov.log_probability([[0, 1], [1, 0]], [0, 0, 1]) == -math.inf
    assert markov.log_probability([[0, 1], [1, 0]], [1]) == 0


@pytest.mark.parametrize("bounds", [None, [0, 7, 7, 8, 30]])
@pytest.mark.parametrize("smoothing", [0.0, 0.5, 1])
def test_transitions_are_counted(smoothing, bounds):
    ids = np.random.default_rng(0).integers(0, 3, 30)
    counts = np.full((3, 3), float(smoothing))
    for t in range(29):
        if bounds is None or t + 1 not in bounds:
            counts[ids[t], ids[t + 1]] += 1
    found = markov.transition_matrix(ids, 3, smoothing, bounds)
    np.testing.assert_allclose(found, counts / counts.sum(1, keepdims=True), rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_many_steps_do_not_drift(dtype):
    """Rows that sum to 1 only up to rounding would vanish or explode in many steps."""
    P = np.random.default_rng(0).dirichlet(np.ones(3), 3).astype(dtype)
    np.testing.assert_allclose(markov.k_step(P, 10**18), np.tile(markov.stationary(P), (3, 1)), rtol=1e-9)


def test_a_state_that_no_state_follows_needs_smoothing():
    with pytest.raises(Error, match=r"no state follows the states 2, 3, so.*give a smoothing above 0"):
        markov.transition_matrix([0, 1, 0, 1, 2], 4)
    P = markov.transition_matrix([0, 1, 0, 1, 2], 4, smoothing=1)
    np.testing.assert_allclose(P[2:], 0.25)


HALF = np.full((2, 2), 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: markov.stationary([[0.5, 0.5]]), r"is \[S, S\], not of shape \[1, 2\]"),
        (lambda: markov.k_step([[0.5, 0.6], [0, 1]], 1), "row 0 is not a distribution.* its sum is 1.1;"),
        (lambda: markov.entropy_rate([[1, 0], [-0.5, 1.5]]), "row 1 is not a distribution: its least entry is -0.5"),
        (lambda: markov.stationary([[1, 0], [math.nan, 1]]), "row 1 is not a distribution"),
        (lambda: markov.k_step(HALF, -1), "k = -1 must be a whole number, at least 0"),
        (lambda: markov.most_likely_path(HALF, 0, -2), "steps = -2 must be a whole number"),
        (lambda: markov.most_likely_path(HALF, 2, 1), "states must be from 0 to 1, and are from 2 to 2"),
        (lambda: markov.most_likely_path(HALF, 0, 1, -1), "states must be from 0 to 1, and are from -1 to 0"),
        (lambda: markov.most_likely_path([[0, 1], [1, 0]], 0, 3, 0), "no path leads from state 0 to state 0 in 3"),
        (lambda: markov.reverse(HALF, [1, 1]), "pi: row 0 is not a distribution"),
        (lambda: markov.reverse(HALF, [1]), "pi must have 2 entries in a row"),
        (lambda: markov.reverse([[0.5, 0.5], [0, 1]]), "the chain never reaches state 0"),
        (lambda: markov.log_probability(HALF, [0, 2]), "from 0 to 1, and are from 0 to 2"),
        (lambda: markov.transition_matrix([0.0], 2), r"states must be int\[n\], not float64\[1\]"),
        (lambda: markov.transition_matrix([0, 1], 0), "size = 0 must be a whole number"),
        (lambda: markov.transition_matrix([0, 1], 2, -1.0), "smoothing = -1.0 must be finite, and at least 0"),
        (lambda: markov.transition_matrix([0, 1], 2, 1.0, [0, 1]), "bounds must rise from 0 to 2"),
    ],
)
def test_errors(call, message):
    with pytest.raises(Error, match=message):
        call()
