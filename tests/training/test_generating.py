import functools
import importlib
import itertools
import logging
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.drawn import drawn_params

from seqjax import Error, Experiment, Model, Run, Spec, Text
from seqjax.models import GRU, RNN
from seqjax.testing.quick_jit import quick_jit
from seqjax.tokenizers import BPE, Char, Word
from seqjax.training.generating import STEPS, _likeliest, generate

CODEC = Char().fit(Text("aaaabbbccd "))
SPEC = Spec(CODEC.spec)


def model_and_weights(seed=0):
    """A network with random weights, so that its continuation depends on the prompt."""
    return RNN(hidden=8), drawn_params(RNN(hidden=8), SPEC, scale=1, seed=seed)


@dataclass(frozen=True)
class Fixed(Model):
    """A model that always gives the same logits, which are its parameters."""

    def init(self, key, spec):
        return {"logits": jnp.zeros(spec.targets.size)}

    def init_state(self, params, spec, key=None):
        return jnp.zeros(())

    def step(self, params, state, x):
        return state, params["logits"]


@functools.cache
def compiled():
    """The initial state and the step of that network."""
    model, params = model_and_weights(seed=3)
    params = jax.device_put(params)
    return quick_jit(lambda: model.init_state(params, SPEC)), quick_jit(functools.partial(model.step, params))


@pytest.mark.parametrize("prompt", ["", "abc", "abcd", "abcda"])
def test_greedy_is_the_likeliest_token_step_by_step(prompt):
    """An empty prompt is read as token 0, which is `<unk>`; `<unk>` itself is never chosen.

    Prompts of 3, 4 and 5 tokens are padded to powers of two, and the padding is not read.
    """
    model, params = model_and_weights(seed=3)
    start, step = compiled()
    state = start()
    for token in CODEC.encode(prompt) if prompt else [np.int32(0)]:
        state, logits = step(state, token)
    expected = prompt
    for _ in range(30):
        token = np.int32(1 + np.argmax(np.asarray(logits)[1:]))
        expected += CODEC.tokens[token]
        state, logits = step(state, token)
    assert generate(model, params, CODEC, prompt, 30) == expected
    assert generate(model, params, CODEC, prompt, 30, seed=5) == expected, "nothing is drawn"
    assert len(set(expected[len(prompt) :])) > 1


P = np.array([0.4, 0.3, 0.15, 0.1, 0.04, 0.01])
UNKNOWN_FIRST = {"logits": np.log(P.astype(np.float32))}
"""The parameters of `Fixed` with which `<unk>` is the likeliest token."""


@pytest.mark.parametrize(
    ("temperature", "limit"), [(0.5, {}), (1.0, {"top_p": 0.8}), (2.0, {"top_k": 4, "top_p": 0.7})], ids=str
)
def test_tokens_are_drawn_from_the_probabilities_to_the_power_of_the_inverse_temperature(temperature, limit):
    """From the likeliest of them, if there is a limit; `<unk>` is never chosen."""
    text = generate(Fixed(), UNKNOWN_FIRST, CODEC, "a", 20_000, temperature, seed=2, **limit)[1:]
    q = P ** (1 / temperature)
    q[0] = 0
    q = likeliest_by_enumeration(q / q.sum(), limit.get("top_k", 6), limit.get("top_p", 1.0))
    counts, kept = np.bincount(CODEC.encode(text), minlength=len(P)), q > 0
    assert counts[~kept].sum() == 0
    assert kept.sum() == 5 if not limit else 1 < kept.sum() < 5
    # chi-square with at most 4 degrees of freedom: 18.5 is its 99.9th percentile
    assert ((counts[kept] - 20_000 * q[kept]) ** 2 / (20_000 * q[kept])).sum() < 18.5
    # neighbouring draws are independent: the pair (i, j) has the probability q_i q_j
    assert np.mean([a == b for a, b in itertools.pairwise(text)]) == pytest.approx((q**2).sum(), abs=0.02)


@pytest.mark.parametrize("limit", [{"top_k": 1}, {"top_p": 1e-6}], ids=str)
def test_a_choice_among_one_is_greedy(limit):
    model, params = model_and_weights()
    greedy = generate(model, params, CODEC, "ab", 40)
    assert generate(model, params, CODEC, "ab", 40, 2.0, seed=1, **limit) == greedy
    assert generate(model, params, CODEC, "ab", 40, 2.0, seed=1) != greedy


@pytest.mark.parametrize("limit", [{"top_k": 6}, {"top_k": 100}, {"top_p": 1.0}], ids=str)
def test_a_limit_that_leaves_all_changes_nothing(limit):
    model, params = model_and_weights()
    free = generate(model, params, CODEC, "ab", 60, 1.5, seed=3)
    assert generate(model, params, CODEC, "ab", 60, 1.5, seed=3, **limit) == free


def likeliest_by_enumeration(p, top_k, top_p):
    """The renormalised probabilities of the smallest set of the k likeliest tokens whose sum is at least p.

    Of all sets of one size the one with the largest sum is taken; no two probabilities are equal.
    """
    order = sorted(range(len(p)), key=lambda i: -p[i])[:top_k]
    q = {i: p[i] / sum(p[j] for j in order) for i in order}
    for size in range(1, len(order) + 1):
        best = max(itertools.combinations(order, size), key=lambda kept: sum(q[i] for i in kept))
        if sum(q[i] for i in best) >= top_p:
            break
    return np.array([q[i] / sum(q[j] for j in best) if i in best else 0.0 for i in range(len(p))])


of_logits = jax.jit(jax.vmap(_likeliest, (0, None, None)))
of_limits = jax.jit(jax.vmap(_likeliest, (None, None, 0)))


@pytest.mark.parametrize(("top_k", "top_p"), [(6, 0.7), (3, 1.0), (2, 0.3), (4, 0.95)])
def test_the_choice_among_the_likeliest_equals_enumeration(x64, top_k, top_p):
    ps = np.random.default_rng(0).dirichlet(np.full(6, 0.7), 40)
    found = np.exp(of_logits(np.log(ps) + 5.0, top_k, top_p))
    found /= found.sum(1, keepdims=True)
    np.testing.assert_allclose(found, [likeliest_by_enumeration(p, top_k, top_p) for p in ps], atol=1e-12)


@pytest.mark.parametrize(
    "p", [(0.3, 0.1, 0.1, 0.5), (0.2, 0.4, 0.1, 0.3), (0.07, 0.33, 0.25, 0.35), (0.125, 0.5, 0.25, 0.125)], ids=str
)
def test_a_sum_that_equals_top_p_up_to_rounding_is_enough(p):
    """In float32 .5 + .3 is below .8, and must not let in a third token."""
    sums = np.cumsum(np.sort(p)[::-1])
    limits = np.round(np.concatenate([sums, sums[:3] + 0.01]), 9).astype(np.float32)
    kept = np.isfinite(of_limits(np.log(np.array(p, np.float32)), 4, limits)).sum(1)
    assert kept.tolist() == [1, 2, 3, 4, 2, 3, 4]


def test_without_top_p_the_tail_of_a_confident_model_is_drawn():
    """In bfloat16 the likeliest token alone has a rounded probability of 1."""
    params = {"logits": np.log([1e-9, 0.998, 0.001, 0.001, 1e-9, 1e-9]).astype(jnp.bfloat16)}
    assert np.asarray(quick_jit(jax.nn.softmax)(params["logits"]))[1] == 1
    for options in ({}, {"top_k": 5}, {"top_p": 1.0}):
        assert set("bc") & set(generate(Fixed(), params, CODEC, "a", 20_000, 1.0, **options))
    assert set(generate(Fixed(), params, CODEC, "a", 20_000, 1.0, top_p=0.9)) == {"a"}


@pytest.mark.parametrize("options", [{}, {"temperature": 5.0}, {"temperature": 1.0, "top_k": 1}], ids=str)
def test_unk_is_chosen_only_on_request(options):
    text = generate(Fixed(), UNKNOWN_FIRST, CODEC, "a", 300, **options)
    assert len(text) == 301
    assert set(text) <= set("abcd ")
    asked = generate(Fixed(), UNKNOWN_FIRST, CODEC, "a", 300, unknown=True, **options)
    assert "<unk>" in asked
    assert len(asked.replace("<unk>", "?")) == 301


def test_words_are_joined_by_spaces():
    """The prompt is shown as the tokenizer reads it, and every token adds a word."""
    codec = Word().fit(Text("the cat sat on the mat"))
    assert codec.tokens == ("<unk>", "the", "cat", "sat", "on", "mat")
    params = {"logits": np.arange(6, dtype=np.float32)}
    assert generate(Fixed(), params, codec, "The  CAT,", 3) == "the cat mat mat mat"
    with pytest.raises(Error, match="'dog'"):
        generate(Fixed(), params, codec, "the dog", 3)
    assert generate(Fixed(), params, codec, "the dog", 1, unknown=True) == "the <unk> mat"


def test_a_codec_without_unk_takes_every_prompt():
    """Byte pairs: all ids of the prompt are read, and all tokens may be chosen."""
    codec = BPE(vocab_size=260).fit(Text("abababab"))
    (a,) = codec.encode("a").tolist()
    one_hot = np.eye(len(codec), dtype=np.float32)
    params = {"logits": one_hot[a]}
    assert generate(Fixed(), params, codec, "€?", 3) == "€?aaa"
    params = {"logits": one_hot[0]}
    assert generate(Fixed(), params, codec, "", 2) == 2 * codec.decode([0])


def test_a_list_of_prompts_gives_a_list_of_texts():
    model, params = model_and_weights()
    run = Run(Experiment(dataset=Text("abcd "), model=model), CODEC, SPEC, params)
    prompts = ["a", "", "abcda", "a"]
    for options in ({}, {"temperature": 1.5, "seed": 3, "top_k": 4}):
        one_by_one = [generate(model, params, CODEC, prompt, 9, **options) for prompt in prompts]
        assert run.generate(prompts, 9, **options) == one_by_one
        assert run.generate("abcda", 9, **options) == one_by_one[2]
    assert run.generate([], 9) == []
    with pytest.raises(Error, match="'X'"):
        run.generate(["a", "X"], 9)


def test_the_draws_depend_on_the_seed():
    model, params = model_and_weights()
    texts = [generate(model, params, CODEC, "ab", 40, 1.0, seed=seed) for seed in (0, 0, 1, 2**32 - 1)]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


def test_one_program_serves_all_lengths_and_temperatures(caplog):
    """The second call compiles nothing. Lengths are on both sides of the tokens of one call. Trained parameters are
    committed to a device."""
    model, params = model_and_weights()
    params = jax.device_put(params, jax.devices()[-1])
    generate(model, params, CODEC, "ab", 1, 0.5)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        texts = [
            generate(model, params, CODEC, "ab" * n, length, temperature)
            for n, length, temperature in [(1, 5, 0.0), (50, 200, 0.5), (STEPS // 2, STEPS, 1.0)]
        ]
    assert [len(text) for text in texts] == [7, 300, 2 * STEPS]
    assert not [message for message in caplog.messages if "Compiling" in message and "_go_on" in message]


def test_a_text_does_not_depend_on_how_it_is_cut_into_calls(monkeypatch):
    module = importlib.import_module("seqjax.training.generating")
    expected = generate(*model_and_weights(), CODEC, "abba", 100, 0.9, seed=3)
    assert expected.startswith(generate(*model_and_weights(), CODEC, "abba", 7, 0.9, seed=3)), "of a shorter text"
    monkeypatch.setattr(module, "STEPS", 7)
    assert generate(*model_and_weights(), CODEC, "abba", 100, 0.9, seed=3) == expected


def test_length_0_adds_nothing():
    for prompt, temperature in itertools.product(["", "abc"], [0.0, 1.0]):
        assert generate(*model_and_weights(), CODEC, prompt, 0, temperature) == prompt


def test_unknown_characters_of_a_prompt_are_listed_once_each():
    with pytest.raises(Error, match="not in the vocabulary") as caught:
        generate(*model_and_weights(), CODEC, "aXbX\n\u00e9c\x1b", 5)
    assert caught.value.exit_code == 2
    assert "'X' '\\n' 'é' '\\x1b'" in str(caught.value)


WRONG = {
    "prompt": [None, 3],
    "length": [-1, True, 2.0],
    "temperature": [-0.1, float("nan"), float("inf"), None, True],
    "seed": [-1, 2**32, 1.5],
    "top_k": [0, 2.5, True],
    "top_p": [0.0, 1.01, float("nan"), "all"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_an_argument_out_of_range_is_an_error_that_shows_it(name, value):
    arguments = {"prompt": "a", "length": 5, "temperature": 1.0}
    with pytest.raises(Error) as caught:
        generate(*model_and_weights(), CODEC, **arguments | {name: value})
    assert caught.value.exit_code == 2
    assert [problem.partition(" must")[0] for problem in caught.value.problems] == [f"{name} = {value!r}"]


def test_a_run_refuses_a_prompt_that_is_not_a_text():
    model, params = model_and_weights()
    run = Run(Experiment(model=model), CODEC, Spec(CODEC.spec), params)
    for prompt in (None, 3, b"ab", ["ab", None]):
        with pytest.raises(Error, match=r"prompt = .* must be a text"):
            run.generate(prompt)


@pytest.mark.parametrize(
    ("options", "only"),
    [
        ({"temperature": 10**400}, None),
        ({"temperature": 1.0, "top_k": 2**40}, None),
        ({"temperature": 1.0, "top_p": 1e-46}, "b"),
        ({"temperature": 1e-300}, "b"),
    ],
    ids=str,
)
def test_numbers_that_float32_cannot_hold(options, only):
    params = {"logits": np.array([token == "b" for token in CODEC.tokens], np.float32)}
    text = generate(Fixed(), params, CODEC, "", 60, **options)
    assert set(text) == set(only or "abcd ")


def test_parameters_of_another_model_are_named():
    _, params = model_and_weights()
    with pytest.raises(Error, match="the parameters do not fit the model gru hidden=8 with Tokens") as caught:
        generate(GRU(hidden=8), params, CODEC, "a", 3)
    assert caught.value.problems[0] == "layer_0/W_hh: it has float32[8, 8], and needs float32[8, 24]"


def test_an_exception_of_a_model_with_its_own_parameters_is_not_explained_by_them():
    @dataclass(frozen=True)
    class Broken(Fixed):
        def step(self, params, state, x):
            raise TypeError("mine")

    with pytest.raises(TypeError, match="mine"):
        generate(Broken(), {"logits": np.zeros(6, np.float32)}, CODEC, "a", 3)
