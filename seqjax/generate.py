"""Continuing a sequence of tokens."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from seqjax.contracts import Codec, Model, Params, Spec
from seqjax.errors import Error
from seqjax.vocab import UNKNOWN


def generate(
    model: Model, params: Params, codec: Codec, prompt: str, length: int, temperature: float = 0.0, seed: int = 0
) -> str:
    """The prompt and its continuation by `length` tokens.

    The model reads the prompt, then each token that it has chosen. `<unk>` is never chosen. An empty prompt is read as
    token 0, which the model has not met in training, and is not part of the result.

    Args:
        model: a model of tokens.
        params: its parameters.
        codec: between text and ids.
        prompt: how the text begins.
        length: number of tokens to add.
        temperature: 0 chooses the likeliest token; else token i with probability ∝ p_i^(1/temperature).
        seed: of the choice.

    Raises:
        Error: the prompt has symbols that are not in the vocabulary, or an argument is out of range.
    """
    if length < 0 or not 0 <= temperature < math.inf or not 0 <= seed < 2**32:
        raise Error(f"length = {length}, temperature = {temperature} and seed = {seed} must be at least 0, and finite")
    ids = codec.encode(prompt)
    unknown = [i for i, token in enumerate(codec.tokens) if token == UNKNOWN]
    strange = dict.fromkeys(token for token, i in zip(codec.split(prompt), ids, strict=True) if i in unknown)
    if strange:
        raise Error(f"prompt: not in the vocabulary of this run: {' '.join(map(repr, strange))}; leave them out")
    read = np.asarray(ids if len(ids) else [0], np.int32)
    allowed = np.ones(len(codec), bool)
    allowed[unknown] = False
    key = None if temperature == 0 else jax.random.key(seed)
    added = _continue(model, Spec(codec.spec), length, params, read, allowed, key, temperature)
    return prompt + codec.decode(added) if length else prompt


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _continue(
    model: Model,
    spec: Spec,
    length: int,
    params: Params,
    ids: Int[jax.Array, " n"],
    allowed: jax.Array,
    key: jax.Array | None,
    temperature: Float[jax.Array, ""] | float,
) -> Int[jax.Array, " length"]:
    step = functools.partial(model.step, params)
    state, logits = jax.lax.scan(step, model.init_state(params, spec), ids)

    def body(carry, t):
        state, logits = carry
        logits = jnp.where(allowed, logits, -jnp.inf)
        if key is None:
            token = jnp.argmax(logits)
        else:
            token = jax.random.categorical(jax.random.fold_in(key, t), logits / jnp.maximum(temperature, 1e-30))
        token = token.astype(jnp.int32)
        return step(state, token), token

    return jax.lax.scan(body, (state, logits[-1]), jnp.arange(length))[1]
