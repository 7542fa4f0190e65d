"""The loss of a stream, exactly: in order, from the initial state, carried."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.data.dataset import Text
from seqjax.data.sampler import in_order
from seqjax.data.spec import Tokens
from seqjax.data.stream import Stream, check_stream
from seqjax.data.tokenizer import TextCodec
from seqjax.data.windows import past_warmup, scored_steps, window
from seqjax.gradients.problem import Params, Problem
from seqjax.models.model import ModelProblem

WINDOW = 256
"""Time steps scanned at once; the result does not depend on it."""


def evaluate(problem: Problem, params: Params, stream: Stream) -> dict[str, Any]:
    """Mean loss over every target of a stream, once each.

    The state is carried from the first step to the last; it starts afresh where a document starts.

    Args:
        problem: whose loss.
        params: its parameters.
        stream: the data.

    Returns:
        `loss`, `tokens` (how many targets were scored) and, where targets are tokens, `perplexity`. A stream without
        targets has a loss of NaN.
    """
    losses, tokens = 0.0, 0
    plan = in_order(check_stream(stream).bounds, WINDOW)
    if len(plan.starts):
        losses, tokens = _sums(problem, params, stream._replace(bounds=None), plan)
        losses, tokens = np.asarray(losses, np.float64).sum().item(), int(tokens.sum())
    loss = losses / tokens if tokens else math.nan
    row = {"loss": loss, "tokens": tokens}
    if isinstance(problem, ModelProblem) and isinstance(problem.spec.targets, Tokens):
        row["perplexity"] = perplexity(loss)
    return row


def perplexity(loss: float) -> float:
    """Exp of the mean cross-entropy in nats: 1 if every token was certain, |V| if all were equally likely."""
    return math.inf if loss > 700 else math.exp(loss)


def predicted_characters(codec: TextCodec, text: Text) -> int:
    """How many characters of a text are predicted: all but those of each document's first token; 0 if some are lost."""
    count = 0
    for document in text.documents:
        ids = codec.encode(document)
        if codec.decode(ids) != document:
            return 0
        first = codec.decode(ids[:1])  # a part of a character is not counted, so that the character is
        count += len(document) - (len(first) if document.startswith(first) else 0)
    return count


@functools.partial(jax.jit, static_argnums=0)
def _sums(problem, params, stream, plan):
    """Summed loss and number of targets of each window."""

    def one(state, plan):
        state = problem.start(params, state, plan.reset)
        counts_TB = scored_steps(stream, plan, WINDOW)
        state, losses_TB = problem.unroll(params, state, window(stream, plan.starts, WINDOW))
        return state, (jnp.where(counts_TB, losses_TB, 0).sum(), counts_TB.sum())

    state = jax.tree.map(lambda a: a[None], problem.init_state(params))
    return jax.lax.scan(one, state, past_warmup(plan, problem.warmup, WINDOW))[1]
