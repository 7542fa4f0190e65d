"""Configs as Python objects, as TOML and as flags of the command line."""

import os
import tomllib
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Literal

import pytest
from annotated_types import Interval
from support.shell import call

from seqjax import Error, Experiment, Model, create
from seqjax.datasets import PythonDocs, TextFile, TimeMachine
from seqjax.gradients import Full, Randomized, Truncated
from seqjax.models import RNN
from seqjax.optimizers import SGD, Adam
from seqjax.plugin import registry
from seqjax.plugin.config import from_toml, parse, to_toml
from seqjax.plugin.registry import register
from seqjax.samplers import Random, Sequential
from seqjax.tokenizers import Char

DEFAULT = Experiment()


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    """Keeps the number of devices of the test session."""
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", str(os.cpu_count()))


def resolved(*argv) -> Experiment:
    """What `seqjax run ARGV` would train."""
    done = call("run", *argv, "--print-config")
    assert done.returncode == 0, done.stderr
    return Experiment.from_toml(done.stdout)


EXPERIMENTS = [
    DEFAULT,
    Experiment(
        dataset=TimeMachine(form="lines"),
        train=10_000,
        heldout=0,
        tokenizer=Char(),
        sampler=Random(batch_size=3, num_steps=7),
        model=RNN(hidden=5),
        gradient=Truncated(steps=4),
        optimizer=Adam(learning_rate=1e-5, b1=0.0, eps=1e-12, clip_norm=3.0),
        epochs=2,
        seed=2**32 - 1,
        evaluate_every=3,
    ),
    Experiment(
        dataset=TextFile(path='a "quoted"\\path\nand tüñ 🎉\t', errors="replace"),
        train=1.0,
        heldout=0.0,
        gradient=Randomized(keep_prob=(1.0, 0.5, 0.1 + 0.2)),
        optimizer=SGD(),  # a table without clip_norm must not take that of the default experiment
    ),
]


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=range(len(EXPERIMENTS)))
def test_toml_round_trip(experiment):
    text = experiment.to_toml()
    assert Experiment.from_toml(text) == experiment
    assert Experiment.from_toml(text).to_toml() == text
    types = {key: type(value) for key, value in vars(experiment).items()}
    assert {key: type(value) for key, value in vars(Experiment.from_toml(text)).items()} == types
    for kind, table in tomllib.loads(text).items():
        if kind in registry.GROUPS:
            assert table["plugin"] == f"seqjax/{registry.entry_of(getattr(experiment, kind)).name}"


def test_the_default_experiment_is_the_demo():
    written = Experiment(
        dataset=PythonDocs(), train=0.9, heldout=0.1, tokenizer=None, sampler=Sequential(batch_size=32, num_steps=35),
        model=RNN(hidden=256), gradient=Full(), optimizer=SGD(learning_rate=1.0, clip_norm=1.0), epochs=20, seed=0,
        evaluate_every=1,
    )  # fmt: skip
    assert written == Experiment.from_toml("") == resolved() == DEFAULT


@pytest.mark.parametrize(
    ("toml", "changed"),
    [
        ("[model]\nhidden = 3", {"model": RNN(3)}),
        ('[optimizer]\nplugin = "sgd"', {"optimizer": SGD()}),
        ('[optimizer]\nplugin = "seqjax/sgd"\nclip_norm = 5', {"optimizer": SGD(clip_norm=5.0)}),
        ('[tokenizer]\nplugin = "char"', {"tokenizer": Char()}),
        ('[gradient]\nplugin = "randomized"\nkeep_prob = [1, 0.5]', {"gradient": Randomized((1.0, 0.5))}),
    ],
)
def test_a_table_without_plugin_changes_fields_and_one_with_it_replaces(toml, changed, tmp_path):
    expected = replace(DEFAULT, **changed)
    assert Experiment.from_toml(toml) == expected
    (tmp_path / "c.toml").write_text(toml)
    assert resolved("--config", tmp_path / "c.toml") == expected


FAULTS = {
    "epochs = 0": ("epochs = 0", "int >= 1"),
    "seed = true": ("seed = True", "int in"),
    "heldout = 1.0": ("heldout = 1.0", "int >= 0 or float in [0, 1)"),
    "evaluate_every = 2.0": ("evaluate_every = 2.0", "int >= 1"),
    "epoch = 3": ("epoch: Experiment has no such field; did you mean 'epochs'",),
    '[dataset]\nplugin = "text-file"\nerrors = "ignore"': ("[dataset] errors = 'ignore'", "'strict' or 'replace'"),
    '[tokenizer]\nplugin = "chat"': ("[tokenizer] unknown tokenizer 'chat'; did you mean 'char'",),
    "[sampler]\nbatch_size = -1\nnum_stps = 3": (
        *("[sampler] batch_size = -1", "int >= 1"),
        "[sampler] num_stps: Sequential has no such field; did you mean 'num_steps'",
    ),
    '[model]\nplugin = "rnn"\nhidden = "x"': ("[model] hidden = 'x'", "int >= 1"),
    '[gradient]\nplugin = "truncated"\nstep = 3': ("[gradient] step: Truncated has no such field", "'steps'"),
    "[optimizer]\nclip_norm = {a = 1}": ("[optimizer]", "clip_norm"),
}


def test_faults_of_all_tables_and_scalars_are_reported_together():
    with pytest.raises(Error) as caught:
        Experiment.from_toml("\n".join(FAULTS))
    # The table of the sampler has two faults, and the path of the text file is missing.
    assert len(caught.value.problems) == len(FAULTS) + 2, caught.value
    assert "[dataset] path: missing; must be a string" in caught.value.problems
    for words in FAULTS.values():
        for word in words:
            assert word in str(caught.value)


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ('model = "rnn"', ("[model]", "table", "plugin = ")),
        ("[model]\nplugin = 3", ("[model]", "plugin", "rnn")),
        ("[[model]]\nhidden = 3", ("[model]", "table")),
        ("[tokenizer]\nmin_freq = 3", ("[tokenizer]", "plugin", "char")),
        ("epochs = 2024-01-01", ("epochs = ", "int")),
        ('[dataset]\nplugin = "os:system"', ("unknown dataset 'os:system'",)),
    ],
)
def test_a_value_that_is_not_a_table(toml, words):
    with pytest.raises(Error) as caught:
        Experiment.from_toml(toml)
    for word in words:
        assert word in str(caught.value)


@pytest.fixture
def stacked():
    """A model made of models, as a third party may write one."""

    @register("model", "stacked")
    @dataclass(frozen=True)
    class Stacked(Model):
        """A model on top of another."""

        inner: Model = field(default_factory=lambda: create("model", "rnn", hidden=4))
        """The lower one."""
        outer: Model | None = None
        """The upper one."""
        name: str = "s"
        weights: tuple[Annotated[float, Interval(ge=0)], ...] = field(default_factory=tuple)

    yield Stacked
    del registry._registered["model", "local/stacked"]


def test_nested_plugins_round_trip(stacked):
    experiment = Experiment(model=stacked(RNN(3), stacked(RNN(7), name="t"), weights=[1, 2]))
    text = experiment.to_toml()
    assert Experiment.from_toml(text) == experiment
    table = tomllib.loads(text)["model"]
    assert table["plugin"] == table["outer"]["plugin"] == "local/stacked"
    inner = table["outer"]["inner"]
    assert (inner.pop("plugin"), inner["hidden"]) == ("seqjax/rnn", 7)
    assert set(inner) == {f.name for f in fields(RNN) if getattr(RNN(7), f.name) is not None}
    assert create("model", "stacked", inner={"plugin": "rnn", "hidden": 3}) == stacked(RNN(3))


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ('[model.inner]\nplugin = "rnn"\nhiden = 3', ("hiden: RNN has no such field", "'hidden'")),
        ("[model.inner]\nhidden = 3", ("plugin",)),  # not the default experiment's model
        ('inner = "rnn"', ("inner = 'rnn'", "a model")),
        ('[model.outer]\nplugin = "stacked"\n[model.outer.inner]\nplugin = "rnn"\nhidden = 0', ("hidden = 0",)),
        ("[model.outre]\nx = 1", ("outre", "'outer'")),
    ],
)
def test_faults_of_nested_tables_are_reported_with_the_others(stacked, table, words):
    with pytest.raises(Error) as caught:
        Experiment.from_toml(f'epochs = 0\n[model]\nplugin = "stacked"\nweights = [-1]\n{table}')
    for word in (*words, "[model]", "epochs = 0", "weights = (-1,)"):
        assert word in str(caught.value)


@pytest.mark.parametrize("argv", [["list", "model", "stacked"], ["run", "--model", "stacked", "--help"]])
def test_a_plugin_as_default_is_shown(stacked, argv):
    done = call(*argv)
    assert done.returncode == 0, done.stderr
    assert "hidden" in done.stdout.replace("--model.hidden", "")


Share = Annotated[float, Interval(gt=0, le=1)]


READ = [
    (int, {"3": 3, "-3": -3, "3.0": "3.0", "x": "x"}),
    (float, {"3": 3.0, "1e-3": 1e-3, "": ""}),
    (str, {"3": "3", "none": "none", "a,b": "a,b"}),
    (bool, {"true": True, "False": False, "1": "1", "yes": "yes"}),
    (int | float, {"1": 1, "1.0": 1.0, "1e2": 100.0, "1E2": 100.0}),
    (Annotated[int, Interval(ge=2)] | Share, {"1": 1, "1.": 1.0}),
    (str | None, {"none": None, "nonesuch": "nonesuch"}),
    (Literal["a", "b"], {"b": "b", "c": "c"}),
    (Literal[1, 2], {"2": 2}),
    (tuple[float, ...], {"1,0.5": (1.0, 0.5), "1": (1.0,), "1, 2": (1.0, 2.0), "": ()}),
    (tuple[int, str], {"1,2": (1, "2"), "1,a,2": (1, "a", "2")}),
    (Share | tuple[Share, ...], {"0.5": 0.5, "0.9,0.8": (0.9, 0.8), "0.9,": (0.9,)}),
    (tuple[int | float, ...], {"1,1.0": (1, 1.0)}),
    (tuple[bool, ...], {"true,false": (True, False)}),
]
"""Type of a field -> text -> value; a text that is none of this type stays."""


@pytest.mark.parametrize(("hint", "values"), READ)
def test_a_string_is_read_by_the_fields_type(hint, values):
    for text, value in values.items():
        found = parse(hint, text)
        assert found == value
        assert type(found) is type(value)
        if isinstance(value, tuple):
            assert [type(part) for part in found] == [type(part) for part in value]


@pytest.mark.parametrize(
    ("argv", "changed"),
    [
        ("--model.hidden 7 --seed 5", {"model": RNN(7), "seed": 5}),
        ("--sampler.batch_size=4 --evaluate-every 3", {"evaluate_every": 3, "sampler": Sequential(batch_size=4)}),
        ("--gradient.steps 3 --gradient truncated", {"gradient": Truncated(3)}),
        ("--gradient seqjax/randomized --gradient.keep-prob 0.9,0.8", {"gradient": Randomized((0.9, 0.8))}),
        ("--optimizer.clip-norm none", {"optimizer": SGD(1.0)}),
        ("--train 100 --heldout 0.5", {"train": 100, "heldout": 0.5}),
        ("--dataset text-file --dataset.path=a=b", {"dataset": TextFile("a=b")}),
        ("--dataset text-file --dataset.path --model_x", {"dataset": TextFile("--model_x")}),
        ("--model.hidden 7 --model.hidden 8", {"model": RNN(8)}),
    ],
)
def test_flags(argv, changed):
    assert resolved(*argv.split()) == replace(DEFAULT, **changed)


FILE = """
epochs = 3
seed = 4
[model]
plugin = "seqjax/rnn"
hidden = 3
[gradient]
plugin = "truncated"
steps = 2
[optimizer]
learning_rate = 0.5
"""


@pytest.mark.parametrize(
    ("argv", "changed"),
    [
        ("", {}),
        ("--model.hidden 9 --epochs 9", {"model": RNN(9), "epochs": 9}),
        ("--model rnn --model.hidden 9", {"model": RNN(9)}),
        ("--gradient.steps 5", {"gradient": Truncated(5)}),
        ("--optimizer.clip-norm none", {"optimizer": SGD(0.5)}),
    ],
)
def test_flags_lie_over_the_file(tmp_path, argv, changed):
    file = tmp_path / "c.toml"
    file.write_text(FILE)
    base = replace(DEFAULT, epochs=3, seed=4, model=RNN(3), gradient=Truncated(2), optimizer=SGD(0.5, clip_norm=1.0))
    for args in (["--config", file, *argv.split()], [*argv.split(), "--config", file]):
        assert resolved(*args) == replace(base, **changed)


@pytest.mark.parametrize("flag", ["--model", "--config", "--load", "--tokenizer"])
def test_an_empty_value_is_an_error(flag):
    """With an unset variable, `--model "$MODEL"` must not train the default model."""
    done = call("run", flag, "", "--print-config")
    assert (done.returncode, done.stdout) == (2, "")


def test_toml_has_no_control_characters_and_reads_back():
    """TOML allows most of them in a text; a terminal or an editor would interpret them."""
    characters = "".join(map(chr, [*range(0x300), *range(0x2000, 0x2100), 0xE000, 0xFEFF, 0xE0001, 0x1F389]))
    found = {f"key {characters}": characters, "table": {"list": [characters, "a\n\tb"]}}
    text = to_toml(found)
    assert from_toml(text) == found
    assert all(character.isprintable() or character in "\n\t" for character in text)
