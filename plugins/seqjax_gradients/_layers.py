"""The parts of the influence matrix of a problem: the parts of each layer, or one part for everything."""

from typing import Any

from seqjax import Cell, Elementwise, Problem
from seqjax.gradients import leaf_names, ravel_float
from seqjax.models import ModelProblem

from ._parts import Part


def exact_parts(problem: Any, params: Any, state: Any) -> list[Part]:
    """Parts that together are the whole matrix.

    Args:
        problem: the problem.
        params: its parameters.
        state: the state of one sequence.
    """
    model = layered(problem)
    if model is not None and model.layers == 1:
        return layer_parts(problem, params, state)
    # The read-out of a model does not change its state.
    names = None if model is None else frozenset(_names(params)) - {"W_hq", "b_q"}
    return [Part(names, 0, ravel_float(state)[0].size)]


def layer_parts(problem: Any, params: Any, state: Any) -> list[Part]:
    """The influence of the parameters of each layer on the state of this layer.

    The influence on the states of the layers above is left out. A problem that is not a `Cell` or an `Elementwise` has
    one part for everything.

    Args:
        problem: the problem.
        params: its parameters.
        state: the state of one sequence.
    """
    model = layered(problem)
    if model is None:
        return [Part(None, 0, ravel_float(state)[0].size)]
    return [part for layer in range(model.layers) for part in _parts_of_layer(model, params, layer)]


def layered(problem: Any) -> Any:
    """The model of a problem, if its layers use the parameters as `Cell` or `Elementwise` do, else None.

    A problem of another class, or a model that overrides a method, may use them in other ways. Authors of models only
    write `cell`, `output` and `init_cell`. Resets inside of a window do not change how parameters are used.
    """
    problem = without_resets(problem)
    if type(problem) is not ModelProblem:
        return None
    model: Any = problem.model
    base: Any = next((base for base in (Cell, Elementwise) if isinstance(model, base)), None)
    names = ("step", "step_in", "step_with", "init_state", "through_layers", "enter", "join", "_read", "_write")
    return model if base and all(getattr(type(model), n, None) is getattr(base, n, None) for n in names) else None


def without_resets(problem: Any) -> Any:
    """The problem itself, or the one whose steps are reset inside of a window."""
    return problem if type(problem).reset_of is Problem.reset_of else problem.problem


def _parts_of_layer(model, params, layer):
    """The parameters that feed one unit each, and all others that feed the state of the layer."""
    before = {"E", "W_in", "b_in"} if layer == 0 else set()
    after = {f"layer_{layer}.{name}" for name in ("W_y", "D", "W_o", "b_o")}
    feeding = {
        name: leaf
        for name, leaf in leaf_names(params, "params")
        if name in before or (name.startswith(f"layer_{layer}.") and name not in after)
    }
    by_units = {name for name, leaf in feeding.items() if _feeds_one_unit(model, layer, name, leaf)}
    size = len(model.State._fields) * model.units
    span = (layer * size, size)
    parts = [Part(frozenset(by_units), *span, model.hidden), Part(frozenset(feeding.keys() - by_units), *span)]
    return [part for part in parts if part.names]


def _feeds_one_unit(model, layer, name, leaf):
    """Whether entry i of the last axis of a parameter feeds unit i mod hidden alone."""
    if not isinstance(model, Elementwise) or model.shares or model.units % model.hidden:
        return False
    if not leaf.ndim or leaf.shape[-1] % model.hidden:
        return False
    return name in (f"layer_{layer}.W_xh", f"layer_{layer}.b_h") or name.startswith(f"layer_{layer}.cell.")


def _names(params):
    return [name for name, _ in leaf_names(params, "params")]
