"""Continuing a sequence of tokens."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from seqjax.data.spec import Spec
from seqjax.data.tokenizer import UNKNOWN, TextCodec
from seqjax.errors import Error, is_whole
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
    """The prompt and its continuation by `length` tokens.

    The model reads the prompt, then each token that it has chosen. An empty prompt is read as token 0, whatever that
    is, and is not part of the result. The same arguments give the same text.

    Args:
        model: a model of tokens.
        params: its parameters.
        codec: between text and ids.
        prompt: how the text begins.
        length: number of tokens to add.
        temperature: 0 chooses the likeliest token; else token i with probability ∝ p_i^(1/temperature).
        top_k: only among the k likeliest; None: among all.
        top_p: only among the fewest likeliest whose probabilities sum to at least p; None: among all.
        seed: of the choice.
        unknown: whether `<unk>` may be chosen, and may stand in a prompt for what is not in the vocabulary.

    Raises:
        Error: the prompt has symbols that are not in the vocabulary, or an argument is of another type or out of range.
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
    padded = np.pad(read, (0, 2 ** math.ceil(math.log2(len(read))) - len(read)))  # one compilation for many lengths
    key = None if temperature == 0 else jax.random.key(seed)
    limits = (len(codec) if top_k is None else top_k, 1.0 if top_p is None else top_p)
    added = _continue(model, Spec(codec.spec), length, params, padded, len(read), allowed, key, temperature, limits)
    return codec.decode(np.concatenate([ids, added]))


def _check(prompt, length, temperature, top_k, top_p, seed):
    """Raises an `Error` with all that is wrong."""
    ranges = {
        f"prompt = {prompt!r:.80} must be a text": isinstance(prompt, str),
        f"length = {length!r} must be a whole number, at least 0": is_whole(length) and length >= 0,
        f"temperature = {temperature!r} must be a number, at least 0, and finite": (
            _is_number(temperature) and 0 <= temperature < math.inf
        ),
        f"top_k = {top_k!r} must be a whole number, at least 1": top_k is None or (is_whole(top_k) and top_k >= 1),
        f"top_p = {top_p!r} must be a number in (0, 1]": top_p is None or (_is_number(top_p) and 0 < top_p <= 1),
        f"seed = {seed!r} must be a whole number, at least 0, and below 2^32": is_whole(seed) and 0 <= seed < 2**32,
    }
    problems = [problem for problem, good in ranges.items() if not good]
    if problems:
        raise Error("generate:", problems=problems)


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
    """Reads the first `count` ids, then chooses `length` more."""
    step = functools.partial(model.step, params)

    def read(carry, inputs):
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
    """The logits, with -∞ for all but the `top_k` likeliest, and of those but the fewest that sum to `top_p`."""
    order = jnp.argsort(-logits)
    among_k = jnp.where(jnp.arange(len(logits)) < top_k, logits[order], -jnp.inf)
    p = jax.nn.softmax(among_k)
    kept = jnp.where(jnp.cumsum(p) - p < top_p, among_k, -jnp.inf)
    return jnp.zeros_like(logits).at[order].set(kept)
