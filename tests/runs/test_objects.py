"""Runs with objects of Python that a config cannot hold: their folders, and the fingerprints that bind them."""

import functools
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.experimental import io_callback
from support.tiny import FULL, changed, copy, left, refused

from seqjax import Experiment, Run, Runs, from_equinox, from_flax, sweep
from seqjax.gradients import Truncated
from seqjax.models import RNN, NGram
from seqjax.runs.fingerprint import changed_objects, fingerprints
from seqjax.training.metrics import Metric

TOKENS = FULL.prepare().spec.inputs.size
ONES = np.ones(TOKENS)


class Net(nnx.Module):
    def __init__(self, hidden=4, rate=0.0, activation=nnx.tanh):
        rngs = nnx.Rngs(0)
        self.embed = nnx.Embed(TOKENS, hidden, rngs=rngs)
        self.cell = nnx.SimpleCell(hidden, hidden, activation_fn=activation, rngs=rngs)
        self.drop, self.out = nnx.Dropout(rate, rngs=rngs), nnx.Linear(hidden, TOKENS, rngs=rngs)

    def initialize_carry(self, shape, rngs):
        return self.cell.initialize_carry((self.cell.hidden_features,), rngs)

    def __call__(self, carry, x):
        carry, h = self.cell(carry, self.embed(x))
        return carry, self.out(self.drop(h))


def net(**options):
    """A `Net` with numbers of numpy: JAX would compile a program for each operation with which flax draws them."""
    graph, state = nnx.split(nnx.eval_shape(lambda: Net(**options)))
    rng = np.random.default_rng(0)
    is_float = lambda a: jax.dtypes.issubdtype(a.dtype, np.floating)
    is_key = lambda a: jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key)
    draw = lambda a: rng.normal(size=a.shape) if is_float(a) else np.zeros(a.shape)
    number = lambda a: jax.random.key(0) if is_key(a) else jax.device_put(draw(a).astype(a.dtype))
    return nnx.merge(graph, jax.tree.map(number, state))


class Module(eqx.Module):
    weight: jax.Array
    scale: float = eqx.field(static=True)
    note: object = eqx.field(static=True)
    table: jax.Array = eqx.field(converter=lambda ids: jax.device_put(np.asarray(ids, np.int32)))

    def init_state(self):
        return jnp.zeros(TOKENS)

    def __call__(self, state, x):
        state = jnp.tanh(self.scale * state + self.weight[self.table[x]])
        return state, state


def chain(rate=0.05, norm=1.0, steps=50):
    return optax.chain(optax.clip_by_global_norm(norm), optax.adamw(optax.cosine_decay_schedule(rate, steps)))


def module(scale=0.5, step=1, note=None):
    weight = np.random.default_rng(0).normal(size=(TOKENS, TOKENS)).astype(np.float32)
    return Module(jax.device_put(weight), scale, note, (np.arange(TOKENS) * step) % TOKENS)


def smooth(share=0.1, weights=ONES):
    def loss(output, target):
        logs = jax.nn.log_softmax(output)
        return -(1 - share) * logs[target] - share * (weights * logs).mean()

    return loss


def smooth_in_other_words(alpha=0.1):
    def unlike(o, t):
        logits, ones = jax.nn.log_softmax(o), np.ones(TOKENS)
        return -(1 - alpha) * logits[t] - alpha * (ones * logits).mean()

    return unlike


def straight_with(slope):
    @jax.custom_vjp
    def through(x):
        return jnp.round(x)

    through.defvjp(lambda x: (through(x), None), lambda _, g: (slope * g,))
    return lambda output, target: smooth()(through(output), target)


def straight_from(rounded):
    """Its rules of derivatives are always the same."""

    @jax.custom_vjp
    def through(x):
        return rounded(x)

    through.defvjp(lambda x: (x, None), lambda _, g: (g,))
    return lambda output, target: smooth()(through(output), target)


def called_back(scale, call=jax.pure_callback):
    """A callback, and one in the derivative of a function."""

    def scaled(x):
        return call(lambda x: np.asarray(scale * x), x, x)

    through = jax.custom_jvp(lambda x: x)
    through.defjvp(lambda x, dx: (x[0], scaled(dx[0])))
    return lambda output, target: smooth()(through(output), target)


def called_back_schedule(rates):
    shape = jax.ShapeDtypeStruct((), jnp.float32)
    return optax.sgd(lambda count: jax.pure_callback(lambda n: np.float32(rates[int(n) % 2]), shape, count))


def with_rule(factor):
    one = jax.custom_batching.custom_vmap(lambda x: 2 * x)
    one.def_vmap(lambda size, batched, x: (factor * x, batched[0]))
    return lambda output, target: one(output[target])


def of_library(name):
    return lambda output, target: jax.ffi.ffi_call(name, jax.ShapeDtypeStruct((), jnp.float32))(output)


def within(count=2):
    def top(output, target):
        return (jnp.sort(output)[-count] <= output[target]).astype(float)

    return top


def fields(**objects):
    """The fields of an experiment; a module, or a function that makes one, becomes its model."""
    if "model" in objects and not isinstance(objects["model"], eqx.Module):
        objects["model"] = objects["model"]()
    if isinstance(value := objects.get("model"), nnx.Module | eqx.Module):
        objects["model"] = (from_flax if isinstance(value, nnx.Module) else from_equinox)(value)[0]
    return objects


CHANGED = [
    ({"optimizer": chain()}, {"optimizer": chain(rate=0.051)}),
    ({"optimizer": chain()}, {"optimizer": chain(norm=1.01)}),
    ({"optimizer": chain()}, {"optimizer": chain(steps=51)}),
    ({"optimizer": optax.sgd(0.1)}, {"optimizer": optax.sgd(0.1, momentum=0.9)}),
    ({"optimizer": optax.inject_hyperparams(optax.sgd)(0.1)}, {"optimizer": optax.inject_hyperparams(optax.sgd)(0.2)}),
    ({"model": net}, {"model": functools.partial(net, hidden=5)}),
    ({"model": net}, {"model": functools.partial(net, activation=nnx.relu)}),
    ({"model": functools.partial(net, rate=0.1)}, {"model": functools.partial(net, rate=0.2)}),
    ({"model": module()}, {"model": module(scale=0.6)}),
    ({"model": module()}, {"model": module(step=2)}),
    ({"loss": smooth()}, {"loss": smooth(share=0.11)}),
    ({"loss": smooth()}, {"loss": smooth(weights=np.eye(TOKENS)[0] + 1)}),
    ({"loss": straight_with(1.0)}, {"loss": straight_with(2.0)}),
    ({"loss": straight_from(jnp.round)}, {"loss": straight_from(jnp.ceil)}),
    ({"loss": called_back(0.5)}, {"loss": called_back(0.6)}),
    ({"loss": called_back(0.5, io_callback)}, {"loss": called_back(0.6, io_callback)}),
    ({"optimizer": called_back_schedule([0.1, 0.2])}, {"optimizer": called_back_schedule([0.1, 0.3])}),
    ({"metrics": [with_rule(2)]}, {"metrics": [with_rule(3)]}),
    ({"metrics": [of_library("a")]}, {"metrics": [of_library("b")]}),
    ({"metrics": [within()]}, {"metrics": [within(3)]}),
    ({"metrics": [Metric("top", within())]}, {"metrics": [Metric("top", within(), last=True)]}),
]
SAME = [
    ({"optimizer": chain()}, {"optimizer": chain()}),
    ({"model": functools.partial(net, rate=0.1)}, {"model": functools.partial(net, rate=0.1)}),
    ({"model": module()}, {"model": module()}),
    ({"loss": smooth()}, {"loss": smooth_in_other_words()}),
    ({"loss": smooth()}, {"loss": smooth(weights=jax.device_put(np.float32(ONES)))}),
    ({"metrics": ["accuracy", within()]}, {"metrics": [within()]}),
    ({"loss": straight_with(1.0)}, {"loss": straight_with(1)}),
    ({"loss": called_back(0.5)}, {"loss": called_back(0.5)}),
    ({"optimizer": called_back_schedule([0.1, 0.2])}, {"optimizer": called_back_schedule([0.1, 0.2])}),
    ({"metrics": [with_rule(2)]}, {"metrics": [with_rule(2)]}),
    # The parameters of the module, and the optimizer's state with them, hold functions with other addresses.
    *[
        (
            {"model": module(note=lambda: 0), "optimizer": chain()},
            {"model": module(note=lambda: 0), "optimizer": chain()},
        )
    ],
]


def prints(objects):
    e = changed(FULL, **fields(**objects))
    problem = e.model.problem(FULL.prepare().spec, e.loss)
    return fingerprints(e.objects, problem, e.fit().params_like(problem))


@pytest.mark.parametrize("pair", CHANGED)
def test_a_changed_object_is_found_and_named(pair):
    (found,) = changed_objects(*map(prints, pair))
    assert found.startswith((*pair[0],))


@pytest.mark.parametrize("pair", SAME)
def test_an_equal_object_has_the_same_fingerprint(pair):
    assert changed_objects(*map(prints, pair)) == []


def test_an_object_is_traced_again_when_a_variable_that_it_reads_has_changed():
    rate = [0.1]
    scaled = optax.stateless(lambda grads, params: jax.tree.map(lambda g: -rate[0] * g, grads))
    before = prints({"optimizer": scaled})
    rate[0] = 0.2
    assert len(changed_objects(before, prints({"optimizer": scaled}))) == 1


def test_code_that_is_called_back_with_what_cannot_be_compared_is_refused(tmp_path):
    with (tmp_path / "log").open("w") as file, refused("loss calls back Python code that holds an object of _io", 2):
        prints({"loss": called_back(file)})


OWN = changed(FULL, optimizer=chain(), loss=smooth(), metrics=["accuracy", within()])


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The folder of a run of it."""
    return OWN.run(tmp_path_factory.mktemp("own") / "run").path


def test_the_same_objects_continue_a_run_and_others_are_refused_by_name(own, tmp_path):
    path = tmp_path / "parts"
    changed(OWN, epochs=1).run(path)
    before = left(path)
    for name, other in {
        "optimizer": chain(0.06), "loss": smooth(0.2), "metrics.top": ["accuracy", within(3)],
    }.items():  # fmt: skip
        with refused(f"no file was touched\n.*\n  {name} computes something else", exit_code=2):
            changed(OWN, **{name.partition(".")[0]: other}).run(path)
    assert left(path) == before
    assert left(OWN.run(path).path) == left(own)


def test_a_run_that_is_opened_without_its_objects_says_what_needs_them(own):
    path, run = own, Run.open(own)
    assert len(run.generate("the", 3)) == 6
    assert run.metrics == Run.open(path, loss=OWN.loss).metrics
    with refused(
        rf"does not hold: a loss and a metric\n.*Run.open\('{path}', loss=loss, metrics=metrics\)", exit_code=2
    ):
        run.evaluate()
    with refused("does not hold: an optimizer and a loss and a metric", exit_code=2):
        run.experiment.run()
    given = Run.open(path, loss=smooth_in_other_words(), metrics=OWN.metrics, optimizer=chain())
    assert given.evaluate()["loss"] == pytest.approx(run.metrics[-1]["heldout_loss"])
    assert given.experiment.run().metrics[-1]["train_loss"] == run.metrics[-1]["train_loss"]
    for wrong, value, words in (
        ("loss", smooth(0.2), "loss computes"),
        ("loss", "smooth", "pass a function"),
        ("metrics", ["accuracy"], "the metrics of the run are accuracy, top"),
        ("loss", lambda o: o, "loss cannot be traced"),
        ("model", RNN(), "not made with a model that was given"),
    ):
        with refused(words, exit_code=2):
            Run.open(path, **{wrong: value})
    with refused("only names what was given in Python as: .*optimizer", exit_code=2):
        Experiment.from_toml(OWN.to_toml())


@pytest.mark.parametrize(
    "read", [pytest.param(lambda: from_flax(net()), marks=pytest.mark.slow), lambda: from_equinox(module())]
)
def test_a_model_of_another_library_has_a_folder(tmp_path, read):
    model, params = read()
    e = changed(FULL, model=model, optimizer=chain(), gradient=Truncated(2))
    run = e.run(tmp_path / "run", params=params, progress=True)
    with refused("does not hold: a model", exit_code=2):
        Run.open(run.path).generate("the", 3)
    tuned = changed(e, init_from=str(run.path)).run()
    assert tuned.metrics[0]["train_loss"] < run.metrics[0]["train_loss"]
    opened = Run.open(run.path, model=read()[0], optimizer=chain())
    assert opened.generate("the", 9) == run.generate("the", 9)
    assert jax.tree.structure(opened.params) == jax.tree.structure(params)
    with refused("other initial params", exit_code=2):
        e.run(run.path, params=jax.tree.map(lambda a: np.asarray(a) + np.asarray(1, a.dtype), params))
    with refused("give its model too", exit_code=2):
        Run.open(run.path, optimizer=chain())


def test_under_other_versions_the_structure_alone_is_compared(own, tmp_path, monkeypatch, capsys):
    path = copy(own, tmp_path / "run")
    monkeypatch.setattr("importlib.metadata.version", lambda library: "0.0")
    assert changed(OWN, loss=smooth(0.2)).run(path).finished
    assert re.search(r"only the structure could be compared of loss \(.* → .*\)", capsys.readouterr().out)
    with refused("optimizer has other parameters", exit_code=2):
        changed(OWN, optimizer=optax.sgd(0.1)).run(path)


def test_variants_of_objects_have_the_names_that_a_sweep_gives_or_those_of_folders(tmp_path):
    e, axes = changed(FULL, epochs=1), {"optimizer": {"slow": optax.sgd(0.1), "fast": optax.sgd(0.2)}, "seed": [0, 1]}
    sweep(e, axes, tmp_path)
    assert list(sweep(e, axes, tmp_path).variants) == ["slow", "fast"]
    for seeds in ([0, 1], [0, 1, 2]):
        with refused("optimizer computes", exit_code=2):
            sweep(e, {"optimizer": {"slow": optax.sgd(0.3)}, "seed": seeds}, tmp_path)
    with refused("need names that differ: pass a dict", exit_code=2):
        sweep(e, {"optimizer": [optax.sgd(0.1), optax.sgd(0.2)]})
    fast, other, slow = sorted(tmp_path.glob("*seed*"))[:3]
    assert list(Runs.open(fast, other, slow).variants) == [f"optimizer=optax of {one}" for one in (fast, slow)]
    copied = copy(fast, tmp_path / "copied")
    assert list(Runs.open(fast, copied).variants) == [str(fast), str(copied)]


COUNTED = Experiment(dataset=FULL.dataset, train=380, heldout=48, model=NGram(order=1))
"""An experiment whose loss is evaluated, and not trained."""


def test_variants_of_single_runs_know_equal_objects_by_what_they_compute(tmp_path):
    lossier = smooth_in_other_words()
    kinds = {
        "a": {"loss": smooth()}, "b": {"loss": lossier, "seed": 1}, "c": {"loss": smooth(0.2)},
        "d": {"loss": smooth(), "metrics": [within()]},
    }  # fmt: skip
    for name, fields in kinds.items():
        changed(COUNTED, **fields).run(tmp_path / name)
    a, b, c, d = (tmp_path / name for name in kinds)
    assert list(Runs.open(a, b).variants) == ["all"]
    assert list(Runs.open(a, c).variants) == [f"loss=loss of {one}" for one in (a, c)]
    assert list(Runs.open(a, d).variants) == ["metrics=none", "metrics=top"]
    comparable = [Runs.open(a, other).is_comparable("heldout_loss") for other in (b, c)]
    assert comparable == [True, False]
    assert Runs.open(a, c).compare("heldout_loss").best == {}


def test_seeds_of_a_module_are_one_variant(tmp_path):
    for seed in (0, 1):
        model, params = from_equinox(module())
        changed(FULL, epochs=1, model=model, seed=seed).run(
            tmp_path / f"{seed}",
            params=jax.tree.map(lambda a, seed=seed: np.asarray(a) + np.asarray(seed, a.dtype), params),
        )
    assert list(Runs.open(tmp_path / "0", tmp_path / "1").variants) == ["all"]
