"""Evaluates a stream exactly: carries the state through each document."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from seqjax.columns import perplexity
from seqjax.data.dataset import Text
from seqjax.data.sampler import Plan, in_order_by_rows
from seqjax.data.spec import Tokens
from seqjax.data.stream import Stream, check_stream
from seqjax.data.tokenizer import TextCodec
from seqjax.data.windows import past_warmup, scored_steps, window
from seqjax.errors import Error
from seqjax.gradients.contract.compiling import jit_of
from seqjax.gradients.contract.problem import Params, Problem, check_problem
from seqjax.models.check import check_bare_problem, fitting
from seqjax.models.model import ModelProblem
from seqjax.training.metrics import means, resolve

WINDOW = 256
"""The most time steps of a window."""
ROWS = 32
"""The most documents that are read at the same time. The result depends neither on it nor on `WINDOW`."""


def evaluate(
    problem: Problem,
    params: Params,
    stream: Stream,
    metrics: Sequence[Any] = (),
    decode: Callable[[Any], Any] | None = None,
) -> dict[str, Any]:
    """The mean loss over all targets of a stream, each of which is read once.

    The state is carried from step to step, and is reset where a document starts. Up to 32 documents are read at the
    same time, each in a row of a batch.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> import seqjax as sj
    >>> from seqjax.data import Stream
    >>> from seqjax.models import RNN
    >>> problem = sj.Problem.of(RNN(hidden=4), sj.Spec(sj.Tokens(4)))
    >>> params = jax.tree.map(jnp.zeros_like, problem.init(jax.random.key(0)))  # four equally likely tokens
    >>> ids = np.arange(8) % 4
    >>> found = sj.evaluate(problem, params, Stream(ids[:-1], ids[1:], bounds=[0, 7]))
    >>> found["tokens"], round(found["perplexity"], 3)
    (7, 4.0)

    Args:
        problem: the model with its loss.
        params: its parameters.
        stream: the data.
        metrics: numbers beside the loss, averaged over all targets: `"accuracy"` of tokens, `"mae"` of values, or a
            function (output, target) -> float of one step. `"last_accuracy"` and `"last_mae"` average over the last
            target of each document only, and so does `seqjax.training.Metric(name, function, last=True)`.
        decode: turns values float[n, dim] that the model reads into those of the data, before metrics are computed.

    Returns:
        `loss`, `tokens` (the number of targets that were scored) and, if targets are tokens and the loss is theirs,
        `perplexity`; then the metrics by name. The loss is NaN if no target was scored.

    Raises:
        Error: metrics of a problem without a model; a metric for other targets; the problem has no `init_state`; its
            step does not return (new state, loss), with the state as it went in; the bounds of the stream do not fit
            its sides; the parameters do not fit the model.
    """
    check_problem("evaluate", problem)
    if metrics and not isinstance(problem, ModelProblem):
        raise Error("metrics are computed from the outputs of a model: give a problem with one, or leave metrics out")
    losses, tokens = 0.0, 0
    bounds = check_stream(stream).bounds
    # No window crosses the end of a document, so that none needs to be longer than the longest document.
    num_steps = min(WINDOW, int(np.diff(bounds).max(initial=1)))
    plan = in_order_by_rows(bounds, num_steps, ROWS)
    if len(plan.starts):
        with fitting(problem, params):
            state = jax.eval_shape(lambda: problem.init_rows(params, 1))
            check_bare_problem(problem, params, state, stream, plan.starts[0, :1])
            losses, tokens = jit_of(_sums, problem, num_steps)(params, stream._replace(bounds=None), plan)
        losses, tokens = np.asarray(losses, np.float64).sum().item(), int(np.asarray(tokens).sum())
    loss = losses / tokens if tokens else math.nan
    row = {"loss": loss, "tokens": tokens}
    if has_perplexity(problem):
        row["perplexity"] = perplexity(loss)
    if not metrics:
        return row
    assert isinstance(problem, ModelProblem)
    return row | means(problem, params, stream, resolve(metrics, problem.spec), plan, num_steps, decode)


def has_perplexity(problem: Problem) -> bool:
    """Whether the loss is the cross-entropy of tokens, so that its exponential is a perplexity."""
    return isinstance(problem, ModelProblem) and isinstance(problem.spec.targets, Tokens) and problem.loss is None


def bits_per_character(evaluated: Mapping[str, Any], codec: TextCodec, text: Text) -> float | None:
    """The loss of a text in bits, divided by its predicted characters: a loss that does not depend on the tokenizer.

    Args:
        evaluated: what `evaluate` returned for the text.
        codec: the codec that made its tokens.
        text: the text.

    Returns:
        The bits per character; None if no token was scored, or the codec does not give the text back exactly.
    """
    characters = predicted_characters(codec, text) if evaluated["tokens"] else 0
    return evaluated["loss"] * evaluated["tokens"] / math.log(2) / characters if characters else None


def predicted_characters(codec: TextCodec, text: Text) -> int:
    """The number of characters of a text that a model predicts: all but those of each document's first token.

    It is 0 if the codec does not give the text back exactly, so that characters cannot be counted.
    """
    count = 0
    for document in text.documents:
        ids = codec.encode(document)
        if codec.decode(ids) != document:
            return 0
        # If the first token is a part of a character, the text does not start with it, and the character is predicted.
        first = codec.decode(ids[:1])
        count += len(document) - (len(first) if document.startswith(first) else 0)
    return count


def _sums(problem: Any, num_steps: int, params: Params, stream: Stream, plan: Plan) -> tuple[jax.Array, jax.Array]:
    """The sum of the losses and the number of targets of each window."""

    def one(state, plan):
        state = problem.start(params, state, plan.reset)
        counts_TB = scored_steps(stream, plan, num_steps)
        state, losses_TB = problem.unroll(params, state, window(stream, plan.starts, num_steps))
        return state, (jnp.where(counts_TB, losses_TB, 0).sum(), counts_TB.sum())

    state = problem.init_rows(params, plan.starts.shape[1])
    return jax.lax.scan(one, state, past_warmup(plan, problem.warmup, num_steps))[1]
