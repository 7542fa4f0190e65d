"""Compiles a function of a problem, and keeps the program only if it cannot become outdated."""

import functools
from collections.abc import Callable
from typing import Any

import jax

from seqjax.gradients.contract.problem import Problem

MOST_KEPT = 64
"""How many compiled functions are kept."""


def jit_of(function: Callable, problem: Problem, *static: Any, brief: bool = False) -> jax.stages.Wrapped:
    """`function(problem, *static, ...)` compiled, as a function of its other arguments.

    `jax.jit` keeps what it has compiled by the identity of a function. A step is often a function in a notebook, which
    reads a global variable that has changed since: the kept program would still use its old value. So a problem is
    compiled anew for each call, unless equal problems always compute the same (`Problem.is_value`).

    Args:
        function: takes the problem, the static arguments, then arrays.
        problem: the problem.
        static: hashable arguments, such as a strategy.
        brief: whether calls take little time, so that on a CPU the program is optimised less. Compiling then takes half
            the time, and the bits of a result may differ.
    """
    compiled = _kept if problem.is_value else _new
    return compiled(brief, function, problem, *static)


def _new(brief, function, *static):
    less = brief and jax.default_backend() == "cpu"
    options: Any = {"xla_backend_optimization_level": 1} if less else None
    return jax.jit(functools.partial(function, *static), compiler_options=options)


_kept = functools.lru_cache(MOST_KEPT)(_new)
