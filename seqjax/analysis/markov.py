"""Markov chains: quantities that are computed exactly from a transition matrix.

A chain has S states 0, ..., S - 1. Its transition matrix P is float64[S, S] with P[i, j] = P(x_{t+1} = j | x_t = i), so
that every row sums to 1. The numbers of equations are those of Zhang et al., "Dive into Deep Learning", chapter 8.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.special import entr

from seqjax.analysis.ngrams import count_ngrams
from seqjax.errors import Error, check_whole


class Path(NamedTuple):
    """A path of a chain, and its probability."""

    states: np.ndarray
    """int64[steps + 1], the states x_0, ..., x_steps."""
    log_probability: float
    """ln P(x_1, ..., x_steps | x_0)."""


def transition_matrix(ids: Any, size: int, smoothing: float = 0.0, bounds: Any = None) -> np.ndarray:
    """Estimates the transition matrix from a sequence of states, by maximum likelihood or with smoothing.

        P[i, j] = (n(i, j) + a) / (Σ_j n(i, j) + a S)

    Here n(i, j) is how often j follows i, and a is the smoothing. With a > 0 this is the posterior mean under a
    symmetric Dirichlet prior.

    Args:
        ids: int[n], states from 0 to size - 1.
        size: S.
        smoothing: a, at least 0.
        bounds: int[D + 1], where documents begin and end; transitions between documents do not count. None: one
            document.

    Returns:
        P, float64[S, S].

    Raises:
        Error: ids out of range; without smoothing, a state that no state follows.
    """
    ids = _check_ids(ids, size)
    if not 0 <= smoothing < np.inf:
        raise Error(f"smoothing = {smoothing} must be finite, and at least 0")
    pairs, occurred = count_ngrams(ids, 2, size, bounds)
    counts = np.full((size, size), smoothing, np.float64)
    counts[tuple(pairs.T)] += occurred
    (never,) = np.nonzero(counts.sum(1) == 0)
    if never.size:
        shown = ", ".join(map(str, never[:5])) + ", ..." * (never.size > 5)
        raise Error(
            f"no state follows the states {shown}, so that their transitions cannot be estimated; give a smoothing "
            "above 0, or number only the states that occur"
        )
    return counts / counts.sum(1, keepdims=True)


def log_probability(P: Any, ids: Any) -> float:
    """The log probability of a sequence, given its first state.

        ln P(x_1, ..., x_n | x_0) = Σ_t ln P[x_{t-1}, x_t]                                      (8.1.3)

    Its perplexity under the chain is exp(-log_probability / n).

    Args:
        P: float[S, S].
        ids: int[n + 1], states.

    Returns:
        The log probability in nats; -inf if a transition is impossible.
    """
    P = _check_matrix(P)
    ids = _check_ids(ids, len(P))
    return float(_log(P)[ids[:-1], ids[1:]].sum())


def k_step(P: Any, k: int) -> np.ndarray:
    """The transition matrix of k steps, P(x_{t+k} | x_t): the matrix power P^k.

    This is the Chapman-Kolmogorov equation; (8.1.4) is the case k = 2.

    Args:
        P: float[S, S].
        k: the number of steps, at least 0.

    Returns:
        float64[S, S]; row i is the distribution k steps after state i.
    """
    square = _check_matrix(P)
    check_whole(k=(k, 0))
    power = np.eye(len(square))
    # By squaring. Rows are normalised after each product, so that rounding errors of their sums do not grow with k.
    while k:
        power = _normalized(power @ square) if k % 2 else power
        square, k = _normalized(square @ square), k // 2
    return power


def stationary(P: Any) -> np.ndarray:
    """The stationary distribution π, for which π P = π.

    It is unique if the chain has one recurrent class: a set of states that the chain never leaves, and in which every
    state leads to every other. A periodic chain has a stationary distribution too, which is the share of time in each
    state but not a limit of P^k. It is computed without subtractions (Grassmann, Taksar & Heyman 1985), so that each
    entry is accurate to the last digits, even if the chain almost never moves between two sets of states.

    Args:
        P: float[S, S].

    Returns:
        π, float64[S]; 0 for states that the chain leaves for ever.

    Raises:
        Error: there are several recurrent classes, so that π depends on the first state.
    """
    P = _check_matrix(P)
    classes = _recurrent_classes(P)
    if len(classes) > 1:
        shown = ", ".join(str(states[:5].tolist()) for states in classes[:5])
        raise Error(
            f"the stationary distribution is not unique: there are {len(classes)} sets of states that the chain never "
            f"leaves, such as {shown}; take the chain within one of them, or a smoothing above 0 for counts"
        )
    (states,) = classes
    pi = np.zeros(len(P))
    pi[states] = _grassmann_taksar_heyman(P[np.ix_(states, states)])
    return pi


def reverse(P: Any, pi: Any = None) -> np.ndarray:
    """The transition matrix of the chain read backwards, P(x_t | x_{t+1}), whose entries are the factors in (8.1.5).

        R[j, i] = π_i P[i, j] / Σ_i π_i P[i, j]                                                 (Bayes' rule)

    Args:
        P: float[S, S].
        pi: float[S], the distribution of x_t; None: the stationary distribution, for which R is the same at every t.

    Returns:
        R, float64[S, S].

    Raises:
        Error: `pi` is not a distribution; x_{t+1} never has some state, so that R is not defined for it.
    """
    P = _check_matrix(P)
    pi = stationary(P) if pi is None else _check_distributions("pi", np.asarray(pi, np.float64)[None], len(P))[0]
    joint = (pi[:, None] * P).T
    (never,) = np.nonzero(joint.sum(1) == 0)
    if never.size:
        raise Error(f"the chain never reaches state {never[0]}, so that no state comes before it; leave it out of P")
    return joint / joint.sum(1, keepdims=True)


def most_likely_path(P: Any, start: int, steps: int, end: int | None = None) -> Path:
    """The most probable path of a number of steps, by dynamic programming (Viterbi 1967).

        V_0 = ln [j = start],   V_t[j] = max_i (V_{t-1}[i] + ln P[i, j])

    If several paths have the largest probability, one of them is returned. A path that takes the most probable state at
    every step may have a smaller probability.

    Args:
        P: float[S, S].
        start: the state x_0.
        steps: the number of steps, at least 0.
        end: the last state; None: any state.

    Returns:
        The path and its log probability.

    Raises:
        Error: states out of range; no path leads to `end` in so many steps.
    """
    P = _check_matrix(P)
    check_whole(steps=(steps, 0))
    _check_ids([start] if end is None else [start, end], len(P))
    log_P, value = _log(P), np.full(len(P), -np.inf)
    value[start] = 0.0
    before = np.zeros((steps, len(P)), np.int64)
    for t in range(steps):
        through = value[:, None] + log_P
        before[t] = through.argmax(0)
        value = through.max(0)
    states = np.zeros(steps + 1, np.int64)
    states[-1] = value.argmax() if end is None else end
    best = float(value[states[-1]])
    if best == -np.inf:
        raise Error(f"no path leads from state {start} to state {end} in {steps} steps; take another number of steps")
    for t in reversed(range(steps)):
        states[t] = before[t, states[t + 1]]
    return Path(states, best)


def entropy_rate(P: Any) -> float:
    """The entropy rate of the chain. In the long run no model has a lower mean cross-entropy.

        H = -Σ_i π_i Σ_j P[i, j] ln P[i, j]                     (Cover & Thomas 2006, theorem 4.2.4)

    exp(H) is the lowest perplexity that a model can reach.

    Args:
        P: float[S, S].

    Returns:
        H in nats per step.

    Raises:
        Error: the stationary distribution π is not unique.
    """
    P = _check_matrix(P)
    return float(stationary(P) @ entr(P).sum(1))


def _recurrent_classes(P: np.ndarray) -> list[np.ndarray]:
    """The states of each recurrent class: a strongly connected component that no transition leaves."""
    count, label = connected_components(P > 0, connection="strong")
    left = label[np.nonzero((P > 0) & (label[:, None] != label))[0]]
    return [np.flatnonzero(label == c) for c in np.setdiff1d(np.arange(count), left)]


def _grassmann_taksar_heyman(P: np.ndarray) -> np.ndarray:
    """π of an irreducible chain: states are removed one by one, from the last, and then added again."""
    A, size = P.copy(), len(P)
    for n in reversed(range(1, size)):
        # The chain watched only in the states below n: a path through n is replaced by a direct transition.
        A[:n, n] /= A[n, :n].sum()
        A[:n, :n] += np.outer(A[:n, n], A[n, :n])
    pi = np.ones(size)
    for n in range(1, size):
        pi[n] = pi[:n] @ A[:n, n]
    return pi / pi.sum()


def _log(P: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(P)


def _check_matrix(P: Any) -> np.ndarray:
    P = np.array(P, np.float64)
    if P.ndim != 2 or P.shape[0] != P.shape[1] or not P.size:
        raise Error(f"a transition matrix is [S, S], not of shape {list(P.shape)}")
    return _check_distributions("the transition matrix", P, len(P))


def _check_distributions(name: str, rows: np.ndarray, size: int) -> np.ndarray:
    """Checks that each row is a distribution over `size` states, and returns the rows normalised."""
    if rows.shape[1:] != (size,):
        raise Error(
            f"{name} must have {size} entries in a row, one for each state; it has the shape {list(rows.shape)}"
        )
    wrong = ~((rows >= 0).all(1) & (np.abs(rows.sum(1) - 1) < 1e-6))  # the accuracy of float32
    if wrong.any():
        n = int(wrong.argmax())
        raise Error(
            f"{name}: row {n} is not a distribution: its least entry is {rows[n].min():g} and its sum is "
            f"{rows[n].sum():.9g}; entries must be at least 0, and each row must sum to 1"
        )
    return _normalized(rows)


def _normalized(rows: np.ndarray) -> np.ndarray:
    """The rows, divided by their sums."""
    return rows / rows.sum(1, keepdims=True)


def _check_ids(ids: Any, size: int) -> np.ndarray:
    check_whole(size=(size, 1))
    states = np.asarray(ids)
    if states.ndim != 1 or states.dtype.kind not in "iu" or not states.size:
        raise Error(f"states must be int[n], not {states.dtype}{list(states.shape)}")
    if states.min() < 0 or states.max() >= size:
        raise Error(f"states must be from 0 to {size - 1}, and are from {states.min()} to {states.max()}")
    return states.astype(np.int64)
