"""Fingerprints of the objects of Python in an experiment, by which a changed one is found.

A config cannot hold an optax transformation, a model of another library, a loss or a metric. A fingerprint has the
hash of what the object computes: of its jaxpr, with all numbers and constant arrays in it. It does not depend on the
names of variables, on the process or on the number of devices. Of Python code that JAX calls back for a value, its hash
has what `python_code.py` sees.
"""

import dataclasses
import functools
import hashlib
import importlib.metadata
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypedDict

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jax.extend.core.primitives import custom_jvp_call_p, custom_vjp_call_p

from seqjax.errors import Error
from seqjax.gradients.contract.problem import Params
from seqjax.gradients.steps.floats import split_float
from seqjax.models.check import output_and_target_like
from seqjax.models.model import ModelProblem
from seqjax.runs.python_code import UnreadableError, parts_of_array, parts_of_code, plain

LIBRARIES = {"from_flax": "flax", "from_equinox": "equinox"}
"""Reader of a model -> the library whose version may change its jaxpr. That of optax may change other objects."""

_WHERE = re.compile("sharding|layout|mesh|(?<!target_)name|debug_info|compiler_options")
"""The parameters of a primitive that say where something is computed, or how it is called, and not what it is."""
_RULES = {custom_jvp_call_p: {"call_jaxpr"}, custom_vjp_call_p: {"call_jaxpr"}}
"""Primitives with rules of derivatives, which `_with_gradient` shows -> their other parameters."""
_NO_DERIVATIVE = (TypeError, ValueError, NotImplementedError)
"""What JAX raises if a function has no derivative of a kind."""
_CALLED_BACK = {"callback", "rule"}
"""The parameters of a primitive that are Python code whose results count: of a callback, or of `custom_vmap`."""


class Fingerprint(TypedDict):
    """The fingerprint of one object.

    Args:
        structure: the hash of the structures and shapes of what it returns, such as an optimizer's state.
        program: the hash of what it computes.
        traced_with: what else the program depends on: the versions of libraries, and whether JAX computes in float64.
    """

    structure: str
    program: str
    traced_with: dict[str, str]


def fingerprints(objects: Mapping[str, Any], problem: ModelProblem, params: Params) -> dict[str, Fingerprint]:
    """The fingerprints of the objects of an experiment, by field; see `ExperimentFields.objects`.

    Args:
        objects: the objects by field.
        problem: the model with its loss.
        params: the parameters, or their shapes and dtypes.
    """
    params = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), params)
    found = {}
    for field, value in objects.items():
        try:
            structure, program = _hashes(_calls(field, value, problem, params))
        except Error:
            raise
        except UnreadableError as fault:
            raise Error(
                f"{field} calls back Python code that holds {fault}, so that a run that continues would not find a "
                "change; make this object inside of the function, or run without a folder"
            ) from fault
        except Exception as fault:  # whatever the object raises, such as for a wrong number of arguments
            raise Error(f"{field} cannot be traced: {type(fault).__name__}: {fault}") from fault
        libraries = ("jax", LIBRARIES.get(getattr(value, "reader", ""), "optax"))
        versions = {name: importlib.metadata.version(name) for name in libraries}
        traced_with = versions | {"jax_enable_x64": str(jax.config.jax_enable_x64)}
        found[field] = Fingerprint(structure=structure, program=program, traced_with=traced_with)
    return found


def changed_objects(kept: Mapping[str, Fingerprint], now: Mapping[str, Fingerprint]) -> list[str]:
    """The objects that have changed, one line each. Programs that were traced with other versions are not compared."""
    found = []
    for field in {**kept, **now}:
        then, here = kept.get(field), now.get(field)
        if then is None:
            found.append(f"{field} was not given in Python then")
        elif here is None:
            found.append(f"{field} was given in Python then, and is not now")
        elif then["structure"] != here["structure"]:
            found.append(f"{field} has other parameters, or another state: their structure or shapes differ")
        elif then["program"] != here["program"] and then["traced_with"] == here["traced_with"]:
            found.append(
                f"{field} computes something else: an operation, number, constant or code that it calls back differs"
            )
    return found


def uncertain_objects(kept: Mapping[str, Fingerprint], now: Mapping[str, Fingerprint]) -> list[str]:
    """The objects whose programs differ, perhaps because of other versions, one line each with these versions."""
    found = []
    for field in kept.keys() & now.keys():
        then, here = kept[field]["traced_with"], now[field]["traced_with"]
        if kept[field]["program"] != now[field]["program"] and then != here:
            names = [name for name in {**then, **here} if then.get(name) != here.get(name)]
            differ = [f"{name} {then.get(name)} → {here.get(name)}" for name in names]
            found.append(f"{field} ({', '.join(differ)})")
    return sorted(found)


type _Call = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function and the shapes and dtypes of its arguments."""


def _calls(field: str, value: Any, problem: ModelProblem, params: Params) -> list[_Call]:
    """All that training and evaluation compute with an object."""
    output, target = output_and_target_like(problem.spec)
    if field == "optimizer":
        return [(value.init, (params,)), (value.update, (params, jax.eval_shape(value.init, params), params))]
    if field == "loss":
        return _with_gradient(value, (output, target))
    if field == "model":
        x = problem.spec.inputs.like
        calls = []
        for key in (jax.random.key(0), None):  # a random model has another state if there is no key
            init = lambda params, key=key: problem.model.init_state(params, problem.spec, key)
            state = jax.eval_shape(init, params)
            calls += [(init, (params,)), *_with_gradient(problem.model.step, (params, state, x))]
        return calls
    # Whether a metric counts last targets alone becomes a constant of the jaxpr.
    function, last = getattr(value, "function", value), getattr(value, "last", False)
    return [(lambda output, target: (function(output, target), jnp.asarray(last)), (output, target))]


def _with_gradient(function: Callable[..., Any], args: tuple[Any, ...]) -> list[_Call]:
    """A function, and its values with its gradient, which show the rules of derivatives that its own jaxpr hides.

    They are two calls, since a constant that a function makes anew would be two constants of one jaxpr.
    """

    def gradient(*args):
        floats, others, join = split_float(args)
        of_floats = lambda floats: split_float(function(*join(floats, others)))[:2]
        ones = functools.partial(jax.tree.map, jnp.ones_like)
        try:
            values, back, rest = jax.vjp(of_floats, floats, has_aux=True)
            return values, rest, back(ones(values))
        except _NO_DERIVATIVE:  # it has no reverse pass, such as a `while_loop`
            return jax.jvp(of_floats, (floats,), (ones(floats),), has_aux=True)

    def call(*args):
        try:
            return gradient(*args)
        except _NO_DERIVATIVE:  # such as a callback
            return function(*args)

    return [(function, args), (call, args)]


def _hashes(calls: list[_Call]) -> tuple[str, str]:
    """The two hashes of a fingerprint."""
    structure, program = hashlib.sha256(), hashlib.sha256()
    for function, args in calls:
        # Another object: of a known one, JAX would return the jaxpr before a global variable changed.
        anew = functools.partial(function)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
            jaxpr, results = jax.make_jaxpr(anew, return_shape=True)(*args)
        # Of a tree, its paths: the text of its structure would have addresses of functions that a module holds.
        for path, leaf in jax.tree_util.tree_leaves_with_path(results):
            kind = str(leaf.dtype).rstrip("0123456789")
            structure.update(f"{jax.tree_util.keystr(path)} {leaf.shape} {kind}\n".encode())
        for part in _of_jaxpr(jaxpr.jaxpr, jaxpr.consts):
            program.update(part.encode() if isinstance(part, str) else part)
            program.update(b"\0")
    return structure.hexdigest(), program.hexdigest()


def _of_jaxpr(jaxpr: Any, consts: Any = ()) -> Iterator[str | bytes]:
    """The parts of a jaxpr, in which variables are numbered in the order in which they occur."""
    numbers: dict[Any, int] = {}

    def number(var: Any) -> str:
        return f"{numbers.setdefault(var, len(numbers))}:{_aval(var.aval)}"

    def read(atom: Any) -> Iterator[str | bytes]:
        if isinstance(atom, core.Literal):
            yield _aval(atom.aval)
            yield from _of_value(atom.val)
        else:
            yield number(atom)

    for const in consts:
        yield from _of_value(const)
    yield from map(number, [*jaxpr.constvars, *jaxpr.invars])
    for eqn in jaxpr.eqns:
        yield eqn.primitive.name
        for atom in eqn.invars:
            yield from read(atom)
        kept = _RULES.get(eqn.primitive, eqn.params)
        for name, value in sorted((name, eqn.params[name]) for name in kept if not _WHERE.search(name)):
            yield name
            # What `jax.debug.callback` calls returns nothing.
            is_code = name in _CALLED_BACK and eqn.primitive.name != "debug_callback"
            yield from (parts_of_code(value) if is_code else _of_value(value))
        yield from map(number, eqn.outvars)
    for atom in jaxpr.outvars:
        yield from read(atom)


def _aval(aval: Any) -> str:
    """Dtype, shape and weak type, without where the array is."""
    if not hasattr(aval, "shape") or not hasattr(aval, "dtype"):
        return plain(aval)
    return f"{aval.dtype}{tuple(aval.shape)}{getattr(aval, 'weak_type', False)}"


def _of_value(value: Any) -> Iterator[str | bytes]:
    """The parts of a constant, or of a parameter of a primitive."""
    if isinstance(value, core.ClosedJaxpr):
        yield from _of_jaxpr(value.jaxpr, value.consts)
    elif isinstance(value, core.Jaxpr):
        yield from _of_jaxpr(value)
    elif isinstance(value, np.ndarray | np.generic | jax.Array):
        yield from parts_of_array(value)
    elif isinstance(value, Mapping):
        for name, inner in sorted(value.items(), key=lambda item: str(item[0])):
            yield str(name)
            yield from _of_value(inner)
    elif isinstance(value, tuple | list):
        yield f"{type(value).__name__}{len(value)}"
        for inner in value:
            yield from _of_value(inner)
    elif isinstance(value, set | frozenset):
        yield from sorted(map(plain, value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield type(value).__name__
        yield from _of_value({field.name: getattr(value, field.name) for field in dataclasses.fields(value)})
    elif callable(value) and not isinstance(value, type):
        # Such as what a `jax.checkpoint` may keep, which changes no result.
        yield "function"
    else:
        yield plain(value)
