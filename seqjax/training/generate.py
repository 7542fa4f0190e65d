"""Generates a continuation of a text, token by token."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from seqjax.data.spec import Spec
from seqjax.data.tokenizer import UNKNOWN, TextCodec
from seqjax.errors import Error, check_all, is_whole
from seqjax.gradients.problem import Params
from seqjax.models.model import Model


def generate(
    model: Model,
    params: Params,
    codec: TextCodec,
    prompt: Any,
    length: Any,
    temperature: Any = 0.0,
    *,
    top_k: Any = None,
    top_p: Any = None,
    seed: Any = 0,
    unknown: bool = False,
) -> str:
    """The prompt, continued by `length` tokens.

    The model reads the prompt, and then each token that was chosen. If the prompt is empty, the model reads token 0
    first, which is not part of the result. Equal arguments give equal texts.

    Args:
        model: a model of tokens.
        params: its parameters.
        codec: turns text into ids, and back.
        prompt: the beginning of the text.
        length: the number of tokens to add.
        temperature: 0 chooses the likeliest token. Otherwise token i is drawn with a probability ∝ p_i^(1/temperature).
        top_k: draws from the k likeliest tokens only; None: from all.
        top_p: draws from the smallest set of likeliest tokens whose probabilities sum to at least p, of those that
            `top_k` leaves; None or 1: from all.
        seed: the seed of the draws.
        unknown: whether `<unk>` may be chosen, and whether a prompt may have unknown tokens, which are read as `<unk>`.

    Raises:
        Error: the prompt has tokens that are not in the vocabulary; an argument has a wrong type or is out of range.
    """
    _check(prompt, length, temperature, top_k, top_p, seed)
    ids = np.asarray(codec.encode(prompt), np.int32)
    allowed = np.array([unknown or token != UNKNOWN for token in codec.tokens])
    strange = dict.fromkeys(token for token, i in zip(codec.split(prompt), ids, strict=True) if not allowed[i])
    if strange:
        raise Error(f"prompt: not in the vocabulary of this run: {' '.join(map(repr, strange))}; leave them out")
    if length == 0:
        return prompt
    read = ids if len(ids) else np.zeros(1, np.int32)
    # The length is padded to a power of two, so that prompts of many lengths share one compiled program.
    padded = np.pad(read, (0, 2 ** math.ceil(math.log2(len(read))) - len(read)))
    key = None if temperature == 0 else jax.random.key(seed)
    # Only the limit ∞ filters nothing: rounded sums reach 1 before the last of the likeliest tokens.
    limits = (len(codec) if top_k is None else top_k, math.inf if top_p in (None, 1) else top_p)
    added = _continue(model, Spec(codec.spec), length, params, padded, len(read), allowed, key, temperature, limits)
    return codec.decode(np.concatenate([ids, added]))


def _check(prompt, length, temperature, top_k, top_p, seed):
    """Raises an `Error` with all faults of the arguments."""
    check_all(
        "generate:",
        {
            f"prompt = {prompt!r:.80} must be a text": isinstance(prompt, str),
            f"length = {length!r} must be a whole number, at least 0": is_whole(length) and length >= 0,
            f"temperature = {temperature!r} must be a number, at least 0, and finite": (
                _is_number(temperature) and 0 <= temperature < math.inf
            ),
            f"top_k = {top_k!r} must be a whole number, at least 1": top_k is None or (is_whole(top_k) and top_k >= 1),
            f"top_p = {top_p!r} must be a number in (0, 1]": top_p is None or (_is_number(top_p) and 0 < top_p <= 1),
            f"seed = {seed!r} must be a whole number, at least 0, and below 2^32": is_whole(seed) and 0 <= seed < 2**32,
        },
    )


def _is_number(value):
    return is_whole(value) or isinstance(value, float | np.floating)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _continue(
    model: Model,
    spec: Spec,
    length: int,
    params: Params,
    ids: Int[Array, " n"],
    count: Any,
    allowed: Bool[Array, " V"],
    key: jax.Array | None,
    temperature: Any,
    limits: tuple[Any, Any],
) -> Int[Array, " length"]:
    """Reads the first `count` ids, and returns the `length` ids that are chosen after them."""
    step = functools.partial(model.step, params)

    def read(carry, inputs):
        # Padding must not change the state, so from step `count` on the old state and logits are kept.
        t, x = inputs
        return jax.tree.map(lambda new, old: jnp.where(t < count, new, old), step(carry[0], x), carry), None

    state = model.init_state(params, spec)
    logits = jnp.zeros_like(jax.eval_shape(step, state, ids[0])[1])
    carry, _ = jax.lax.scan(read, (state, logits), (jnp.arange(len(ids)), ids))

    def go_on(carry, t):
        state, logits = carry
        logits = jnp.where(allowed, logits, -jnp.inf)
        if key is None:
            token = jnp.argmax(logits)
        else:
            logits = _likeliest(logits / jnp.maximum(temperature, 1e-30), *limits)
            token = jax.random.categorical(jax.random.fold_in(key, t), logits)
        token = token.astype(jnp.int32)
        return step(state, token), token

    return jax.lax.scan(go_on, carry, jnp.arange(length))[1]


def _likeliest(logits: Float[Array, " V"], top_k: Any, top_p: Any) -> Float[Array, " V"]:
    """The logits of the tokens that may be drawn, and -∞ for the others.

    One of the `top_k` likeliest tokens may be drawn if the probabilities of the likelier ones sum to less than `top_p`.
    """
    order = jnp.argsort(-logits)
    among_k = jnp.where(jnp.arange(len(logits)) < top_k, logits[order], -jnp.inf)
    p = jax.nn.softmax(among_k)
    # Rounding may leave a sum that equals top_p a few ulp below it, and must not let in another token.
    almost = top_p * (1 - 8 * jnp.finfo(p.dtype).eps)
    kept = jnp.where(jnp.cumsum(p) - p < almost, among_k, -jnp.inf)
    return jnp.zeros_like(logits).at[order].set(kept)
