"""From a plan to batches: reads the windows of a stream and marks the steps that are scored."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from seqjax.data.sampler import Plan, cut_windows
from seqjax.data.stream import Stream
from seqjax.errors import Error, check_whole
from seqjax.gradients.contract.window import Batch


def make_batch(
    stream: Stream, plan: Plan, num_steps: int, rows: Int[Array, " B"], count: Int[Array, ""] | None = None
) -> tuple[Batch, Int[Array, ""]]:
    """One batch, in which each scored step has the weight 1 / n.

    Args:
        stream: the data.
        plan: one batch of a plan, leaves [B, ...].
        num_steps: T.
        rows: int32[B], global row numbers.
        count: int32[], n, the number of scored steps on all devices; None: the number in these rows.

    Returns:
        The batch, and n, int32[].
    """
    scored_TB = scored_steps(stream, plan, num_steps)
    count = scored_TB.sum() if count is None else count
    weights_TB = jnp.where(scored_TB, 1 / jnp.maximum(count, 1), 0.0)
    return Batch(window(stream, plan.starts, num_steps), weights_TB, plan.reset, rows), count


def window(stream: Stream, starts: Int[Array, " B"], num_steps: int) -> tuple[Array, ...]:
    """(inputs, targets) of T steps from each start, leaves [T, B, ...]; past the end the last entry is repeated."""
    at_TB = _positions(starts, num_steps)
    return tuple(jnp.asarray(side).at[at_TB].get(mode="clip") for side in (stream.inputs, stream.targets))


def gather_windows(stream: Stream, plan: Plan, num_steps: int) -> tuple[Stream, Plan]:
    """The windows of a plan as a short stream, one after the other, and the plan that reads them there.

    A large stream then stays where it is, such as in a file. The batches are the same.

    Args:
        stream: the data, on the host.
        plan: some batches.
        num_steps: T.
    """
    last = len(stream.inputs) - 1
    at = np.minimum(plan.starts[..., None] + np.arange(num_steps), last).ravel()
    sides = (None if side is None else np.asarray(side)[at] for side in (stream.inputs, stream.targets, stream.mask))
    inputs, targets, mask = sides
    starts = num_steps * np.arange(plan.starts.size, dtype=np.int64).reshape(plan.starts.shape)
    return Stream(inputs, targets, np.array([0, len(at)], np.int64), mask), plan._replace(starts=starts)


def scored_steps(stream: Stream, plan: Plan, num_steps: int) -> Bool[Array, "T B"]:
    """The steps of one batch that are scored: they lie in the plan's scored range, and the stream's mask is True."""
    t_T1 = jnp.arange(num_steps, dtype=jnp.int32)[:, None]
    scored_TB = (plan.scored[:, 0] <= t_T1) & (t_T1 < plan.scored[:, 1])
    if stream.mask is not None:
        scored_TB &= jnp.asarray(stream.mask).at[_positions(plan.starts, num_steps)].get(mode="clip")
    return scored_TB


def count_scored(stream: Stream, plan: Plan, num_steps: int) -> Int[Array, " N"]:
    """The number of scored steps of each batch of a plan, leaves [N, B, ...]."""
    if stream.mask is None:
        first_NB, end_NB = jnp.maximum(plan.scored[..., 0], 0), jnp.minimum(plan.scored[..., 1], num_steps)
        return jnp.maximum(end_NB - first_NB, 0).sum(1)
    # One batch after the other, since the masks of all batches together can be larger than the data.
    return jax.lax.map(lambda plan: scored_steps(stream, plan, num_steps).sum(), plan)


def past_warmup(plan: Plan, warmup: int, num_steps: int) -> Plan:
    """The plan in which the first `warmup` steps after each reset are not scored.

    Args:
        plan: an epoch from its first batch on, leaves [N, B, ...].
        warmup: the number of steps.
        num_steps: T.
    """
    return plan._replace(scored=_scored_past_warmup(plan.scored, plan.reset, warmup, num_steps))


# Compiled as one program, which is cached where possible: programs for single operations would take longer.
@functools.partial(jax.jit, static_argnums=(2, 3))
def _scored_past_warmup(scored: jax.Array, reset: jax.Array, warmup: int, num_steps: int) -> jax.Array:
    n_N1 = jnp.arange(len(reset), dtype=jnp.int32)[:, None]
    # Rows that are never reset are past the warm-up: for them the last reset lies more than `warmup` batches back.
    last_reset_NB = jax.lax.cummax(jnp.where(reset, n_N1, -warmup - 1), axis=0)
    first_NB = jnp.maximum(scored[..., 0], warmup - num_steps * (n_N1 - last_reset_NB))
    return jnp.stack([first_NB.astype(jnp.int32), scored[..., 1]], -1)


def whole_windows(stream: Stream, num_steps: int) -> Int[np.ndarray, " N"]:
    """The starts of consecutive windows of T steps, as many as fit into each document of a stream."""
    starts, lengths, _ = cut_windows(stream.bounds[:-1], stream.bounds[1:], num_steps)
    return starts[lengths == num_steps]


def spread_rows(stream: Stream, num_rows: int, num_steps: int, warmup: int = 0) -> Batch:
    """A batch of B windows that are evenly spread over a stream. Each is reset, and none crosses a document.

    Args:
        stream: the data.
        num_rows: B.
        num_steps: T.
        warmup: the number of steps at the start of each window that are not scored.

    Raises:
        Error: the stream has fewer windows, or no step in them is scored.
    """
    check_whole(rows=(num_rows, 1), steps=(num_steps, 1))
    starts = whole_windows(stream, num_steps)
    if len(starts) < num_rows:
        raise Error(
            f"the documents of this part have {len(starts)} windows of {num_steps} steps, fewer than {num_rows}; "
            "ask for fewer rows, or for fewer steps"
        )
    starts = starts[np.linspace(0, len(starts) - 1, num_rows).astype(int)]
    scored = np.tile(np.array([warmup, num_steps], np.int32), (num_rows, 1))
    plan = Plan(starts, scored, np.ones(num_rows, bool))
    batch, count = make_batch(
        *gather_windows(stream, plan, num_steps), num_steps, jnp.arange(num_rows, dtype=jnp.int32)
    )
    if not count:
        raise Error(
            f"no target in these {num_rows} windows of {num_steps} steps is scored: all are masked, or among the first "
            f"{warmup} of a window, the warm-up of the model; ask for more rows, or for more steps"
        )
    return batch


def _positions(starts: jax.Array, num_steps: int) -> jax.Array:
    """The index in the stream of each step of each row, int32[T, B]."""
    return starts.astype(jnp.int32) + jnp.arange(num_steps, dtype=jnp.int32)[:, None]
