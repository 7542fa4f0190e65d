"""From a corpus to batches: split, encode, stream, windows."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from seqjax.config import DEFAULT_TOKENIZER, PARTS, create
from seqjax.contracts import Codec, Plan, Stream, TextCodec, Tokenizer
from seqjax.corpus import Corpus, Data, Pairs, Series, Text
from seqjax.errors import Error
from seqjax.specs import Spec, Tokens, Values


class Prepared(NamedTuple):
    """A corpus made ready.

    Args:
        source: the corpus, whole.
        codec: of its tokenizer; None where it has none: a series as it is, or pairs.
        spec: what a model reads and what it is to give.
        streams: one for each of `PARTS`.
    """

    source: Data
    codec: Codec | None
    spec: Spec
    streams: dict[str, Stream]


def prepare(corpus: Corpus, train: int | float, heldout: int | float, tokenizer: Tokenizer | None) -> Prepared:
    """Loads, splits, fits the tokenizer on the training split alone, encodes."""
    source = corpus.load()
    parts = split(source, train, heldout)
    codec = fit(tokenizer, parts["train"])
    spec = spec_of(source, codec)
    streams = {name: make_stream(part, codec, spec) for name, part in parts.items()}
    return Prepared(source, codec, spec, streams)


def fit(tokenizer: Tokenizer | None, data: Data) -> Codec | None:
    """The codec of the training split; a text without a tokenizer has the default one."""
    tokenizer = resolve_tokenizer(tokenizer, data)
    return tokenizer.fit(data) if tokenizer else None  # type: ignore[arg-type]


def resolve_tokenizer(tokenizer: Tokenizer | None, data: Data) -> Tokenizer | None:
    """The tokenizer of a recipe for such data: for a text, None stands for the default one."""
    if isinstance(data, Pairs) and tokenizer is not None:
        raise Error("pairs hold what a model reads, and take no tokenizer: leave it out")
    return tokenizer or (create("tokenizer", DEFAULT_TOKENIZER) if isinstance(data, Text) else None)


def spec_of(data: Data, codec: Codec | None) -> Spec:
    """What a model of such data reads and what it is to give."""
    if isinstance(data, Pairs):
        assert data.spec is not None
        return data.spec
    return Spec(codec.spec if codec else Values(data.values.shape[1]))  # type: ignore[attr-defined]


def split(source: Data, train: int | float, heldout: int | float) -> dict[str, Any]:
    """Consecutive parts of a corpus: `train`, `heldout` and the `rest`; int = so many, float = share."""
    total = len(source)
    sizes = [size if isinstance(size, int) else round(size * total) for size in (train, heldout)]
    if isinstance(train, float) and isinstance(heldout, float):
        sizes[1] = round((train + heldout) * total) - sizes[0]  # so that shares of 1 in all take no more than all
    if sizes[0] < 2 or sum(sizes) > total:
        raise Error(
            f"corpus {source.source or type(source).__name__} has {total:,} {source.unit}; "
            f"train = {train} and heldout = {heldout} take {sizes[0]:,} and {sizes[1]:,} of them, "
            "and training needs at least 2\n"
            "Use a longer corpus, or shares such as --train 0.9 --heldout 0.1"
        )
    edges = [0, sizes[0], sum(sizes), total]
    return {name: source[first:last] for name, first, last in zip(PARTS, edges, edges[1:], strict=False)}


def make_stream(data: Data, codec: Codec | None, spec: Spec) -> Stream:
    """What is sampled of a part: of pairs the pairs, else each entry predicts the next one of its document.

    Raises:
        Error: the data are not what a model of this spec reads.
    """
    if not _fits(data, codec, spec):
        raise Error(
            f"a {type(data).__name__} is not what this model reads, which is {spec.inputs} to {spec.targets}"
            + (" of a text" if isinstance(codec, TextCodec) else "")
        )
    if isinstance(data, Pairs):
        return Stream(data.inputs, data.targets, data.bounds, data.mask)
    return next_stream(*encode(data, codec))


def _fits(data, codec, spec):
    if isinstance(data, Text):
        return isinstance(codec, TextCodec)
    if isinstance(data, Series):
        return spec == Spec(Values(data.values.shape[1]))
    sides = ((data.spec.inputs, spec.inputs), (data.spec.targets, spec.targets))
    return codec is None and all(
        type(found) is type(side)
        and (found.width == side.width or (isinstance(found, Tokens) and found.width < side.width))
        for found, side in sides
    )


def encode(data: Data, codec: Codec | None) -> tuple[np.ndarray, Int[np.ndarray, " bounds"]]:
    """Ids of a text or values of a series, and where the documents begin and end among them."""
    if not isinstance(data, Text):
        values = data.values  # type: ignore[attr-defined]
        return (codec.encode(values) if codec else values), data.bounds
    assert codec is not None
    ids = [codec.encode(document) for document in data.documents]
    return np.concatenate(ids), np.cumsum([0, *map(len, ids)], dtype=np.int64)


def next_stream(values: np.ndarray, bounds: Int[np.ndarray, " bounds"]) -> Stream:
    """The stream of a model that goes on by itself: each entry predicts the next one of its document."""
    inside = np.ones(len(values), bool)
    lengths = np.diff(bounds)
    inside[bounds[1:][lengths > 0] - 1] = False  # a document's last entry predicts nothing
    (at,) = np.nonzero(inside)
    lengths = np.maximum(lengths - 1, 0)
    return Stream(values[at], values[at + 1], np.cumsum([0, *lengths], dtype=np.int64))


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


def side_by_side(stream: Stream, num_rows: int, num_steps: int, context: int = 0) -> tuple[Any, Bool[Array, "T B"]]:
    """(inputs, targets) of B windows from all over a stream, leaves [T, B, ...], and which targets count.

    No window crosses documents. The first `context` targets of each do not count, nor those that are masked.

    Raises:
        Error: the stream has fewer windows, or no target in them counts.
    """
    if num_rows < 1 or num_steps < 1:
        raise Error(f"rows = {num_rows} and steps = {num_steps} must be at least 1")
    starts, lengths, _ = cut_windows(stream.bounds[:-1], stream.bounds[1:], num_steps)
    starts = starts[lengths == num_steps]
    if len(starts) < num_rows:
        raise Error(
            f"there are {len(starts)} windows of {num_steps} steps inside the documents of this part, not {num_rows}; "
            "ask for fewer rows (--rows), or fewer steps (--steps, by default 4 times --max-lag)"
        )
    starts = starts[np.linspace(0, len(starts) - 1, num_rows).astype(int)]
    scored = np.tile(np.array([context, num_steps], np.int32), (num_rows, 1))
    counts_TB = scored_steps(stream, Plan(starts, scored, np.ones(num_rows, bool)), num_steps)
    if not counts_TB.any():
        raise Error(
            f"no target in these {num_rows} windows of {num_steps} steps counts: they are masked, or among the first "
            f"{context}, which the model has no context for; ask for more rows (--rows), or more steps (--steps)"
        )
    return window(stream, starts, num_steps), counts_TB


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
