import itertools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from seqjax import Error, Model, Spec, Text, Tokens
from seqjax.generate import generate
from seqjax_models import RNN
from seqjax_tokenizers import Char

CODEC = Char().fit(Text("aaaabbbccd "))
SPEC = Spec(CODEC.spec)


def model_and_weights(seed=0):
    """A network with weights that matter, so that what is read decides what is written."""
    model, rng = RNN(hidden=8), np.random.default_rng(seed)
    params = model.init(jax.random.key(0), SPEC)
    return model, {name: jnp.asarray(rng.normal(size=a.shape), a.dtype) for name, a in params.items()}


@dataclass(frozen=True)
class Fixed(Model):
    """Always the same logits, those in its parameters."""

    def init(self, key, spec):
        return {"logits": jnp.zeros(spec.targets.size)}

    def init_state(self, params, spec, key=None):
        return jnp.zeros(())

    def step(self, params, state, x):
        return state, params["logits"]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("prompt", ["", "a", "abcd dcba"])
def test_greedy_is_the_likeliest_token_step_by_step(seed, prompt):
    """An empty prompt reads token 0, the one that stands for the unknown; no text says `<unk>`."""
    model, params = model_and_weights(seed)
    state, step = model.init_state(params, SPEC), jax.jit(model.step)
    for token in CODEC.encode(prompt) if prompt else [np.int32(0)]:
        state, logits = step(params, state, jnp.asarray(token))
    expected = prompt
    for _ in range(30):
        token = 1 + jnp.argmax(logits[1:]).astype(jnp.int32)
        expected += CODEC.tokens[int(token)]
        state, logits = step(params, state, token)
    assert generate(model, params, CODEC, prompt, 30) == expected
    assert generate(model, params, CODEC, prompt, 30, seed=5) == expected, "nothing is drawn"
    assert len(set(expected)) > 1


def test_the_prompt_decides():
    model, params = model_and_weights()
    assert generate(model, params, CODEC, "a", 20)[1:] != generate(model, params, CODEC, "ad", 20)[2:]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_temperature_draws_from_the_probabilities_to_the_power_of_its_inverse(temperature):
    p = np.array([0.4, 0.3, 0.15, 0.1, 0.04, 0.01])
    params = {"logits": jnp.log(jnp.asarray(p))}
    text = generate(Fixed(), params, CODEC, "a", 20_000, temperature, seed=1)[1:]
    q = p ** (1 / temperature)
    q[0] = 0  # the unknown, likeliest of all, is never written
    q /= q.sum()
    counts = np.bincount(CODEC.encode(text), minlength=len(p))
    assert counts[0] == 0
    # chi-square with 4 degrees of freedom: 18.5 is its 99.9th percentile
    assert ((counts[1:] - 20_000 * q[1:]) ** 2 / (20_000 * q[1:])).sum() < 18.5
    # and the draws are independent of each other: q_i q_j of the neighbours are the pair (i, j)
    same = np.mean([a == b for a, b in itertools.pairwise(text)])
    assert same == pytest.approx((q**2).sum(), abs=0.02)


def test_a_low_temperature_is_greedy():
    model, params = model_and_weights()
    greedy = generate(model, params, CODEC, "ab", 40)
    for temperature in (1e-3, 1e-30, 1e-44):
        assert generate(model, params, CODEC, "ab", 40, temperature) == greedy


def test_the_seed_decides_what_is_drawn():
    model, params = model_and_weights()
    texts = [generate(model, params, CODEC, "ab", 40, 1.0, seed) for seed in (0, 0, 1, 2**32 - 1)]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


def test_a_longer_text_begins_like_the_shorter_one():
    model, params = model_and_weights()
    assert generate(model, params, CODEC, "ab", 40, 1.0).startswith(generate(model, params, CODEC, "ab", 7, 1.0))


@pytest.mark.parametrize("prompt", ["", "abc"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_length_0_adds_nothing(prompt, temperature):
    assert generate(*model_and_weights(), CODEC, prompt, 0, temperature) == prompt


def test_unknown_symbols_of_a_prompt_are_listed_once_each():
    with pytest.raises(Error, match="not in the vocabulary") as caught:
        generate(*model_and_weights(), CODEC, "aXbX\n\u00e9c\x1b", 5)
    assert caught.value.exit_code == 2
    assert "'X' '\\n' 'é' '\\x1b'" in str(caught.value)


@pytest.mark.parametrize(
    ("length", "temperature", "seed"),
    [(-1, 0.0, 0), (5, -0.1, 0), (5, float("nan"), 0), (5, float("inf"), 0), (5, 1.0, -1), (5, 1.0, 2**64)],
)
def test_an_argument_out_of_range_is_an_error_that_shows_it(length, temperature, seed):
    with pytest.raises(Error) as caught:
        generate(*model_and_weights(), CODEC, "a", length, temperature, seed)
    assert caught.value.exit_code == 2
    for name, value in (("length", length), ("temperature", temperature), ("seed", seed)):
        assert f"{name} = {value}" in str(caught.value)


def test_a_vocabulary_of_one_symbol_writes_it():
    codec = Char().fit(Text("xx"))
    params = {"logits": jnp.zeros(2)}
    for temperature in (0.0, 1.0):
        assert generate(Fixed(), params, codec, "", 5, temperature) == "xxxxx"
    assert codec.spec == Tokens(2)
