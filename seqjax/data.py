"""From a corpus to batches: split, encode, stream, windows."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from seqjax.config import DEFAULT_TOKENIZER, create
from seqjax.contracts import Codec, Corpus, Plan, Spec, Stream, Text, Tokenizer
from seqjax.errors import Error

PARTS = ("train", "heldout", "rest")
"""The consecutive parts of a corpus."""


class Data(NamedTuple):
    """A corpus made ready: `streams` has one for each of `PARTS`."""

    source: Text
    codec: Codec
    spec: Spec
    streams: dict[str, Stream]


def prepare(corpus: Corpus, train: int | float, heldout: int | float, tokenizer: Tokenizer | None) -> Data:
    """Loads, splits, fits the tokenizer on the training split alone, encodes."""
    source = corpus.load()
    parts = split(source, train, heldout)
    codec = resolve_tokenizer(tokenizer).fit(parts["train"])
    streams = {name: next_token_stream(*encode(part, codec)) for name, part in parts.items()}
    return Data(source, codec, Spec(codec.spec), streams)


def resolve_tokenizer(tokenizer: Tokenizer | None) -> Tokenizer:
    """The tokenizer of a recipe; None stands for the default one."""
    return tokenizer or create("tokenizer", DEFAULT_TOKENIZER)


def split(source: Text, train: int | float, heldout: int | float) -> dict[str, Text]:
    """Consecutive parts of a corpus: `train`, `heldout` and the `rest`; int = characters, float = share."""
    total = len(source)
    sizes = [size if isinstance(size, int) else round(size * total) for size in (train, heldout)]
    if isinstance(train, float) and isinstance(heldout, float):
        sizes[1] = round((train + heldout) * total) - sizes[0]  # so that shares of 1 in all take no more than all
    if sizes[0] < 2 or sum(sizes) > total:
        raise Error(
            f"corpus {source.source or 'text'} has {total:,} characters; train = {train} and heldout = {heldout} "
            f"take {sizes[0]:,} and {sizes[1]:,} of them, and training needs at least 2\n"
            "Use a longer text, or shares such as --train 0.9 --heldout 0.1"
        )
    edges = [0, sizes[0], sum(sizes), total]
    return {name: source[first:last] for name, first, last in zip(PARTS, edges, edges[1:], strict=False)}


def encode(text: Text, codec: Codec) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " bounds"]]:
    """Ids of a text, and where its documents begin and end among them."""
    ids = [codec.encode(text.text[first:last]) for first, last in zip(text.bounds, text.bounds[1:], strict=False)]
    return np.concatenate(ids), np.cumsum([0, *map(len, ids)], dtype=np.int64)


def next_token_stream(ids: Int[np.ndarray, " n"], bounds: Int[np.ndarray, " bounds"]) -> Stream:
    """The stream of a language model: each id predicts the next one of its document."""
    inside = np.ones(len(ids), bool)
    lengths = np.diff(bounds)
    inside[bounds[1:][lengths > 0] - 1] = False  # a document's last id predicts nothing
    (at,) = np.nonzero(inside)
    lengths = np.maximum(lengths - 1, 0)
    return Stream(ids[at], ids[at + 1], np.cumsum([0, *lengths], dtype=np.int64))


def check_stream(stream: Stream) -> Stream:
    """The stream with its bounds as int64[D + 1]."""
    bounds = np.asarray(stream.bounds, np.int64)
    sizes = {name: len(side) for name, side in stream._asdict().items() if name != "bounds" and side is not None}
    if len(set(sizes.values())) != 1 or bounds.ndim != 1 or bounds[0] != 0 or (np.diff(bounds) < 0).any():
        raise Error(f"a stream's sides must have one length, and its bounds rise from 0: {sizes}, {bounds}")
    if bounds[-1] != sizes["inputs"]:
        raise Error(f"a stream's bounds must end at its length, {sizes['inputs']:,}; they end at {bounds[-1]:,}")
    return stream._replace(bounds=bounds)


def check_plan(plan: Plan, sampler: Any, size: int) -> Plan:
    """The plan as numpy arrays, if its windows lie inside a stream of this size."""
    plan = Plan(*map(np.asarray, plan))
    B, T = sampler.batch_size, sampler.num_steps
    shape = (max(1, len(plan.starts)), B)
    good = [(a.shape, a.dtype.kind) for a in plan] == [(shape, "i"), ((*shape, 2), "i"), (shape, "b")]
    if not good or (plan.starts < 0).any() or (plan.scored < 0).any() or (plan.scored > T).any():
        raise Error(f"sampler {type(sampler).__name__}: a plan is int[N, {B}], int[N, {B}, 2] up to {T}, bool[N, {B}]")
    if (plan.starts + plan.scored[..., 1] > size).any():
        raise Error(f"sampler {type(sampler).__name__}: its plan scores steps past the end of the stream, {size:,}")
    return plan


def cut_windows(first: Any, last: Any, num_steps: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Windows side by side over segments first[i] <= t < last[i].

    Returns:
        Of each window its start, its length (at most T; shorter at a segment's end) and its segment i.
    """
    first, last = np.asarray(first, np.int64), np.asarray(last, np.int64)
    counts = -(-(last - first) // num_steps)
    segment = np.repeat(np.arange(len(first)), counts)
    nth = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = first[segment] + nth * num_steps
    return starts, np.minimum(num_steps, last[segment] - starts), segment


def in_order(bounds: Int[np.ndarray, " bounds"], num_steps: int) -> Plan:
    """Every target once, in order, in one row: what evaluation reads. A document starts afresh."""
    starts, lengths, document = cut_windows(bounds[:-1], bounds[1:], num_steps)
    scored = np.stack([np.zeros_like(lengths), lengths], -1).astype(np.int32)
    fresh = np.diff(document, prepend=-1) > 0
    return Plan(starts[:, None], scored[:, None], fresh[:, None])


def window(stream: Stream, starts: Int[Array, " B"], num_steps: int) -> Any:
    """(inputs, targets) of T steps from each start, leaves [T, B, ...]; past the end the last entry repeats."""
    at_TB = _positions(starts, num_steps)
    return tuple(jnp.asarray(side).at[at_TB].get(mode="clip") for side in (stream.inputs, stream.targets))


def past_context(plan: Plan, context: int, num_steps: int) -> Plan:
    """The plan with the first `context` steps after each fresh start not scored."""
    n_N1 = jnp.arange(len(plan.fresh), dtype=jnp.int32)[:, None]
    last_fresh_NB = jax.lax.cummax(jnp.where(plan.fresh, n_N1, -context - 1), axis=0)  # a row that is not is past it
    first_NB = jnp.maximum(plan.scored[..., 0], context - num_steps * (n_N1 - last_fresh_NB))
    return plan._replace(scored=jnp.stack([first_NB.astype(jnp.int32), plan.scored[..., 1]], -1))


def scored_steps(stream: Stream, plan: Plan, num_steps: int) -> Bool[Array, "T B"]:
    """Which steps of one batch count: in its plan's scored range and in the stream's mask."""
    t_T1 = jnp.arange(num_steps, dtype=jnp.int32)[:, None]
    counts_TB = (plan.scored[:, 0] <= t_T1) & (t_T1 < plan.scored[:, 1])
    if stream.mask is not None:
        counts_TB &= jnp.asarray(stream.mask).at[_positions(plan.starts, num_steps)].get(mode="clip")
    return counts_TB


def _positions(starts, num_steps):
    """Where in the stream each step of each row is, int32[T, B]."""
    return starts.astype(jnp.int32) + jnp.arange(num_steps, dtype=jnp.int32)[:, None]
