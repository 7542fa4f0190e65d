"""The sampler sentences: whole documents, each in one row."""

import heapq
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from seqjax import Error, Plan, Sampler, register
from seqjax.data import BATCH_SIZE, NUM_STEPS, cut_windows


@register("sampler", "sentences")
@dataclass(frozen=True)
class Sentences(Sampler):
    """Reads each document from its start to its end; every target once in an epoch.

    A window has steps of one document, and is padded after its end. A document that is longer than `num_steps`
    continues in the same row of the next batch. Documents are dealt to the rows so that all rows have about equally
    many windows; if a row has fewer, its last windows are not scored. The number of batches is the same in every epoch.
    """

    batch_size: Annotated[int, Interval(ge=1)] = BATCH_SIZE
    """Number of documents in a batch."""
    num_steps: Annotated[int, Interval(ge=1)] = NUM_STEPS
    """Time steps of a window. If documents are far shorter than this, most steps are padding."""
    shuffle: bool = True
    """Whether each epoch deals the documents in a random order; otherwise they are dealt in their own order."""

    most_visits = 1

    def plan(self, bounds, rng):
        """As many batches as the longest row has windows."""
        B, T = self.batch_size, self.num_steps
        counts = -(-np.diff(bounds) // T)  # windows of each document
        (order,) = np.nonzero(counts)
        if len(order) < B:
            raise Error(
                f"sampler sentences: batch_size = {B} needs as many documents with a target, found {len(order)}\n"
                "Use a dataset cut into documents, such as --dataset text-file --dataset.documents lines, "
                "or a smaller --sampler.batch-size"
            )
        if self.shuffle:
            order = rng.permutation(order)
            # Rows become equally long if the longest documents are dealt first (Graham 1969).
            order = order[np.argsort(-counts[order], kind="stable")]
        row = _deal(counts[order], B)
        if self.shuffle:
            # Within a row, the longest documents must not come first in every epoch.
            mixed = rng.permutation(len(order))
            order, row = order[mixed], row[mixed]
        by_row = np.argsort(row, kind="stable")
        order, row = order[by_row], row[by_row]
        starts, lengths, segment = cut_windows(bounds[:-1][order], bounds[1:][order], T)
        row = row[segment]
        nth = np.arange(len(row)) - np.searchsorted(row, row)  # the number of each window within its row
        shape = (nth.max() + 1, B)
        plan = Plan(np.zeros(shape, np.int64), np.zeros((*shape, 2), np.int32), np.ones(shape, bool))
        plan.starts[nth, row] = starts
        plan.scored[nth, row, 1] = lengths
        plan.reset[nth, row] = np.diff(segment, prepend=-1) > 0
        return plan


def _deal(counts, num_rows):
    """The row of each document. Documents are dealt in order, each to the row with the fewest windows so far."""
    rows = [(0, row) for row in range(num_rows)]
    dealt = np.empty(len(counts), np.int64)
    for i, count in enumerate(counts.tolist()):
        windows, dealt[i] = rows[0]
        heapq.heapreplace(rows, (windows + count, int(dealt[i])))
    return dealt
