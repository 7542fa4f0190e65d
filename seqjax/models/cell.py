"""`Cell`: a recurrent model made from one elementwise function, with a fast scan that all such models share."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, final

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Interval
from jaxtyping import Array, Bool

from seqjax.gradients.contract.problem import Params
from seqjax.gradients.contract.structure import Part
from seqjax.models.cell_scan import scaled, scan_cell
from seqjax.models.initializers import Scheme, init_weight
from seqjax.models.layered import HiddenState, Layered, select
from seqjax.models.products import rounded

EVERY_STEP = 2**32 - 1
"""Step index folded into the key for a mask that all steps of a sequence share; no step has this number."""


@dataclass(frozen=True)
class Cell(Layered):
    """A recurrent network of one or several layers. The author writes one function: `cell`.

        u_t = x_t W_xh + b_h,   v_t = h_{t-1} W_hh
        state_t = cell(u_t, v_t, state_{t-1}, **parameters of the cell)
        o_t = h_t W_hq + b_q

    In the lowest layer x_t is the input, and in the others it is the h_t of the layer below; o_t is read from the
    highest layer. An id x selects row x of W_xh, which equals the product of its one-hot vector with W_xh.

    Parameters for D inputs and Q outputs: `layer_0`, `layer_1`, ... each have `W_xh` [D or hidden, blocks hidden],
    `W_hh` [hidden, blocks hidden] and `b_h` [blocks hidden]. The read-out has `W_hq` [hidden, Q] and `b_q` [Q], and an
    embedding is `E` [D, embedding]. A layer may also have `b_hh` [blocks hidden], which is added to v; `init` makes
    none. Biases start at zero. If `cell` reads parameters of its own, `init_cell` returns them, and each layer has them
    as `cell`.

    Dropout is active if `init_state` is given a key. `dropout` (Zaremba, Sutskever & Vinyals 2014) masks the output of
    a layer, with a new mask at every step. `recurrent_dropout` (Gal & Ghahramani 2016) masks the h_{t-1} that is
    multiplied by W_hh, with one mask for all steps of a sequence. A mask depends on the key and the layer, and the
    first kind also on the number of the step.

    With `density` < 1 the layers are sparse: `recurrent_mask` says which entries of W_hh are used. The others have no
    effect, their gradients are zero, and `init` sets them to zero. W_hh keeps its shape, and a step takes as long as
    with all entries.

    >>> from dataclasses import dataclass
    >>> import jax
    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> @dataclass(frozen=True)
    ... class ReLU(sj.Cell):
    ...     def cell(self, u, v, state):
    ...         return state._replace(h=jax.nn.relu(u + v))
    >>> params = ReLU(hidden=4).init(jax.random.key(0), sj.Spec(sj.Tokens(3)))
    >>> jax.tree.map(jnp.shape, params)
    {'W_hq': (4, 3), 'b_q': (3,), 'layer_0': {'W_hh': (4, 4), 'W_xh': (3, 4), 'b_h': (4,)}}
    """

    recurrent_dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Probability that a unit of h is zero before W_hh, at all steps of a sequence; the others are scaled likewise."""
    initializer: Scheme = "normal"
    """The distribution of the weights: N(0, 0.01²); U(±1/√hidden); Glorot's; W_hh orthogonal, others N(0, 1/fan_in)."""
    density: Annotated[float, Interval(gt=0, le=1)] = 1.0
    """The share of the entries of W_hh that may be other than zero; see `recurrent_mask`."""

    blocks: ClassVar[int] = 1
    """The number of blocks of `hidden` numbers in u and in v. A class attribute, not a hyper-parameter."""
    State: ClassVar[Any] = HiddenState
    """The NamedTuple of a layer's state, with fields float[hidden]; its field `h` is the layer's output."""

    # With `*_: Any, **own: Any` type checkers accept a `cell` that has no further arguments, or some by name.
    def cell(self, u: Array, v: Array, state: Any, *_: Any, **own: Any) -> Any:
        """One step of one layer. The author writes it, elementwise and for any leading axes.

        Elementwise means that unit i of the new state is a function of the numbers of unit i alone: the numbers at
        index i of the blocks of u and v, of the fields of the state, and of the last axis of the parameters.

        Args:
            u: float[..., blocks hidden], x_t W_xh + b_h.
            v: float[..., blocks hidden], h_{t-1} W_hh, plus b_hh if there is one; with recurrent dropout h is masked.
            state: the `State` of the previous step, with fields float[..., hidden].
            own: the layer's parameters from `init_cell`, by name: a cell with a parameter `w` is written as
                `cell(self, u, v, state, w)`.

        Returns:
            The `State` of this step.
        """
        raise NotImplementedError

    def init_cell(self, key: Array) -> Params:
        """The initial parameters that `cell` of one layer reads by name, beside W_xh, W_hh and b_h. By default none.

        Args:
            key: a typed PRNG key, which differs from layer to layer.

        Returns:
            A dict of float[hidden], or float[n, hidden] for n numbers of each unit.
        """
        return {}

    def recurrent_mask(self, layer: int) -> Bool[np.ndarray, "hidden hidden"] | None:
        """Which unit is read by which unit of a layer, the same for all blocks; None: each unit is read by all units.

        Entry [i, j] says whether unit j reads h_{t-1} of unit i, in W_hh[i, j], W_hh[i, hidden + j], ... It is a
        constant of the model. An author may override the method with a connectivity of their own, which may depend on
        `layer` and on the fields of the model; the author then decides what `density` means.

        Here a unit reads itself and others that are drawn at random, and all units read the same number of units, or
        one more or less. The share of the entries is `density`, but the diagonal is always included: without its own h
        a unit could not remember anything by itself. The draws depend on `layer` and `hidden` alone, not on the seed of
        a run, and the entries at a smaller density are a part of the entries at a larger one.

        Args:
            layer: the number of the layer.
        """
        if self.density == 1:
            return None
        # The raw numbers of PCG64 are the same in all versions of numpy, and so are the networks that they define.
        drawn = np.random.PCG64([layer, self.hidden]).random_raw((self.hidden, self.hidden))
        np.fill_diagonal(drawn, 0)
        ranks = np.argsort(np.argsort(drawn, axis=0, kind="stable"), axis=0, kind="stable")
        every, further = divmod(round(self.density * self.hidden**2), self.hidden)
        return ranks < np.maximum(every + (np.arange(self.hidden) < further), 1)

    def init(self, key, spec):
        draw = functools.partial(init_weight, self.initializer, hidden=self.hidden)
        outputs = spec.targets.width
        keys = iter(jax.random.split(key, 3 * self.layers + 2))
        params: Params = {"W_hq": draw(next(keys), (self.hidden, outputs)), "b_q": jnp.zeros(outputs)}
        # Without an embedding no key is split off for it: the weights that a key gives must not change.
        embedding, width = self.init_embedding(next(keys) if self.embedding is not None else key, spec)
        params |= embedding
        for layer in range(self.layers):
            params[f"layer_{layer}"] = {
                "W_xh": draw(next(keys), (width, self.hidden), blocks=self.blocks),
                # Not scaled for the entries that a mask leaves out.
                "W_hh": self._masked(
                    layer, draw(next(keys), (self.hidden, self.hidden), blocks=self.blocks, recurrent=True)
                ),
                "b_h": jnp.zeros(self.blocks * self.hidden),
            }
            width = self.hidden
        for layer in range(self.layers):
            own = self.init_cell(next(keys))
            if own:
                params[f"layer_{layer}"]["cell"] = own
        return params

    @property
    def is_random(self):
        """Whether there is dropout of either kind."""
        return self.dropout > 0 or self.recurrent_dropout > 0

    @final
    def step_in(self, dtype, params, state, x):
        return self.step_with(recur, params, state, x, dtype)

    def apart_units(self, parts):
        # Entry i of the last axis of W_xh, W_hh, b_h, b_hh and the cell's own parameters feeds unit i mod hidden.
        (part,) = parts
        if not all(name.startswith("layer_0.") for name in part.names):
            return None, None

        def apart(params, state, x, dtype, recur=recur_apart):
            return self.step_with(recur, params, state, x, dtype)

        return Part(part.names, part.first, part.size, self.hidden), apart

    @final
    def step_with(self, recur: Callable, params: Params, state: Any, x: Any, dtype: Any = None) -> tuple[Any, Any]:
        """`step` with another function for the recurrent product, such as one whose derivative is replaced.

        Args:
            recur: (h, W_hh, b_hh) -> v, in place of h W_hh + b_hh. W_hh is zero where the mask of the layer is False.
            params: as in `step`.
            state: as in `step`.
            x: as in `step`.
            dtype: the dtype to which the operands of all products are rounded, h and W_hh before `recur` gets them;
                None: they are not rounded.
        """

        def run(index, layer, x, old):
            u = select(x, layer["W_xh"], dtype) + layer["b_h"]
            h = scaled(old.h, self._scale(state, index, u.dtype))
            W_hh = self._masked(index, layer["W_hh"])
            v = recur(rounded(h, dtype), rounded(W_hh, dtype), layer.get("b_hh"))
            new = self.cell(u, v, old, **layer.get("cell", {}))
            return new, new.h

        return self.through_layers(params, state, x, run, None, dtype)

    def unroll_in(self, dtype, params, state, xs, edge_weights):
        def run(index, layer, x_TB, start):
            u_TB = select(x_TB, layer["W_xh"], dtype) + layer["b_h"]
            own, scale_B = layer.get("cell", {}), self._scale(state, index, u_TB.dtype)
            W_hh = self._masked(index, layer["W_hh"])  # once, outside of the scan
            return scan_cell(self, dtype, W_hh, layer.get("b_hh"), own, u_TB, start, edge_weights, scale_B)

        return self.through_layers(params, state, xs, run, len(xs), dtype)

    def _masked(self, layer, W_hh):
        """W_hh of a layer with zeros where its mask is False."""
        mask = self.recurrent_mask(layer)
        return W_hh if mask is None else jnp.where(np.tile(mask, self.blocks), W_hh, 0)

    def _scale(self, state, layer, dtype):
        """The factors of a layer's h before W_hh, at all steps, 0 or 1 / (1 - probability); None: no dropout.

        They are float[hidden], or float[B, hidden] for a state with rows.
        """
        if isinstance(state.key, tuple) or not self.recurrent_dropout:
            return None

        def of_row(key):
            key = jax.random.fold_in(jax.random.fold_in(key, EVERY_STEP), layer)
            kept = jax.random.bernoulli(key, 1 - self.recurrent_dropout, (self.hidden,))
            return jnp.where(kept, 1 / (1 - self.recurrent_dropout), 0).astype(dtype)

        return (jax.vmap(of_row) if state.key.ndim else of_row)(state.key)


def recur(h: Array, W_hh: Array, b_hh: Array | None) -> Array:
    """The recurrent part v of a step: h W_hh, plus b_hh if there is one.

    Args:
        h: float[..., hidden].
        W_hh: float[hidden, width].
        b_hh: float[width]; None: no bias.

    Returns:
        float[..., width].
    """
    return h @ W_hh if b_hh is None else h @ W_hh + b_hh


@jax.custom_jvp
def recur_apart(h: Array, W_hh: Array, b_hh: Array | None) -> Array:
    """`recur`, in whose derivative entry i of h acts on unit i of each block alone: the diagonals of W_hh."""
    return recur(h, W_hh, b_hh)


@recur_apart.defjvp
def _recur_apart_tangent(primals, tangents):
    (h, W_hh, b_hh), (dh, dW_hh, db_hh) = primals, tangents
    blocks = W_hh.reshape(h.size, -1, h.size)
    own = jnp.diagonal(blocks, axis1=0, axis2=2).ravel()
    through_W = h @ dW_hh if db_hh is None else h @ dW_hh + db_hh
    return recur_apart(h, W_hh, b_hh), own * jnp.tile(dh, blocks.shape[1]) + through_W
