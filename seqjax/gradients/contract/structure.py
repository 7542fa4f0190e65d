"""What is known of how the parameters of a problem act on its state.

The influence matrix M = ds/dθ has S numbers for each parameter. A model with layers and units knows that many of them
are zero. It says so by a `Structure`, and the strategies that carry M need far less memory and time.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from seqjax.errors import Error
from seqjax.gradients.contract.problem import Params, Problem
from seqjax.gradients.steps.floats import leaf_names
from seqjax.plugin.base import Plugin


@dataclass(frozen=True)
class Part:
    """The influence of some parameters on some numbers of the state.

    Args:
        names: the names of the parameters, as `leaf_names` gives them; None: all of them.
        first: the first of the numbers, which follow each other in the float vector of the state.
        size: how many numbers there are.
        hidden: the number of units, if the part is kept by units, else None. Number i of the state and entry i of a
            parameter array then belong to unit i mod hidden, and M has leaves [L, n, hidden] for a parameter array of
            n · hidden numbers and units of L numbers. Else M has leaves [size, ...].
    """

    names: frozenset[str] | None
    first: int
    size: int
    hidden: int | None = None

    @property
    def count(self) -> int:
        """The number of rows of M, and of the cotangents whose pull-backs give them: L, or size."""
        return self.size if self.hidden is None else self.size // self.hidden

    def pick(self, params: Params) -> list[Any]:
        """The leaves of the parameters that belong to the part."""
        return [leaf for name, leaf in leaf_names(params, "params") if self.names is None or name in self.names]

    def zeros(self, params: Params) -> list[Any]:
        """M, filled with zeros."""
        return [jnp.zeros((self.count, *self._shape(a.shape)), a.dtype) for a in self.pick(params)]

    def cotangents(self, s: Any) -> Any:
        """The cotangents of a state s [S] whose pull-backs are the rows of J and I, [count, S].

        A parameter that feeds one unit changes the numbers of this unit alone. So ones in number l of all units give
        row l for all units at once.
        """
        own = jnp.repeat(jnp.eye(self.count, dtype=s.dtype), self.hidden or 1, axis=1)
        return jnp.zeros((self.count, s.size), s.dtype).at[:, self._span].set(own)

    def rows(self, trees: Params) -> list[Any]:
        """Trees like the parameters with a first axis [K], such as K pull-backs, as K rows of M, leaves [K, ...]."""
        return [a.reshape(len(a), *self._shape(a.shape[1:])) for a in self.pick(trees)]

    def like_params(self, row: list[Any], params: Params) -> Params:
        """One row of M as a tree like the parameters; zero at parameters of other parts."""
        picked, back = jax.vjp(self.pick, params)
        return back([a.reshape(p.shape).astype(p.dtype) for a, p in zip(row, picked, strict=True)])[0]

    def plus(self, M: list[Any], I: Params) -> list[Any]:
        """M + I, where I are the pull-backs of the cotangents to the parameters."""
        return [m + i.astype(m.dtype) for m, i in zip(M, self.rows(I), strict=True)]

    def after(self, M: list[Any], J: Any, I: Params) -> list[Any]:
        """J M + I.

        Args:
            M: this part.
            J: the pull-backs of the cotangents to the state, [count, S].
            I: as in `plus`.
        """
        return self.plus([self._product(J[:, self._span], m) for m in M], I)

    def gradient(self, q: Any, M: list[Any], params: Params) -> Params:
        """q M for the cotangent q [S] of a state, as a tree like the parameters; zero at parameters of other parts."""
        return self.like_params([self._product(q[None, self._span], m)[0] for m in M], params)

    @property
    def _span(self):
        return slice(self.first, self.first + self.size)

    def _shape(self, shape):
        """The shape of a row of M for a parameter of this shape."""
        return shape if self.hidden is None else (math.prod(shape) // self.hidden, self.hidden)

    def _product(self, rows, m):
        """rows M, for rows [n, size]."""
        rows = rows.astype(m.dtype)
        if self.hidden is None:
            return jnp.tensordot(rows, m, 1)
        # Sums of separate products: a product whose axes have the size L takes much longer on a CPU.
        rows = rows.reshape(len(rows), self.count, self.hidden)
        return jnp.stack([sum(a * m_j for a, m_j in zip(row, m, strict=True)) for row in rows])


class Structure(NamedTuple):
    """What a model knows of how its parameters act on its state; None stands for nothing.

    Args:
        exact: a list of `Part`s, which together are the whole matrix M.
        layers: a list of `Part`s: the influence of the parameters of each layer on the state of this layer. The
            influence on the layers above is left out. What acts on the state from outside of the layers belongs to the
            lowest one.
        units: a `Part`: the influence of all parameters that change the state on their own units, if there is one layer
            and each of them feeds one unit. Units may act on each other.
        apart: (params, state, x) -> state, the step with another derivative, in which no unit acts on another one, and
            on itself as in the step. That of a `Cell` takes another recurrent product, `recur=`. It is given with
            `units`.
    """

    exact: Any = None
    layers: Any = None
    units: Any = None
    apart: Any = None


def structure_of(problem: Problem, params: Params) -> Structure:
    """What is known of a problem with these parameters. Resets inside of a window change nothing."""
    of = problem.own.structure
    return (None if of is None else of(params)) or Structure()


def units_of(strategy: Plugin, problem: Problem, params: Params) -> Part:
    """`Structure.units`, for a strategy that needs them.

    Raises:
        Error: it is not known that each parameter feeds one unit.
    """
    units = structure_of(problem, params).units
    if units is None:
        raise Error(
            f"{strategy!r} takes a `Cell` or `Elementwise` of one layer, without embedding and residual block, such as "
            "seqjax.models.RNN: each parameter has to feed one unit; use rtrl or snap, which take any step"
        )
    return units
