"""A model that counts."""

from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Interval

from seqjax import Error, register
from seqjax.models import CountBasedModel
from seqjax_models._counts import check_spec, count_tree, padded_text

Epsilon = Annotated[float, Interval(ge=0)]


class State(NamedTuple):
    """last: the last n - 1 inputs, int32[n - 1], oldest first; known: how many of them there were, int32[]."""

    last: jax.Array
    known: jax.Array


@register("model", "ngram")
@dataclass(frozen=True)
class NGram(CountBasedModel):
    """Probabilities of the next token from how often tokens followed the last n - 1 in the training text.

    Where x is a token, c_k the last k tokens, n(c_k, x) how often x followed them, n(c_k) = Σ_x n(c_k, x), T(c_k) the
    number of different x that did, V the number of symbols (`<unk>` among them) and P_{-1} = 1/V:

    `laplace`      P_0(x) = (n(x) + ε_1 / V) / (n + ε_1),   P_k(x) = (n(c_k, x) + ε_{k+1} P_0(x)) / (n(c_k) + ε_{k+1})
    `additive`     P_k(x) = (n(c_k, x) + ε_{k+1}) / (n(c_k) + ε_{k+1} V)
    `witten-bell`  P_k(x) = (n(c_k, x) + T(c_k) P_{k-1}(x)) / (n(c_k) + T(c_k))
    `kneser-ney`   P_k(x) = (max(n(c_k, x) - D, 0) + D T(c_k) P_{k-1}(x)) / n(c_k), where for k < n - 1 the counts
                   n(c_k, x) are the numbers of different tokens before (c_k, x)
    `none`         P_k(x) = n(c_k, x) / n(c_k)

    The result is P_{n-1}, and at the start of a sequence, where only k < n - 1 tokens are known, P_k. Where an equation
    is 0/0, P_k = P_{k-1}. So after a context that was never seen `witten-bell`, `kneser-ney` and `none` take the next
    shorter one, while `laplace` gives P_0 and `additive` 1/V, unless their ε is 0.

    `laplace` is (8.3.5) of the textbook chapter, in which every order falls back on single tokens. There n(c_k) are all
    occurrences of c_k, and after the last tokens of the text, which nothing follows, its probabilities do not sum to 1;
    here they do. `witten-bell` is method C of Witten & Bell (1991), `kneser-ney` that of Kneser & Ney (1995) with one
    discount, both interpolated as in Chen & Goodman (1999, "An empirical study of smoothing techniques for language
    modeling").

    No n-gram crosses documents. The first token of each counts among the n(x), although it follows nothing; a document
    of one token has no targets, and does not count.

    The logits are log probabilities, -inf where the probability is 0. Parameters, int32, for C different contexts, of
    which the first is the empty one: `single` [V], what follows that. `children` [C + 1], where those that are longer
    by one token begin and end; `older` [C], that token of each. `rows` [C + 1], where what follows each begins and ends
    in `symbols` and `counts`. `entries`: 0, 1, ... up to the longest row.
    """

    order: Annotated[int, Interval(ge=1)] = 4
    """n: a token is predicted from the n - 1 before it."""
    smoothing: Literal["laplace", "additive", "witten-bell", "kneser-ney", "none"] = "witten-bell"
    """How much probability goes to what was not seen, and where to."""
    epsilon: Epsilon | tuple[Epsilon, ...] = 1.0
    """ε_1, ..., ε_n of laplace and additive, or one number for all."""
    discount: Annotated[float, Interval(gt=0, lt=1)] = 0.9
    """D of kneser-ney: what is taken off every count."""

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.epsilon, tuple) and len(self.epsilon) != self.order:
            raise Error(
                f"NGram cannot be made: epsilon = {self.epsilon} are {len(self.epsilon)} numbers, and order = "
                f"{self.order} needs as many; give {self.order}, or one for all"
            )

    def count(self, stream, spec):
        """The parameters: how often each n-gram occurs in a text, those with fewer tokens at its documents' starts.

        Raises:
            Error: the stream is no text of these symbols.
        """
        size = check_spec(spec)
        return count_tree(padded_text(stream, self.order, size), self.order, size, self.smoothing == "kneser-ney")

    def init_state(self, params, spec, key=None):
        """Nothing known."""
        check_spec(spec)
        return State(jnp.zeros(self.order - 1, jnp.int32), jnp.zeros((), jnp.int32))

    def step(self, params, state, x):
        """One time step."""
        last = jnp.concatenate([state.last, x[None]])[1:]
        known = jnp.minimum(state.known + 1, self.order - 1)
        return State(last, known), jnp.log(self._mixed(params, last, known))

    def _mixed(self, params, last, known):
        """The probabilities float[V] of what follows. All equations are (c + a q) / (Σ c + a) with some c, a and q."""
        tree = jax.tree.map(jnp.asarray, params)
        counts = tree["single"].astype(jnp.result_type(float))
        size = len(counts)
        epsilons = jnp.broadcast_to(jnp.array(self.epsilon, counts.dtype), self.order)
        uniform = jnp.full_like(counts, 1 / size)
        single = self._mix(epsilons[0], counts, uniform, uniform)

        def longer(k, carry):
            p, context, seen = carry
            context, found = _child(tree, context, last[self.order - 1 - k], size)
            seen &= found
            counts = jnp.where(seen, _row(tree, context, size), 0).astype(p.dtype)
            p = jnp.where(k <= known, self._mix(epsilons[k], counts, p, single), p)
            return p, context, seen

        if self.order == 1:
            return single
        return jax.lax.fori_loop(1, self.order, longer, (single, jnp.int32(0), jnp.bool(True)))[0]

    def _mix(self, epsilon, counts, shorter, single):
        """One equation; `single` is what laplace falls back on."""
        distinct = jnp.sum(counts > 0).astype(counts.dtype)
        match self.smoothing:
            case "laplace":
                weight, other = epsilon, single
            case "additive":
                weight, other = epsilon * len(counts), 1 / len(counts)
            case "witten-bell":
                weight, other = distinct, shorter
            case "kneser-ney":
                weight, other = self.discount * distinct, shorter
                counts = jnp.maximum(counts - self.discount, 0)
            case "none":
                weight, other = 0.0, shorter
        total = counts.sum() + weight
        return jnp.where(total > 0, (counts + weight * other) / jnp.where(total > 0, total, 1), shorter)

    def _epsilon(self, k):
        """ε_{k+1}."""
        return self.epsilon[k] if isinstance(self.epsilon, tuple) else self.epsilon

    def probabilities(self, params, context):
        """The probabilities of what follows a context, in numpy: the equations as they are written above.

        Args:
            params: of `count`.
            context: int[k], the tokens before, oldest first, as many as are known; the last n - 1 are looked at.

        Returns:
            float64[V], which sum to 1.
        """
        V, ids = len(params["single"]), np.asarray(context)
        if ids.ndim != 1 or (ids.size and (ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= V)):
            raise Error(f"context: int[k], ids from 0 to {V - 1}, such as codec.encode(text), not {context!r:.80}")
        context = ids.astype(np.int64)
        p = single = np.full(V, 1 / V)
        for k in range(min(len(context), self.order - 1) + 1):
            n = _counts_after(params, context[len(context) - k :])
            total, distinct, epsilon = n.sum(), np.count_nonzero(n), self._epsilon(k)
            if self.smoothing == "laplace" and total + epsilon > 0:
                p = (n + epsilon * single) / (total + epsilon)
            elif self.smoothing == "additive" and total + epsilon > 0:
                p = (n + epsilon) / (total + epsilon * V)
            elif self.smoothing == "witten-bell" and total > 0:
                p = (n + distinct * p) / (total + distinct)
            elif self.smoothing == "kneser-ney" and total > 0:
                p = (np.maximum(n - self.discount, 0) + self.discount * distinct * p) / total
            elif self.smoothing == "none" and total > 0:
                p = n / total
            single = p if k == 0 else single
        return p


def _child(tree, parent, older, size):
    """The id of the context that is longer by a token, and whether it was seen, by bisection among the children."""
    low, end = tree["children"][parent], tree["children"][parent + 1]
    high = end
    for _ in range(size.bit_length()):
        middle = low + (high - low) // 2
        right = (low < high) & (tree["older"][middle] < older)
        low, high = jnp.where(right, middle + 1, low), jnp.where(right, high, middle)
    found = (low < end) & (tree["older"][low] == older)
    return jnp.where(found, low, 0), found


def _row(tree, context, size):
    """How often each symbol follows a context, int32[V]."""
    at = tree["rows"][context] + tree["entries"]
    symbols = jnp.where(at < tree["rows"][context + 1], tree["symbols"][at], size)
    return jnp.zeros(size, jnp.int32).at[symbols].set(tree["counts"][at], mode="drop")


def _counts_after(tree, context):
    """How often each symbol follows a context, float64[V]; zeros where it was not seen."""
    tree = {name: np.asarray(array) for name, array in tree.items()}
    counts = np.zeros(len(tree["single"]))
    node = 0
    for older in context[::-1]:
        first, end = tree["children"][node : node + 2]
        node = first + np.searchsorted(tree["older"][first:end], older)
        if node == end or tree["older"][node] != older:
            return counts
    row = slice(*tree["rows"][node : node + 2])
    counts[tree["symbols"][row]] = tree["counts"][row]
    return counts + tree["single"] if node == 0 else counts
