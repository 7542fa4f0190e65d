"""Markov chains: what follows exactly from a transition matrix.

A chain has S states 0, ..., S - 1. P is its transition matrix, float64[S, S]: P[i, j] = P(x_{t+1} = j | x_t = i), so
that every row sums to 1.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.sparse.csgraph import connected_components
from scipy.special import entr

from seqjax.analysis.ngrams import count_ngrams
from seqjax.errors import Error, is_whole


class Path(NamedTuple):
    """States that a chain goes through, and how probable they are."""

    states: np.ndarray
    """int64[steps + 1], the first one given."""
    log_probability: float
    """ln P(x_1, ..., x_steps | x_0)."""


def transition_matrix(ids: Any, size: int, smoothing: float = 0.0, bounds: Any = None) -> np.ndarray:
    """The transition matrix of a sequence, counted: the maximum likelihood estimate, or a smoothed one.

        P[i, j] = (n(i, j) + a) / (Σ_j n(i, j) + a S)

    n(i, j) is how often j follows i, and a the smoothing: the posterior mean under a symmetric Dirichlet prior.

    Args:
        ids: int[n], states from 0 to size - 1.
        size: S.
        smoothing: a, 0 or more.
        bounds: int[D + 1] offsets of documents; a transition from one to the next does not count. None: one document.

    Returns:
        P, float64[S, S].

    Raises:
        Error: ids out of range; without smoothing, a state that nothing follows.
    """
    ids = _check_ids(ids, size)
    if not 0 <= smoothing < np.inf:
        raise Error(f"smoothing = {smoothing} must be finite, and 0 or more")
    pairs, occurred = count_ngrams(ids, 2, size, bounds)
    counts = np.full((size, size), smoothing, np.float64)
    counts[tuple(pairs.T)] += occurred
    (never,) = np.nonzero(counts.sum(1) == 0)
    if never.size:
        shown = ", ".join(map(str, never[:5])) + ", ..." * (never.size > 5)
        raise Error(
            f"nothing follows the states {shown}, so that their transitions have no estimate; give a smoothing above "
            "0, or number the states that occur"
        )
    return counts / counts.sum(1, keepdims=True)


def log_probability(P: Any, ids: Any) -> float:
    """How probable a sequence is, given its first state.

        ln P(x_1, ..., x_n | x_0) = Σ_t ln P[x_{t-1}, x_t]                                      (8.1.3)

    Its perplexity under the chain is exp(-log_probability / n).

    Args:
        P: float[S, S].
        ids: int[n + 1], states.

    Returns:
        In nats; -inf where a transition is impossible.
    """
    P = _check_matrix(P)
    ids = _check_ids(ids, len(P))
    return float(_log(P)[ids[:-1], ids[1:]].sum())


def k_step(P: Any, k: int) -> np.ndarray:
    """The probabilities of where the chain is k steps later: the matrix power P^k.

    P(x_{t+k} | x_t) by the Chapman-Kolmogorov equation, of which (8.1.4) is the case k = 2.

    Args:
        P: float[S, S].
        k: number of steps, 0 or more.

    Returns:
        float64[S, S]: row i is the distribution k steps after state i.
    """
    square, k = _check_matrix(P), _check_steps("k", k)
    power = np.eye(len(square))
    while k:  # by squaring; rounding, which would grow with k, is taken out of each row's sum
        power = _normalized(power @ square) if k % 2 else power
        square, k = _normalized(square @ square), k // 2
    return power


def stationary(P: Any) -> np.ndarray:
    """The stationary distribution π, the one with π P = π.

    It is unique where there is one set of states that the chain, once in it, does not leave and in which every state
    leads to every other (a recurrent class). A chain with a period has one too: it is then the share of time in each
    state, and not a limit of P^k. Computed without a subtraction (Grassmann, Taksar & Heyman 1985), so that each entry
    is right to the last digits even where classes are almost apart.

    Args:
        P: float[S, S].

    Returns:
        π, float64[S]; 0 for states that are left for ever.

    Raises:
        Error: several recurrent classes, so that π depends on where the chain starts.
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
    """The transition matrix of the chain read backwards, P(x_t | x_{t+1}): what (8.1.5) is made of.

        R[j, i] = π_i P[i, j] / Σ_i π_i P[i, j]                                                 (Bayes' rule)

    Args:
        P: float[S, S].
        pi: float[S], the distribution of x_t; None: the stationary one, with which the chain read backwards has the
            same matrix at every t.

    Returns:
        R, float64[S, S].

    Raises:
        Error: no distribution; a state that x_{t+1} never has, so that nothing can be said of what came before.
    """
    P = _check_matrix(P)
    pi = stationary(P) if pi is None else _check_rows("pi", np.asarray(pi, np.float64)[None], len(P))[0]
    joint = (pi[:, None] * P).T
    (never,) = np.nonzero(joint.sum(1) == 0)
    if never.size:
        raise Error(f"the chain never comes to state {never[0]}, so that nothing comes before it; leave it out of P")
    return joint / joint.sum(1, keepdims=True)


def most_likely_path(P: Any, start: int, steps: int, end: int | None = None) -> Path:
    """The most probable states of the next steps, all of them together, by dynamic programming (Viterbi 1967).

        V_0 = ln [j = start],   V_t[j] = max_i (V_{t-1}[i] + ln P[i, j])

    Where several paths are as probable it is one of them. To take the most probable state at every step may lead to a
    path that is less probable.

    Args:
        P: float[S, S].
        start: the state x_0.
        steps: number of steps, 0 or more.
        end: the last state; None: any.

    Returns:
        The path and its probability.

    Raises:
        Error: states out of range; no path to `end` in so many steps.
    """
    P, steps = _check_matrix(P), _check_steps("steps", steps)
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
    """How uncertain the next state is in the long run: no model has a lower mean cross-entropy.

        H = -Σ_i π_i Σ_j P[i, j] ln P[i, j]                     (Cover & Thomas 2006, theorem 4.2.4)

    exp(H) is the floor of every model's perplexity.

    Args:
        P: float[S, S].

    Returns:
        H in nats a step.

    Raises:
        Error: the stationary distribution π is not unique.
    """
    P = _check_matrix(P)
    return float(stationary(P) @ entr(P).sum(1))


def _recurrent_classes(P: np.ndarray) -> list[np.ndarray]:
    """The states of each set that the chain does not leave and in which each leads to every other."""
    count, label = connected_components(P > 0, connection="strong")
    left = label[np.nonzero((P > 0) & (label[:, None] != label))[0]]
    return [np.flatnonzero(label == c) for c in np.setdiff1d(np.arange(count), left)]


def _grassmann_taksar_heyman(P: np.ndarray) -> np.ndarray:
    """π of an irreducible chain: states are taken out one by one from the last, then put back in."""
    A, size = P.copy(), len(P)
    for n in reversed(range(1, size)):
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
    return _check_rows("the transition matrix", P, len(P))


def _check_rows(name: str, rows: np.ndarray, size: int) -> np.ndarray:
    """Rows that are distributions over so many states."""
    if rows.shape[1:] != (size,):
        raise Error(f"{name} must have {size} entries a row, one for each state, and is of shape {list(rows.shape)}")
    wrong = ~((rows >= 0).all(1) & (np.abs(rows.sum(1) - 1) < 1e-6))  # as close as float32 comes
    if wrong.any():
        n = int(wrong.argmax())
        raise Error(
            f"{name}: row {n} is no distribution, since its least entry is {rows[n].min():g} and its sum "
            f"{rows[n].sum():.9g}; entries must be 0 or more, and each row sum to 1"
        )
    return _normalized(rows)


def _normalized(rows: np.ndarray) -> np.ndarray:
    """Rows that sum to 1."""
    return rows / rows.sum(1, keepdims=True)


def _check_ids(ids: Any, size: int) -> np.ndarray:
    if not is_whole(size) or size < 1:
        raise Error(f"size = {size!r} must be a whole number, 1 or more: the number of states")
    found = np.asarray(ids)
    if found.ndim != 1 or found.dtype.kind not in "iu" or not found.size:
        raise Error(f"states must be int[n], not {found.dtype}{list(found.shape)}")
    if found.min() < 0 or found.max() >= size:
        raise Error(f"states must be from 0 to {size - 1}, and are from {found.min()} to {found.max()}")
    return found.astype(np.int64)


def _check_steps(name: str, steps: int) -> int:
    if not is_whole(steps) or steps < 0:
        raise Error(f"{name} = {steps!r} must be a whole number, 0 or more")
    return int(steps)
