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
from seqjax.errors import Error, check_all, check_type, is_whole
from seqjax.gradients.contract.problem import Params
from seqjax.models.check import fitting
from seqjax.models.model import Model

STEPS = 64
"""Tokens that one call of the compiled program reads or chooses."""
HOTTEST = 1e30
"""The temperature from which on all tokens are equally likely; float32 cannot hold all higher ones."""


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

    >>> import seqjax as sj
    >>> from seqjax.data import Stream
    >>> from seqjax.models import NGram
    >>> from seqjax.tokenizers import Char
    >>> text = sj.Text("abc" * 40)
    >>> vocab = Char().fit(text)
    >>> ids = vocab.encode(text.text)
    >>> model = NGram(order=2)
    >>> params = model.count(Stream(ids[:-1], ids[1:], bounds=[0, 119]), sj.Spec(vocab.spec))
    >>> sj.generate(model, params, vocab, "ab", 7)
    'abcabcabc'

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
        Error: the prompt has tokens that are not in the vocabulary; an argument has a wrong type or is out of range;
            the parameters do not fit the model.
    """
    check_type("generate: model", model, Model, "a model, such as run.experiment.model")
    check_type("generate: codec", codec, TextCodec, "the codec of a text, such as run.codec")
    _check(prompt, length, temperature, top_k, top_p, seed, unknown)
    ids = np.asarray(codec.encode(prompt), np.int32)
    allowed = np.array([unknown or token != UNKNOWN for token in codec.tokens])
    strange = dict.fromkeys(token for token, i in zip(codec.split(prompt), ids, strict=True) if not allowed[i])
    if strange:
        raise Error(f"prompt: not in the vocabulary of this run: {' '.join(map(repr, strange))}; leave them out")
    if length == 0:
        return prompt
    read = ids if len(ids) else np.zeros(1, np.int32)
    # The limit ∞ keeps all tokens. A limit of 1 would not, because rounded sums may reach 1 before the last token.
    limits = (len(codec) if top_k is None else min(top_k, len(codec)), math.inf if top_p in (None, 1) else top_p)
    options = (len(read), allowed, jax.random.key(seed), float(min(temperature, HOTTEST)), limits)
    spec, pieces = Spec(codec.spec), []
    with fitting(model.problem(spec), params):
        carry = _begin(model, spec, params)
        for first in range(0, len(read) + length, STEPS):
            given = read[first : first + STEPS]
            carry, tokens = _go_on(model, params, carry, first, np.pad(given, (0, STEPS - len(given))), *options)
            pieces.append(tokens)
    added = np.concatenate(jax.device_get(pieces))[len(read) : len(read) + length]
    return codec.decode(np.concatenate([ids, added]))


def _check(prompt: object, length: Any, temperature: Any, top_k: Any, top_p: Any, seed: Any, unknown: object) -> None:
    """Raises an `Error` with all faults of the arguments."""
    check_all(
        "generate:",
        {
            f"prompt = {prompt!r:.80} must be a text": isinstance(prompt, str),
            f"length = {length!r:.80} must be a whole number, at least 0, and below 2^31": (
                is_whole(length) and 0 <= length < 2**31
            ),
            f"temperature = {temperature!r} must be a number, at least 0, and finite": (
                _is_number(temperature) and 0 <= temperature < math.inf
            ),
            f"top_k = {top_k!r} must be a whole number, at least 1": top_k is None or (is_whole(top_k) and top_k >= 1),
            f"top_p = {top_p!r} must be a number in (0, 1]": top_p is None or (_is_number(top_p) and 0 < top_p <= 1),
            f"seed = {seed!r} must be a whole number, at least 0, and below 2^32": is_whole(seed) and 0 <= seed < 2**32,
            f"unknown = {unknown!r:.80} must be True or False": isinstance(unknown, bool),
        },
    )


def _is_number(value: object) -> bool:
    return is_whole(value) or isinstance(value, float | np.floating)


# With `keep_unused`, the result is on the devices of the parameters, like that of `_go_on`: one program takes both.
@functools.partial(jax.jit, static_argnums=(0, 1), keep_unused=True)
def _begin(model: Model, spec: Spec, params: Params) -> tuple[Any, Float[Array, " V"]]:
    """The state of the model before its first token, and logits that are never used."""
    state = model.init_state(params, spec)
    logits = jax.eval_shape(model.step, params, state, jnp.zeros((), jnp.int32))[1]
    return state, jnp.zeros(logits.shape, logits.dtype)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _go_on(
    model: Model,
    params: Params,
    carry: tuple[Any, Float[Array, " V"]],
    first: Any,
    given: Int[Array, " STEPS"],
    count: Any,
    allowed: Bool[Array, " V"],
    key: jax.Array,
    temperature: Any,
    limits: tuple[Any, Any],
) -> tuple[tuple[Any, Float[Array, " V"]], Int[Array, " STEPS"]]:
    """`STEPS` tokens from step `first` on, which the model reads: first the `count` given ones, then chosen ones.

    One program serves prompts and continuations of all lengths.

    Args:
        model: the model.
        params: its parameters.
        carry: the state of the model, and the logits of the next token.
        first: the number of tokens before these.
        given: the given tokens among these.
        count: the number of all given tokens.
        allowed: the tokens that may be chosen.
        key: chosen token i draws from `fold_in(key, i)`.
        temperature: 0 chooses the likeliest token.
        limits: `top_k` and `top_p`.
    """

    def choose(logits, i):
        logits = jnp.where(allowed, logits, -jnp.inf)

        def draw():
            likely = _likeliest(logits / jnp.maximum(temperature, 1e-30), *limits)
            return jax.random.categorical(jax.random.fold_in(key, i), likely)

        return jax.lax.cond(temperature == 0, lambda: jnp.argmax(logits), draw).astype(jnp.int32)

    def body(carry, i):
        state, logits = carry
        step = first + i
        token = jax.lax.cond(step < count, lambda: given[i], lambda: choose(logits, step - count))
        return model.step(params, state, token), token

    return jax.lax.scan(body, carry, jnp.arange(STEPS))


def _likeliest(logits: Float[Array, " V"], top_k: Any, top_p: Any) -> Float[Array, " V"]:
    """The logits of the tokens that may be drawn, and -∞ for the others.

    One of the `top_k` likeliest tokens may be drawn if the probabilities of the likelier ones sum to less than `top_p`.
    """
    order = jnp.argsort(-logits)
    among_k = jnp.where(jnp.arange(len(logits)) < top_k, logits[order], -jnp.inf)
    p = jax.nn.softmax(among_k)
    # Rounding may leave a sum that equals top_p a few ulp below it, and must not let in another token.
    almost = top_p * (1 - 8 * jnp.finfo(p.dtype).eps)
    # The likeliest token may be drawn in any case, also where `almost` is rounded to zero.
    kept = jnp.where((jnp.cumsum(p) - p < almost).at[0].set(True), among_k, -jnp.inf)
    return jnp.zeros_like(logits).at[order].set(kept)
