"""The kinds of plugin and the few values that pass between them.

Time runs along the leading axis: T steps, B rows (sequences side by side), N batches an epoch, D documents.
A model is written for ONE sequence and ONE step; `unroll` here scans any such step over time.
"""

import functools
import hashlib
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, PyTree

from seqjax.errors import Error
from seqjax.plugin import Plugin
from seqjax.unroll import Gates, unroll

Params = Any
"""A nested dict of float arrays."""
State = Any
"""Any pytree of arrays; leaves may be integers or keys."""


@dataclass(frozen=True)
class Tokens:
    """Sequences of ids: int32[] in, logits float[size] out, loss in nats."""

    size: int

    width = property(lambda self: self.size, doc="Number of logits.")

    def loss(self, output: Float[Array, " size"], target: Int[Array, ""]) -> Float[Array, ""]:
        """Cross-entropy, -log softmax(output)[target]."""
        return jax.nn.logsumexp(output) - output[target]


@dataclass(frozen=True)
class Values:
    """Sequences of real vectors: float[dim] in, float[dim] out, loss the mean squared error."""

    dim: int = 1

    width = property(lambda self: self.dim, doc="Number of values a step.")

    def loss(self, output: Float[Array, " dim"], target: Float[Array, " dim"]) -> Float[Array, ""]:
        """Squared error averaged over `dim`, without a factor 1/2."""
        return jnp.mean(jnp.square(output - target))


@dataclass(frozen=True)
class Spec:
    """What goes into a model and what is to come out; `targets` None means the same as the inputs."""

    inputs: Tokens | Values
    targets: Any = None

    def __post_init__(self) -> None:
        if self.targets is None:
            object.__setattr__(self, "targets", self.inputs)


class Stream(NamedTuple):
    """What is sampled: `targets[t]` is predicted after reading `inputs[t]`.

    `bounds` int64[D + 1] are where documents begin and end: no window crosses one. `mask` bool[n], if any, is False
    where a target is not scored.
    """

    inputs: Any
    targets: Any
    bounds: Any
    mask: Any = None


class Corpus(Plugin):
    """Where data comes from."""

    kind: ClassVar[str] = "corpus"

    def load(self) -> "Text":
        """The data, whole."""
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class Text(Corpus):
    """A text in memory; itself a corpus, so `Experiment(corpus=Text("..."))` works.

    Args:
        text: the characters, as they are.
        source: where they came from, for display.
        bounds: int64[D + 1] offsets of the documents in `text`; None: one document.
    """

    text: str
    source: str = ""
    bounds: Any = None

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise Error(f"Text takes a string, not {type(self.text).__name__}; read a file with the corpus text-file")
        bounds = np.asarray([0, len(self.text)] if self.bounds is None else self.bounds, np.int64)
        if (
            bounds.ndim != 1
            or not bounds.size
            or bounds[0] != 0
            or bounds[-1] != len(self.text)
            or (np.diff(bounds) < 0).any()
        ):
            raise Error(f"Text bounds must rise from 0 to {len(self.text)}, the number of characters")
        object.__setattr__(self, "bounds", bounds)

    def __len__(self) -> int:
        return len(self.text)

    def __getitem__(self, part: slice) -> "Text":
        first, last, _ = part.indices(len(self))
        inside = self.bounds[(self.bounds > first) & (self.bounds < last)]
        return Text(self.text[first:last], self.source, np.concatenate([[first], inside, [max(first, last)]]) - first)

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of the UTF-8 text."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()

    def load(self) -> "Text":
        """Itself."""
        return self


@runtime_checkable
class Codec(Protocol):
    """Turns text into ids and back. What `Tokenizer.fit` returns."""

    @property
    def tokens(self) -> Any:
        """The token of each id."""

    @property
    def spec(self) -> Tokens | Values:
        """What the ids or values are, as a side of a `Spec`."""

    def split(self, text: str) -> Any:
        """The tokens of a text, known or not."""

    def encode(self, text: str) -> np.ndarray:
        """Ids int32[n] of a text; what is not in the vocabulary becomes `<unk>` where there is one."""

    def decode(self, ids: Any) -> str:
        """The text of ids."""

    def __len__(self) -> int:
        """Number of ids."""

    def to_dict(self) -> dict:
        """Plain values for JSON; `Tokenizer.load` turns them back into the codec."""


class Tokenizer(Plugin):
    """Splits text into tokens. The author writes `split` and `join`; `fit` counts a vocabulary."""

    kind: ClassVar[str] = "tokenizer"

    def split(self, text: str) -> Any:
        """The tokens of a text, in order."""
        raise NotImplementedError

    def join(self, tokens: Any) -> str:
        """The text of tokens: the inverse of `split`."""
        raise NotImplementedError

    def fit(self, data: Text) -> Codec:
        """The codec of the training split `data`."""
        from seqjax.vocab import Vocab

        return Vocab.from_tokens(self.split(data.text), tokenizer=self)

    def load(self, saved: dict) -> Codec:
        """The codec whose `to_dict` gave `saved`."""
        from seqjax.vocab import Vocab

        return Vocab.from_dict(saved, tokenizer=self)


class Plan(NamedTuple):
    """One epoch of windows: N batches of B rows, each a window of T steps.

    Args:
        starts: int64[N, B]. A window reads `inputs[s : s + T]` and `targets[s : s + T]`.
        scored: int32[N, B, 2]: steps first <= t < last count; an empty range fills up a last batch.
        fresh: bool[N, B]: the row starts a sequence; else it continues row i of the batch before.
    """

    starts: Any
    scored: Any
    fresh: Any


class Sampler(Plugin):
    """Chooses the windows of an epoch: index arithmetic only, so that it works on any array.

    An author's class has the fields `batch_size` (rows B) and `num_steps` (window length T).
    """

    kind: ClassVar[str] = "sampler"
    batch_size: Any
    num_steps: Any

    def plan(self, bounds: np.ndarray, rng: np.random.Generator) -> Plan:
        """The windows of one epoch over documents bounds[d] <= t < bounds[d + 1].

        Raises:
            Error: the documents are too short for a single batch.
        """
        raise NotImplementedError


class Model(Plugin):
    """A sequence model: one step. The author writes `init`, `init_state` and `step`."""

    kind: ClassVar[str] = "model"
    context: Any = 0
    """How many outputs after a fresh state are not scored (n - 1 for an MLP on n lags). No field."""

    def init(self, key: jax.Array, spec: Spec) -> Params:
        """Parameters: a nested dict of float arrays whose leaf names the author documents."""
        raise NotImplementedError

    def init_state(self, params: Params, spec: Spec, key: jax.Array | None = None) -> State:
        """The state of ONE sequence before its first step. May depend on the parameters (be learned).

        A stochastic model keeps the key and a counter in its state; without a key it is deterministic.
        """
        raise NotImplementedError

    def step(self, params: Params, state: State, x: Any) -> tuple[State, Any]:
        """One sequence, one time step: (state, input) -> (state, output). Pure."""
        raise NotImplementedError

    def unroll(self, params: Params, state: State, xs: PyTree, gates: Gates = None) -> tuple[State, Any]:
        """`step` over time: xs leaves [T, B, ...], state leaves [B, ...]. Override it to be faster.

        Differentiated in reverse mode only. For `gates` see `seqjax.unroll`.
        """
        return unroll(functools.partial(self.step, params), state, xs, gates)


class Optimizer(Plugin):
    """Turns gradients into updates."""

    kind: ClassVar[str] = "optimizer"

    def build(self, num_updates: int) -> optax.GradientTransformation:
        """The optax transformation for a training of about `num_updates` updates.

        Numeric fields go through `optax.inject_hyperparams`, so that the learning rate can be read.
        """
        raise NotImplementedError
