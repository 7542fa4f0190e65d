"""`Spec`: the inputs and outputs of a model, ids or real vectors, each with its loss."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from seqjax.errors import Error, is_whole


@dataclass(frozen=True)
class Tokens:
    """Ids below `size`: an input is int32[], an output the logits float[size], the loss is in nats."""

    size: int

    width = property(lambda self: self.size, doc="The number of logits, `size`.")

    def loss(self, output: Float[Array, " size"], target: Int[Array, ""]) -> Float[Array, ""]:
        """Cross-entropy, -log softmax(output)[target]."""
        return jax.nn.logsumexp(output) - output[target]


@dataclass(frozen=True)
class Values:
    """Real vectors: an input and an output are float[dim], the loss is the mean squared error."""

    dim: int = 1

    width = property(lambda self: self.dim, doc="The number of values in a time step, `dim`.")

    def loss(self, output: Float[Array, " dim"], target: Float[Array, " dim"]) -> Float[Array, ""]:
        """Squared error averaged over `dim`, without a factor 1/2."""
        return jnp.mean(jnp.square(output - target))


@dataclass(frozen=True)
class Spec:
    """The inputs of a model, and the targets that it predicts; `targets=None`: the same as the inputs."""

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
            ValueError, AttributeError or TypeError: it is no such dict.
        """
        kinds = {"Tokens": Tokens, "Values": Values}
        for value in saved.values():
            ((kind, width),) = value.items()
            if kind not in kinds or not is_whole(width) or not 1 <= width < 2**31:
                raise Error(f"no such side of a spec: {value!r:.80}")
        return cls(**{side: kinds[kind](width) for side, value in saved.items() for kind, width in value.items()})
