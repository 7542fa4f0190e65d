"""N-grams: the next token from counts of the tokens that followed the last ones in the training text."""

import functools
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Interval

from seqjax import Error, Spec, Tokens, register
from seqjax.analysis import count_ngrams
from seqjax.data import Stream
from seqjax.models import CountBasedModel

Epsilon = Annotated[float, Interval(ge=0)]


class NgramState(NamedTuple):
    """The last inputs of a sequence.

    Args:
        last: int32[n - 1], the last n - 1 inputs, oldest first; zeros in place of inputs before the sequence.
        known: int32[], how many of them belong to the sequence.
    """

    last: jax.Array
    known: jax.Array


@register("model", "ngram")
@dataclass(frozen=True)
class NGram(CountBasedModel):
    """Probabilities of the next token from how often tokens followed the last n - 1 in the training text.

    Let x be a token, c_k the last k tokens, n(c_k, x) how often x followed them, n(c_k) = Σ_x n(c_k, x), T(c_k) the
    number of tokens x with n(c_k, x) > 0, V the size of the vocabulary (with `<unk>`) and P_{-1} = 1/V. Then

    `laplace`      P_0(x) = (n(x) + ε_1 / V) / (n + ε_1),   P_k(x) = (n(c_k, x) + ε_{k+1} P_0(x)) / (n(c_k) + ε_{k+1})
    `additive`     P_k(x) = (n(c_k, x) + ε_{k+1}) / (n(c_k) + ε_{k+1} V)
    `witten-bell`  P_k(x) = (n(c_k, x) + T(c_k) P_{k-1}(x)) / (n(c_k) + T(c_k))
    `kneser-ney`   P_k(x) = (max(n(c_k, x) - D, 0) + D T(c_k) P_{k-1}(x)) / n(c_k)
    `none`         P_k(x) = n(c_k, x) / n(c_k)

    For k < n - 1 `kneser-ney` has other counts: n(c_k, x) is the number of different tokens that came before (c_k, x),
    and so n(c_k) and T(c_k) are sums over these numbers. They are 0 for an n-gram that occurred only where a document
    starts, since no token comes before it there.

    The result is P_{n-1}; at the start of a sequence, where only k < n - 1 tokens are known, it is P_k. If an equation
    is 0/0, P_k = P_{k-1}. After a context that was never seen, `witten-bell`, `kneser-ney` and `none` therefore use the
    next shorter context, while `laplace` gives P_0 and `additive` 1/V, unless their ε is 0.

    `laplace` is (8.3.5) of the textbook chapter, in which every order falls back on single tokens. There n(c_k) counts
    all occurrences of c_k, also the one at the end of the text, which no token follows; so the probabilities after the
    last tokens of the text do not sum to 1. Here they do. `witten-bell` is method C of Witten & Bell (1991), and
    `kneser-ney` is the method of Kneser & Ney (1995) with one discount. Both are interpolated as in Chen & Goodman
    (1999, "An empirical study of smoothing techniques for language modeling").

    No n-gram crosses documents. The first token of a document counts in n(x), although it follows nothing. A document
    of one token has no targets, and does not count.

    The logits are log probabilities, -∞ for a probability of 0. The parameters, all int32, are a tree of the C
    different contexts, of which the first is the empty one:

    `single` [V]        how often each token follows the empty context.
    `children` [C + 1]  the contexts children[c], ..., children[c + 1] - 1 are one token longer than context c.
    `older` [C]         the token by which a context is longer, its oldest.
    `rows` [C + 1]      the entries rows[c], ..., rows[c + 1] - 1 of the next two arrays belong to context c.
    `tokens`, `counts` a token that follows the context, and how often.
    `entries`           0, 1, ..., up to the largest number of entries of a context.
    """

    cites = ("witten1991zero", "kneser1995improved", "chen1999empirical")

    order: Annotated[int, Interval(ge=1)] = 4
    """n: a token is predicted from the n - 1 tokens before it."""
    smoothing: Literal["laplace", "additive", "witten-bell", "kneser-ney", "none"] = "witten-bell"
    """The equation, which decides how much probability unseen tokens get, and how it is distributed among them."""
    epsilon: Epsilon | tuple[Epsilon, ...] = 1.0
    """ε_1, ..., ε_n of laplace and additive, or one number for all of them."""
    discount: Annotated[float, Interval(gt=0, lt=1)] = 0.9
    """D of kneser-ney, which is subtracted from every count."""

    def __post_init__(self):
        super().__post_init__()
        if isinstance(self.epsilon, tuple) and len(self.epsilon) != self.order:
            raise Error(
                f"NGram cannot be made: epsilon = {self.epsilon} has {len(self.epsilon)} numbers, and order = "
                f"{self.order} needs as many; give {self.order} numbers, or one for all"
            )

    def count(self, stream, spec):
        """The parameters: the counts of all n-grams of a text; at the starts of documents also of shorter n-grams.

        Raises:
            Error: the stream is not a text of these tokens.
        """
        size = _check_spec(spec)
        return _count_tree(_padded_text(stream, self.order, size), self.order, size, self.smoothing == "kneser-ney")

    def init_state(self, params, spec, key=None):
        """The state before the first input: no input is known."""
        _check_spec(spec)
        return NgramState(jnp.zeros(self.order - 1, jnp.int32), jnp.zeros((), jnp.int32))

    def step(self, params, state, x):
        """Appends the input to the last ones; the output is the log of the probabilities."""
        last = jnp.concatenate([state.last, x[None]])[1:]
        known = jnp.minimum(state.known + 1, self.order - 1)
        return NgramState(last, known), jnp.log(self._mixed(params, last, known))

    def probabilities(self, params, context):
        """The probabilities of the token that follows a context, in float64.

        Args:
            params: the result of `count`.
            context: int[k], the tokens before it, oldest first; only the last n - 1 matter.

        Returns:
            float64[V], which sum to 1.

        Raises:
            Error: the context does not consist of ids.
        """
        V, ids = len(params["single"]), np.asarray(context)
        if ids.ndim != 1 or (ids.size and (ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= V)):
            raise Error(f"context: int[k], ids from 0 to {V - 1}, such as codec.encode(text), not {context!r:.80}")
        known = min(len(ids), self.order - 1)
        last = np.zeros(self.order - 1, np.int32)
        last[len(last) - known :] = ids[len(ids) - known :]
        with jax.enable_x64(True):
            return np.asarray(_mixed(self, params, last, np.int32(known)))

    def _mixed(self, params, last, known):
        """The probabilities float[V] of the next token. All equations are (c + a q) / (Σ c + a) for some c, a and q."""
        tree = jax.tree.map(jnp.asarray, params)
        counts = tree["single"].astype(jnp.result_type(float))
        size = len(counts)
        epsilons = jnp.broadcast_to(jnp.array(self.epsilon, counts.dtype), self.order)
        uniform = jnp.full_like(counts, 1 / size)
        single = self._mix(epsilons[0], counts, uniform, uniform)

        def longer(k, carry):
            # From c_{k-1} to c_k, whose oldest token is last[n - 1 - k]. If c_{k-1} was never seen, c_k was not either.
            p, context, seen = carry
            context, was_seen = _child(tree, context, last[self.order - 1 - k], size)
            seen &= was_seen
            counts = jnp.where(seen, _row(tree, context, size), 0).astype(p.dtype)
            p = jnp.where(k <= known, self._mix(epsilons[k], counts, p, single), p)
            return p, context, seen

        if self.order == 1:
            return single
        return jax.lax.fori_loop(1, self.order, longer, (single, jnp.int32(0), jnp.bool(True)))[0]

    def _mix(self, epsilon, counts, shorter, single):
        """P_k by the equation of the smoothing.

        Args:
            epsilon: ε_{k+1}.
            counts: float[V], n(c_k, x).
            shorter: float[V], P_{k-1}.
            single: float[V], P_0, which laplace falls back on; 1/V if k = 0.
        """
        distinct = jnp.sum(counts > 0).astype(counts.dtype)
        match self.smoothing:
            case "laplace":
                weight, other = epsilon, single
            case "additive":
                weight, other = epsilon * len(counts), 1 / len(counts)
            case "witten-bell":
                weight, other = distinct, shorter
            case "kneser-ney":
                # n(c_k) = Σ_x max(n(c_k, x) - D, 0) + D T(c_k), since a count that is not 0 is at least 1 > D.
                weight, other = self.discount * distinct, shorter
                counts = jnp.maximum(counts - self.discount, 0)
            case "none":
                weight, other = 0.0, shorter
        total = counts.sum() + weight
        return jnp.where(total > 0, (counts + weight * other) / jnp.where(total > 0, total, 1), shorter)


_mixed = functools.partial(jax.jit, static_argnums=0)(NGram._mixed)
"""`NGram._mixed`, compiled once for each model and each size of its parameters."""


def _child(tree, parent, older, size):
    """The context that is longer than `parent` by the token `older`, and whether it was seen.

    Children of one parent are sorted by that token; they are bisected in ⌈log2 V⌉ steps, a static number.
    """
    low, end = tree["children"][parent], tree["children"][parent + 1]
    high = end
    for _ in range(size.bit_length()):
        middle = low + (high - low) // 2
        right = (low < high) & (tree["older"][middle] < older)
        low, high = jnp.where(right, middle + 1, low), jnp.where(right, high, middle)
    was_seen = (low < end) & (tree["older"][low] == older)
    return jnp.where(was_seen, low, 0), was_seen


def _row(tree, context, size):
    """How often each token follows a context, int32[V].

    As many entries are read as the longest row has, a static number. Entries after the row's end get the token V, which
    `mode="drop"` leaves out.
    """
    at = tree["rows"][context] + tree["entries"]
    tokens = jnp.where(at < tree["rows"][context + 1], tree["tokens"][at], size)
    return jnp.zeros(size, jnp.int32).at[tokens].set(tree["counts"][at], mode="drop")


def _check_spec(spec: Spec) -> int:
    """Checks that the targets are the tokens that are read, and returns V, the size of the vocabulary."""
    if not isinstance(spec.inputs, Tokens) or spec.inputs != spec.targets:
        raise Error(
            f"the model ngram predicts the next of the tokens that it reads, and here it would read {spec.inputs} and "
            f"predict {spec.targets}; give it a text, with a tokenizer such as char or word"
        )
    return spec.inputs.size


def _padded_text(stream: Stream, order: int, size: int) -> np.ndarray:
    """The tokens of all documents, with n - 1 times the token V before each document.

    So an n-gram ends at each token, no n-gram crosses documents, and each shows how many tokens come before.
    """
    inputs, targets, bounds = (np.asarray(side) for side in stream[:3])
    starts = bounds[:-1][np.diff(bounds) > 0]
    is_next = inputs[1:] == targets[:-1]
    is_next[starts[1:] - 1] = True  # across a bound, the next input need not be the target
    if not is_next.all() or (stream.mask is not None and not np.all(stream.mask)):
        raise Error(
            "the model ngram counts a text: each target must be the next input of its document, and no target may be "
            "masked; these are other pairs of inputs and targets"
        )
    most = ((1 << 31) - size) // order - 1  # so that no index into the parameters exceeds int32
    if not 1 <= len(targets) <= most:
        raise Error(
            f"the model ngram of order {order} counts 1 to {most:,} targets, and this text has {len(targets):,}"
        )
    ids = np.concatenate([inputs[starts], targets])
    if ids.min() < 0 or ids.max() >= size:
        raise Error(f"ids must be from 0 to {size - 1}, for Tokens({size}); these are from {ids.min()} to {ids.max()}")
    before = np.full((len(starts), order), size, ids.dtype if size <= np.iinfo(ids.dtype).max else np.int64)
    before[:, -1] = inputs[starts]
    return np.insert(targets.astype(before.dtype), np.repeat(starts, order), before.ravel())


def _count_tree(text: np.ndarray, order: int, size: int, continuations: bool) -> dict[str, np.ndarray]:
    """How often each token follows each context of up to n - 1 tokens: the parameters that `NGram` documents.

    Contexts are numbered level by level: first the empty context, then the contexts of one token, and so on. Within a
    level they are in the order of (parent, oldest token), so that the children of a context have consecutive numbers.

    Args:
        text: the result of `_padded_text`.
        order: n.
        size: V, the size of the vocabulary.
        continuations: whether the entries of all but the longest contexts count the different tokens before them.
    """
    grams, counts = count_ngrams(text, order, size + 1)
    ends = grams[:, -1] < size
    grams, counts = grams[ends], counts[ends]
    # contexts[i]: the number of the context of gram i, of the length k that the loop has reached.
    contexts, num_contexts = np.zeros(len(grams), np.int64), 1
    # A context is coded as parent · V + oldest token. The empty one gets the parent -1: it is not the child of a
    # context.
    nodes, entries = [np.array([-size])], []
    for k in range(order):
        if k > 0:
            known = grams[:, -1 - k] < size  # the others have fewer than k tokens before the last one
            grams, counts, contexts = grams[known], counts[known], contexts[known]
            codes, contexts = np.unique(contexts * size + grams[:, -1 - k], return_inverse=True)
            contexts += num_contexts
            num_contexts += len(codes)
            nodes.append(codes)
        codes, at = np.unique(contexts * size + grams[:, -1], return_inverse=True)
        entries.append((codes, np.bincount(at, counts)))
    parents, older = np.divmod(np.concatenate(nodes), size)
    if continuations:
        entries = [_continuations(parents, entries, size), entries[-1]] if order > 1 else entries
    codes, counts = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    root = codes < size
    contexts, tokens = np.divmod(codes[~root], size)
    rows = np.searchsorted(contexts, np.arange(num_contexts + 1))
    tree = {
        "single": np.bincount(codes[root], counts[root], minlength=size),
        "children": np.searchsorted(parents, np.arange(num_contexts + 1)),
        "older": older,
        "rows": rows,
        "tokens": tokens,
        "counts": counts[~root],
        "entries": np.arange(np.diff(rows).max()),
    }
    return {name: array.astype(np.int32) for name, array in tree.items()}


def _continuations(parents, entries, size):
    """For each (context, token), coded as context · V + token, the number of different tokens before it.

    An entry (context, token) of one level stands for one token before (parent, token), the context's oldest.
    """
    codes = np.concatenate([codes for codes, _ in entries[1:]])
    contexts, tokens = np.divmod(codes, size)
    return np.unique(parents[contexts] * size + tokens, return_counts=True)
