"""The kinds of plugin and the few values that pass between them.

Time runs along the leading axis: T steps, B rows (sequences side by side), N batches an epoch, D documents.
A model is written for ONE sequence and ONE step; `unroll` here scans any such step over time.
"""

import functools
import itertools
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
import optax
from jaxtyping import PyTree

from seqjax.corpus import Series, Text
from seqjax.errors import Error
from seqjax.plugin import Plugin
from seqjax.specs import Spec, Tokens, Values
from seqjax.unroll import Gates, unroll

Params = Any
"""A nested dict of float arrays."""
State = Any
"""Any pytree of arrays; leaves may be integers or keys."""


class Stream(NamedTuple):
    """What is sampled: `targets[t]` is predicted after reading `inputs[t]`.

    `bounds` int64[D + 1] are where documents begin and end: no window crosses one. `mask` bool[n], if any, is False
    where a target is not scored.
    """

    inputs: Any
    targets: Any
    bounds: Any
    mask: Any = None


@runtime_checkable
class Codec(Protocol):
    """Turns data into what a model reads, and back. What `Tokenizer.fit` returns."""

    @property
    def spec(self) -> Tokens | Values:
        """What comes out of `encode`, as a side of a `Spec`."""

    def encode(self, data: Any) -> np.ndarray:
        """Ids int32[n] of a text, or values float[n, dim] of those of a series."""

    def decode(self, encoded: Any) -> Any:
        """The text of ids, or the values in their own units."""

    def to_dict(self) -> dict:
        """Plain values for JSON; `Tokenizer.load` turns them back into the codec."""


@runtime_checkable
class TextCodec(Codec, Protocol):
    """A codec between text and ids; what is not in the vocabulary becomes `<unk>` where there is one."""

    @property
    def tokens(self) -> Any:
        """The token of each id."""

    def split(self, text: str) -> Any:
        """The tokens of a text, known or not, one for each id of `encode`."""

    def __len__(self) -> int:
        """Number of ids."""


class Tokenizer(Plugin):
    """Splits text into tokens. The author writes `split` and `join`; `fit` counts a vocabulary."""

    kind: ClassVar[str] = "tokenizer"

    def split(self, text: str) -> Any:
        """The tokens of a text, in order."""
        raise NotImplementedError

    def join(self, tokens: Any) -> str:
        """The text of tokens: the inverse of `split`."""
        raise NotImplementedError

    def fit(self, data: Text | Series) -> Codec:
        """The codec of the training split `data`.

        Raises:
            Error: the tokenizer is not for such data.
        """
        from seqjax.vocab import Vocab

        if not isinstance(data, Text):
            raise Error(
                f"tokenizer {type(self).__name__} splits text, and the corpus is a {type(data).__name__}\n"
                "Leave the tokenizer out, or scale a series with --tokenizer standardize"
            )
        tokens = itertools.chain.from_iterable(map(self.split, data.documents))
        return Vocab.from_tokens(tokens, tokenizer=self)

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
    """A sequence model: one step. The author writes `init`, `init_state` and `step`.

    A counted model, such as n-grams, has no `init` and is not trained: its author writes `count(stream, spec)`, which
    makes its parameters, integers among them, from the training part.
    """

    kind: ClassVar[str] = "model"
    context: Any = 0
    """How many outputs after a fresh state are not scored (n - 1 for an MLP on the last n inputs). No field."""

    @property
    def is_counted(self) -> bool:
        """Whether it has a `count` in place of a training."""
        return hasattr(self, "count")

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
