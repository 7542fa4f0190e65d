"""`Spec`: the inputs and outputs of a model, ids or real vectors, each with its loss."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from seqjax.errors import Error, is_whole


@dataclass(frozen=True)
class Tokens:
    """Ids below `size`: an input is int32[], an output the logits float[size], the loss is in nats.

    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> loss = sj.Tokens(2).loss(jnp.zeros(2), jnp.array(1))  # both tokens are equally likely: ln 2
    >>> round(float(loss), 4)
    0.6931
    """

    size: int

    width = property(lambda self: self.size, doc="The number of logits, `size`.")
    like = property(
        lambda self: jax.ShapeDtypeStruct((), jnp.int32), doc="The shape and dtype of an input or a target."
    )

    def loss(self, output: Float[Array, " size"], target: Int[Array, ""]) -> Float[Array, ""]:
        """Cross-entropy, -log softmax(output)[target]."""
        return jax.nn.logsumexp(output) - output[target]


@dataclass(frozen=True)
class Values:
    """Real vectors: an input and an output are float[dim], the loss is the mean squared error.

    >>> import jax.numpy as jnp
    >>> import seqjax as sj
    >>> float(sj.Values(2).loss(jnp.array([1.0, 3.0]), jnp.zeros(2)))
    5.0
    """

    dim: int = 1

    width = property(lambda self: self.dim, doc="The number of values in a time step, `dim`.")

    @property
    def like(self) -> jax.ShapeDtypeStruct:
        """Shape and dtype of an input or a target."""
        return jax.ShapeDtypeStruct((self.dim,), jnp.result_type(float))

    def loss(self, output: Float[Array, " dim"], target: Float[Array, " dim"]) -> Float[Array, ""]:
        """Squared error averaged over `dim`, without a factor 1/2."""
        return jnp.mean(jnp.square(output - target))


@dataclass(frozen=True)
class Spec:
    """The inputs of a model, and the targets that it predicts; `targets=None`: the same as the inputs.

    >>> import seqjax as sj
    >>> sj.Spec(sj.Tokens(28))
    Spec(inputs=Tokens(size=28), targets=Tokens(size=28))
    >>> sj.Spec(inputs=sj.Values(3), targets=sj.Tokens(2))
    Spec(inputs=Values(dim=3), targets=Tokens(size=2))
    """

    inputs: Tokens | Values
    targets: Any = None

    def __post_init__(self) -> None:
        if self.targets is None:
            object.__setattr__(self, "targets", self.inputs)

    def to_dict(self) -> dict[str, dict[str, int]]:
        """Plain values for JSON."""
        return {side: {type(value).__name__: value.width} for side, value in vars(self).items()}

    @classmethod
    def from_dict(cls, saved: dict[str, dict[str, int]]) -> "Spec":
        """The spec whose `to_dict` gave `saved`.

        Raises:
            ValueError, AttributeError or TypeError: `saved` is not such a dict.
        """
        kinds = {"Tokens": Tokens, "Values": Values}
        for value in saved.values():
            ((kind, width),) = value.items()
            if kind not in kinds or not is_whole(width) or not 1 <= width < 2**31:
                raise Error(f"not a side of a spec: {value!r:.80}")
        return cls(**{side: kinds[kind](width) for side, value in saved.items() for kind, width in value.items()})
