"""`Metric`: a number beside the loss, computed from the outputs of a model and its targets."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from seqjax.columns import BY_NAME, PARTS
from seqjax.data.sampler import Plan
from seqjax.data.spec import Spec, Tokens, Values
from seqjax.data.stream import Stream
from seqjax.data.windows import past_warmup, scored_steps, window
from seqjax.errors import Error, check_type, dtype_shape, nearest
from seqjax.gradients.contract.compiling import jit_of
from seqjax.gradients.contract.problem import Params
from seqjax.models.check import output_and_target_like
from seqjax.models.model import ModelProblem

LAST = "last_"
"""The prefix of the name of a metric that counts the last scored step of each document alone."""


class Metric(NamedTuple):
    """A metric: a function of one output and its target, averaged over scored steps.

    Args:
        name: its name; the metrics of a run have the columns `train_<name>` and `heldout_<name>`.
        function: (output, target) -> float[]: the output float[width] and the target of one step, int[] or float[dim].
        last: whether only the last scored step of each document counts, as in the classification of sequences.
    """

    name: str
    function: Callable[[Any, Any], Any]
    last: bool = False


def accuracy(output: Any, target: Any) -> Float[Array, ""]:
    """1 if the largest logit is that of the target, else 0."""
    return (jnp.argmax(output).astype(target.dtype) == target).astype(float)


def mae(output: Any, target: Any) -> Float[Array, ""]:
    """The mean absolute error of the values of a step."""
    return jnp.mean(jnp.abs(output - target))


NAMED = {"accuracy": (accuracy, Tokens), "mae": (mae, Values)}
"""Name -> the function, and the kind of targets that it needs."""
NAMES = (*NAMED, *(LAST + name for name in NAMED))
"""The metrics that have a name."""
BEST: dict[str, Literal["lowest", "highest"]] = {"accuracy": "highest", "mae": "lowest"}
"""Name -> which value is the best."""

TAKEN = {"tokens", "bits_per_character"} | {
    name.removeprefix(f"{part}_") for name in BY_NAME for part in PARTS if name.startswith(f"{part}_")
}
"""Names of metrics that would replace a column, or a value that `evaluate` returns."""


def check_names(metrics: Sequence[Any]) -> list[str]:
    """The problems of a list of metrics, one line each."""
    if isinstance(metrics, str):
        return [f"metrics: expected a list, such as [{metrics!r}]"]
    problems = [
        f"metrics: unknown metric {name!r}{nearest(name, NAMES)} (metrics: {', '.join(NAMES)})"
        for name in metrics
        if isinstance(name, str) and name not in NAMES
    ]
    problems += [
        f"metrics: {metric!r:.80} has no name; write a function with def, or seqjax.training.Metric(name, function)"
        for metric in metrics
        if not isinstance(metric, str) and not hasattr(metric, "name") and not hasattr(metric, "__name__")
    ]
    if problems:
        return problems
    names = [name_of(metric) for metric in metrics]
    problems += [f"metrics: {name!r} is a name that seqjax uses itself" for name in names if name in TAKEN]
    return problems + [f"metrics: {name!r} is given twice" for name in dict.fromkeys(names) if names.count(name) > 1]


def name_of(metric: Any) -> str:
    """The name of a metric, which is given as its name, as a function or as a `Metric`."""
    return metric if isinstance(metric, str) else getattr(metric, "name", None) or metric.__name__


def best_of(column: str) -> Literal["lowest", "highest"] | None:
    """Which value of a column of the metrics is the best; None: neither is, or it is a metric of the user's own."""
    if column in BY_NAME:
        return BY_NAME[column].best
    part, _, name = column.partition("_")
    return BEST.get(name.removeprefix(LAST)) if part in PARTS else None


def resolve(metrics: Sequence[Any], spec: Spec) -> list[Metric]:
    """The metrics that were given as names, as functions (output, target) -> float, or as `Metric`.

    Raises:
        Error: an unknown name; a metric for other targets; a function that raises an exception, or does not return one
            number.
    """
    check_type("metrics", metrics, Iterable, 'a list, such as ["accuracy"]')
    if problems := check_names(metrics):
        raise Error("the metrics cannot be computed:", problems=problems)
    resolved = [_resolve(metric, spec) for metric in metrics]
    for metric in resolved:
        _check_function(metric, spec)
    return resolved


def _check_function(metric: Metric, spec: Spec) -> None:
    """Traces the function of a metric for one step."""
    output, target = output_and_target_like(spec)
    call = f"it is called as {metric.name}(output, target), with {dtype_shape(output)} and {dtype_shape(target)}"
    try:
        result = jax.eval_shape(metric.function, output, target)
    except Error:  # the function is missing: the run was opened without it
        raise
    except Exception as fault:
        raise Error(f"the metric {metric.name!r} raises {type(fault).__name__}: {fault}\n{call}") from fault
    if getattr(result, "shape", None) != ():
        raise Error(f"the metric {metric.name!r} returned {dtype_shape(result)}, and must return one number; {call}")


def _resolve(metric: Any, spec: Spec) -> Metric:
    if isinstance(metric, Metric):
        return metric
    if not isinstance(metric, str):
        return Metric(metric.__name__, metric)
    function, needed = NAMED[metric.removeprefix(LAST)]
    if not isinstance(spec.targets, needed):
        raise Error(f"the metric {metric!r} is for targets that are {needed.__name__}, and these are {spec.targets}")
    return Metric(metric, function, metric.startswith(LAST))


def means(
    problem: ModelProblem,
    params: Params,
    stream: Stream,
    metrics: Sequence[Metric],
    plan: Plan,
    window_steps: int,
    decode: Callable[[Any], Any] | None = None,
) -> dict[str, float]:
    """The mean of each metric over the scored targets of a stream.

    Args:
        problem: the model.
        params: its parameters.
        stream: the data.
        metrics: the metrics.
        plan: how the stream is read, each target once; leaves [N, B, ...].
        window_steps: the number of time steps of a window.
        decode: turns values float[n, dim] that the model reads into those of the data; None: they are the same.

    Returns:
        Name -> mean; NaN if no target is scored.

    Raises:
        Error: the function of a metric raises an exception, or does not return one number.
    """
    if not len(plan.starts):
        return {metric.name: np.nan for metric in metrics}
    # Logits are as wide as the vocabulary, so that their metrics are computed window by window. Values are kept, and
    # decoded at once: a codec decodes arrays of numpy, which cannot be traced.
    is_kept = isinstance(problem.spec.targets, Values)
    functions = () if is_kept else tuple(metric.function for metric in metrics)
    arrays, scored_NTB = jit_of(_steps, problem, window_steps, functions)(params, stream._replace(bounds=None), plan)
    scored_NTB = np.asarray(scored_NTB)
    at = (np.asarray(plan.starts)[:, None] + np.arange(window_steps)[:, None])[scored_NTB]
    order = np.argsort(at)  # the order of the stream
    at, picked = at[order], [np.asarray(a)[scored_NTB][order] for a in arrays]
    if is_kept:
        outputs, targets = (decode(a) if decode else a for a in (picked[0], np.asarray(stream.targets)[at]))
        picked = [
            np.asarray(jax.vmap(metric.function)(jnp.asarray(outputs), jnp.asarray(targets))) for metric in metrics
        ]
    is_last = np.diff(np.searchsorted(stream.bounds, at, "right"), append=-1) != 0
    return {
        metric.name: float(np.mean(values[is_last] if metric.last else values, dtype=np.float64)) if len(at) else np.nan
        for metric, values in zip(metrics, picked, strict=True)
    }


def _steps(
    problem: ModelProblem,
    window_steps: int,
    functions: Sequence[Callable[..., Any]],
    params: Params,
    stream: Stream,
    plan: Plan,
) -> tuple[list[jax.Array], jax.Array]:
    """The metrics of each step, float[N, T, B] each, or the outputs, [float[N, T, B, dim]]; and which are scored."""

    def one(state, plan):
        state = problem.start(params, state, plan.reset)
        inputs, targets = window(stream, plan.starts, window_steps)
        state, outputs = problem.outputs(params, state, inputs)
        values = [jax.vmap(jax.vmap(function))(outputs, targets) for function in functions] or [outputs]
        return state, (values, scored_steps(stream, plan, window_steps))

    state = problem.init_rows(params, plan.starts.shape[1])
    return jax.lax.scan(one, state, past_warmup(plan, problem.warmup, window_steps))[1]
