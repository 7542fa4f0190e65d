"""The counts of an n-gram model: a tree of contexts, level by level, in int32."""

import numpy as np

from seqjax import Error, Spec, Tokens
from seqjax.analysis.ngrams import count_ngrams
from seqjax.data import Stream


def check_spec(spec: Spec) -> int:
    """The number of symbols V."""
    if not isinstance(spec.inputs, Tokens) or spec.inputs != spec.targets:
        raise Error(
            f"the model ngram goes on with the tokens that it reads, and here it is to read {spec.inputs} and predict "
            f"{spec.targets}; give it a text, with a tokenizer such as char or word"
        )
    return spec.inputs.size


def padded_text(stream: Stream, order: int, size: int) -> np.ndarray:
    """The tokens of all documents, n - 1 times the symbol `size` before each.

    So an n-gram ends at each token, none crosses documents, and each shows how many tokens come before.
    """
    inputs, targets, bounds = (np.asarray(side) for side in stream[:3])
    starts = bounds[:-1][np.diff(bounds) > 0]
    goes_on = inputs[1:] == targets[:-1]
    goes_on[starts[1:] - 1] = True
    if not goes_on.all() or (stream.mask is not None and not np.all(stream.mask)):
        raise Error(
            "the model ngram counts a text: each target must be the next input of its document, and none masked; "
            "these are other pairs of inputs and targets"
        )
    most = ((1 << 31) - size) // order - 1  # so that no index into them leaves int32
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


def count_tree(text: np.ndarray, order: int, size: int, continuations: bool) -> dict[str, np.ndarray]:
    """How often each symbol follows each context of up to n - 1 tokens: the parameters that `NGram` documents.

    Contexts are numbered level by level, within a level by (parent, older token), so that children lie side by side.

    Args:
        text: of `padded_text`.
        order: n.
        size: number of symbols V.
        continuations: whether the entries of all but the longest contexts count the different tokens before them.
    """
    grams, counts = count_ngrams(text, order, size + 1)
    ends = grams[:, -1] < size
    grams, counts = grams[ends], counts[ends]
    contexts, num_nodes = np.zeros(len(grams), np.int64), 1
    nodes, entries = [np.array([-size])], []
    for k in range(order):
        if k > 0:
            known = grams[:, -1 - k] < size
            grams, counts, contexts = grams[known], counts[known], contexts[known]
            codes, contexts = np.unique(contexts * size + grams[:, -1 - k], return_inverse=True)
            contexts += num_nodes
            num_nodes += len(codes)
            nodes.append(codes)
        codes, at = np.unique(contexts * size + grams[:, -1], return_inverse=True)
        entries.append((codes, np.bincount(at, counts)))
    parents, older = np.divmod(np.concatenate(nodes), size)
    if continuations:
        entries = [_continuations(parents, entries, size), entries[-1]] if order > 1 else entries
    codes, counts = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    root = codes < size
    contexts, symbols = np.divmod(codes[~root], size)
    rows = np.searchsorted(contexts, np.arange(num_nodes + 1))
    tree = {
        "single": np.bincount(codes[root], counts[root], minlength=size),
        "children": np.searchsorted(parents, np.arange(num_nodes + 1)),
        "older": older,
        "rows": rows,
        "symbols": symbols,
        "counts": counts[~root],
        "entries": np.arange(np.diff(rows).max()),
    }
    return {name: array.astype(np.int32) for name, array in tree.items()}


def _continuations(parents, entries, size):
    """Of each (context, symbol), numbered context · V + symbol, how many different tokens come before it."""
    codes = np.concatenate([codes for codes, _ in entries[1:]])
    contexts, symbols = np.divmod(codes, size)
    return np.unique(parents[contexts] * size + symbols, return_counts=True)
