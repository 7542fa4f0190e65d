"""Runs on data in memory, which are saved in the folder of the run and read from it."""

import dataclasses
import itertools
import json
import math
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from support.crash import forget_results
from support.shell import call

from seqjax import Error, Experiment, Pairs, Run, Series, Spec, Text, Tokens, Values
from seqjax.runs.files import folder
from seqjax_datasets import TextFile
from seqjax_models import MLP, RNN
from seqjax_optimizers import Adam
from seqjax_samplers import Random, Sequential, Windows
from seqjax_tokenizers import Char, Standardize

RNG = np.random.default_rng(0)
BOUNDS = [0, 110, 110, 200, 260, 300]
IDS = RNG.integers(0, 4, 300)
REALS = np.cumsum(RNG.normal(size=(300, 2)), 0)
MASK = RNG.random(300) < 0.7

TEXT = Text("".join("abc é"[i] for i in RNG.integers(0, 5, 300)), "letters", BOUNDS)
SERIES = Series(REALS, ("height", "größe"), "heights", BOUNDS)
TAGS = Pairs(IDS, (IDS + np.roll(IDS, 1)) % 3, MASK, Spec(Tokens(6), Tokens(3)), BOUNDS)
COVARIATES = Pairs(REALS, REALS.sum(1), bounds=BOUNDS)
MIXED = Pairs(REALS, IDS, MASK)

PARTS = {"train": 200, "heldout": 60, "epochs": 2, "optimizer": Adam(learning_rate=0.01)}
SMALL = {"sampler": Random(batch_size=4, num_steps=10), "model": RNN(hidden=3)}
EXPERIMENTS = {
    "text": Experiment(dataset=TEXT, **SMALL, **PARTS),
    "series": Experiment(dataset=SERIES, sampler=Windows(batch_size=16, num_steps=6), model=MLP(lags=3), **PARTS),
    "scaled": Experiment(dataset=SERIES, tokenizer=Standardize(), **SMALL, **PARTS),
    "tags": Experiment(dataset=TAGS, **SMALL, **PARTS),
    "covariates": Experiment(dataset=COVARIATES, **SMALL, **PARTS),
    "mixed": Experiment(dataset=MIXED, **SMALL, **PARTS),
}


EACH = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in ("series", "scaled", "covariates")))
        for name in EXPERIMENTS
    ],
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run in a folder for each experiment, made when it is first asked for."""

    class Runs(dict):
        def __missing__(self, name):
            self[name] = EXPERIMENTS[name].run(tmp_path_factory.mktemp("runs") / name)
            return self[name]

    return Runs()


@pytest.fixture
def copied(runs, tmp_path):
    """A copy of the folder of the tags, to be damaged."""
    return Path(shutil.copytree(runs["tags"].path, tmp_path / "tags"))


def assert_same_data(found, expected):
    """Compares all fields and arrays of two datasets."""
    assert type(found) is type(expected)
    assert set(found.arrays) == set(expected.arrays)
    for name, array in expected.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].dtype == array.dtype
    np.testing.assert_array_equal(found.bounds, expected.bounds)
    for name in ("source", "names", "spec"):
        assert getattr(found, name, None) == getattr(expected, name, None)
    assert found.sha256 == expected.sha256


@EACH
def test_a_run_on_own_data_finishes_and_is_opened_with_them(runs, name):
    kept, opened = runs[name], Run.open(runs[name].path)
    assert kept.finished
    assert opened.finished
    assert_same_data(opened.data, EXPERIMENTS[name].dataset)
    assert opened.spec == kept.spec
    jax.tree.map(np.testing.assert_array_equal, opened.params, kept.params)
    for part in ("train", "heldout", "rest"):
        row = opened.evaluate(part)
        assert row == kept.evaluate(part)
        assert row["tokens"] > 20
    assert opened.evaluate()["loss"] == kept.metrics[-1]["heldout_loss"]
    assert opened.experiment.to_toml() == kept.experiment.to_toml()


@EACH
def test_every_target_is_counted_once(runs, name):
    """In a series or a text, all entries of a document but the first are targets; in pairs, all unmasked ones."""
    run, data = runs[name], EXPERIMENTS[name].dataset
    for part, (first, last) in {"train": (0, 200), "heldout": (200, 260), "rest": (260, 300)}.items():
        inside = [first, *(int(b) for b in data.bounds if first < b < last), last]
        if isinstance(data, Pairs):
            expected = (last - first) if data.mask is None else int(data.mask[first:last].sum())
        else:
            lengths = [b - a for a, b in itertools.pairwise(inside) if b > a]
            expected = sum(max(0, n - 1 - run.experiment.model.warmup) for n in lengths)
        assert run.evaluate(part)["tokens"] == expected


@EACH
def test_metrics_and_files_of_each_kind_of_data(runs, name):
    """Only tokens have perplexities, and only texts have samples."""
    run = runs[name]
    tokens = name in ("text", "tags", "mixed")
    columns = ["epoch", "update", "tokens", "seconds", "train_loss", "heldout_loss"]
    columns += ["train_perplexity", "heldout_perplexity"] * tokens
    columns += ["compile_seconds", "grad_norm", "learning_rate", "tokens_per_second"]
    assert [list(row) for row in run.metrics] == [columns] * 2
    files = (
        "config.toml manifest.json environment.json metrics.jsonl codec.json params.safetensors history.png "
        "data.safetensors .lock checkpoints"
    )
    assert {file.name for file in run.path.iterdir()} == {*files.split(), *(["samples.txt"] if name == "text" else [])}
    assert ("perplexity" in run.evaluate()) == tokens
    assert ("bits_per_character" in run.evaluate()) == (name == "text")
    assert [line.get_label() for line in run.plot().axes[0].lines]
    table = f'[dataset]\nplugin = "in-memory"\nsha256 = "{run.data.sha256}"\n'
    assert table in (run.path / "config.toml").read_text()
    assert json.loads((run.path / "environment.json").read_text())["data_sha256"] == {"dataset": run.data.sha256}


@pytest.mark.parametrize("name", ["text", "mixed"])
def test_equal_data_open_the_run_and_other_data_are_another_experiment(runs, name):
    path, data = runs[name].path, EXPERIMENTS[name].dataset
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    equal = dataclasses.replace(EXPERIMENTS[name], dataset=data[:])
    assert equal.run(path).metrics == runs[name].metrics, "the measured times too"
    other = Text(data.text[:-1] + "a", bounds=data.bounds) if name == "text" else Pairs(REALS, IDS, ~MASK)
    with pytest.raises(Error, match="another experiment") as caught:
        dataclasses.replace(EXPERIMENTS[name], dataset=other).run(path)
    assert caught.value.exit_code == 2
    (problem,) = caught.value.problems
    assert problem.startswith("dataset: ")
    assert data.sha256 in problem
    assert other.sha256 in problem
    assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


def test_the_spec_of_pairs_belongs_to_the_experiment(runs):
    """The same arrays with a larger vocabulary give another model."""
    larger = Pairs(TAGS.inputs, TAGS.targets, TAGS.mask, Spec(Tokens(6), Tokens(5)), TAGS.bounds)
    with pytest.raises(Error, match="another experiment"):
        dataclasses.replace(EXPERIMENTS["tags"], dataset=larger).run(runs["tags"].path)


def test_an_interrupted_run_goes_on_with_its_data(runs, copied):
    forget_results(copied)
    (copied / "params.safetensors").unlink()
    run = EXPERIMENTS["tags"].run(copied)
    jax.tree.map(np.testing.assert_array_equal, run.params, runs["tags"].params)


@pytest.mark.parametrize("data", [Text("ab é\ud800", "s", [0, 2, 5]), SERIES[:9], TAGS[105:115]], ids=["t", "s", "p"])
def test_every_flipped_byte_of_the_data_is_exit_4(tmp_path, data):
    """Arrays, names, documents and kind of data are all checked."""
    file = tmp_path / "data.safetensors"
    folder.write_data(tmp_path, "dataset", data)
    assert_same_data(folder.read_data(tmp_path, "dataset", data.sha256), data)
    good = file.read_bytes()
    for at in range(len(good)):
        file.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(Error) as caught:
            folder.read_data(tmp_path, "dataset", data.sha256)
        assert caught.value.exit_code == 4, at
    file.write_bytes(good[:-1])
    with pytest.raises(Error, match="damaged") as caught:
        folder.read_data(tmp_path, "dataset", data.sha256)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("damage", ["flipped", "missing", "other"])
def test_a_run_whose_data_are_damaged_is_exit_4_and_named(runs, copied, damage):
    file = copied / "data.safetensors"
    data = bytearray(file.read_bytes())
    if damage == "missing":
        file.unlink()
    elif damage == "other":
        shutil.copyfile(runs["mixed"].path / "data.safetensors", file)
    else:
        data[-5] ^= 1
        file.write_bytes(data)
    for attempt in (lambda: Run.open(copied), lambda: EXPERIMENTS["tags"].run(copied)):
        with pytest.raises(Error) as caught:
            attempt()
        assert caught.value.exit_code == 4
        assert str(file) in str(caught.value)


def test_toml_alone_does_not_hold_the_data():
    text = EXPERIMENTS["series"].to_toml()
    with pytest.raises(Error, match=r"only its hash: open the run, or pass its config\.toml to --config") as caught:
        Experiment.from_toml(text)
    assert caught.value.exit_code == 2
    assert "[dataset]" in str(caught.value)


def test_the_command_line_runs_an_experiment_with_the_data_beside_it(runs, tmp_path):
    config = runs["tags"].path / "config.toml"
    done = call("run", "--config", config, "--out", tmp_path / "again", "--devices", len(jax.devices()))
    assert done.returncode == 0, done.stderr
    again = Run.open(tmp_path / "again")
    jax.tree.map(np.testing.assert_array_equal, again.params, runs["tags"].params)
    assert_same_data(again.data, TAGS)
    assert "sample" not in done.stdout
    assert f"next     seqjax evaluate {tmp_path}/again" in done.stdout
    done = call("evaluate", tmp_path / "again", "--part", "rest")
    assert float(done.stdout.splitlines()[1].split()[1]) == pytest.approx(again.evaluate("rest")["loss"], abs=1e-4)


def test_the_command_line_refuses_a_config_without_its_data(runs, tmp_path):
    shutil.copyfile(runs["tags"].path / "config.toml", tmp_path / "config.toml")
    done = call("run", "--config", tmp_path / "config.toml", "--out", tmp_path / "again")
    assert done.returncode == 4
    assert str(tmp_path / "data.safetensors") in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "again").exists()


def test_a_dataset_plugin_is_not_copied_into_the_folder(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text(TEXT.text)
    run = Experiment(dataset=TextFile(path=str(file)), **SMALL, **PARTS).run(tmp_path / "run")
    assert not (run.path / "data.safetensors").exists()


@pytest.mark.parametrize("sampler", [Random(4, 10), Sequential(2, 10)], ids=["random", "carried"])
@pytest.mark.parametrize("spec", [Spec(Values(2), Values(1)), Spec(Tokens(4), Tokens(3))], ids=["values", "tokens"])
def test_masked_targets_count_neither_in_training_nor_in_evaluation(sampler, spec):
    """Changing all of them changes no bit of the result; changing one unmasked target does."""
    if isinstance(spec.inputs, Tokens):
        inputs, targets, others = IDS, IDS % 3, (IDS + 1) % 3
    else:
        inputs, targets, others = REALS, REALS[:, :1], np.full((300, 1), 1e6)
    results = []
    for replaced in (np.zeros(300, bool), ~MASK, ~MASK | (np.arange(300) == np.flatnonzero(MASK)[50])):
        mixed = np.where(replaced.reshape(-1, *(1,) * (targets.ndim - 1)), others, targets)
        data = Pairs(inputs, mixed, MASK, spec)
        run = Experiment(dataset=data, **SMALL | {"sampler": sampler}, **PARTS).run()
        losses = [run.evaluate(part)["loss"] for part in ("train", "heldout", "rest")]
        results.append((run.params, losses, run.metric("train_loss"), run.metric("tokens").tolist()))
    for a, b in zip(jax.tree.leaves(results[0]), jax.tree.leaves(results[1]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert results[0][2][0] != results[2][2][0]
    assert all(map(math.isfinite, results[0][1]))


def test_pairs_are_learned_without_a_shift():
    """The target is the input of the previous step, so a model must remember one step."""
    rng = np.random.default_rng(1)
    inputs = rng.integers(0, 3, 2000)
    data = Pairs(inputs, np.roll(inputs, 1))
    run = Experiment(
        dataset=data,
        sampler=Sequential(batch_size=8, num_steps=20),
        model=RNN(hidden=12, initializer="glorot"),
        optimizer=Adam(learning_rate=0.02),
        epochs=15,
    ).run()
    assert run.evaluate("heldout")["perplexity"] < 1.1


def test_a_mask_that_scores_nothing_is_an_error():
    pairs = Pairs([0, 1] * 600, [1, 0] * 600, np.zeros(1200, bool))
    with pytest.raises(Error, match="nothing is scored"):
        Experiment(dataset=pairs, model=RNN(hidden=4), epochs=1).run()


@pytest.mark.slow
def test_a_lone_surrogate_is_kept_and_a_run_with_it_can_be_opened(tmp_path):
    run = Experiment(dataset=Text("ab\ud800cd " * 300), model=RNN(hidden=4), epochs=1).run(tmp_path / "run")
    opened = Run.open(tmp_path / "run")
    assert opened.data == run.data
    assert "\ud800" in opened.codec.tokens


@pytest.mark.parametrize("how", ["in memory", "in a file"])
def test_a_held_out_dataset_belongs_to_the_experiment(tmp_path, how):
    """Its loss is evaluated on all of it; another one is another experiment; a changed one is an error."""
    text = "cab é" * 9
    file = tmp_path / "valid.txt"
    file.write_text(text)
    heldout = Text(text) if how == "in memory" else TextFile(path=str(file))
    experiment = Experiment(dataset=TEXT, heldout=heldout, tokenizer=Char(), **SMALL, epochs=1)
    assert experiment.train == 1.0
    run = experiment.run(tmp_path / "run")
    assert run.metrics[-1]["heldout_loss"] == run.evaluate(Text(text))["loss"] == run.evaluate()["loss"]
    assert len(run.prepared.streams["train"].inputs) == 300 - 4  # one target less in each document
    again = Run.open(tmp_path / "run")
    assert again.experiment == experiment
    assert again.evaluate()["loss"] == run.evaluate()["loss"]
    other = dataclasses.replace(experiment, heldout=Text("bac"))
    with pytest.raises(Error, match="another experiment") as caught:
        other.run(tmp_path / "run")
    assert caught.value.problems[0].startswith("heldout: ")
    if how == "in a file":
        file.write_text(text + "a")
        with pytest.raises(Error, match="its heldout has changed") as caught:
            experiment.run(tmp_path / "run")
        assert caught.value.exit_code == 4


def test_the_command_line_names_a_held_out_dataset(tmp_path):
    for name, text in (("train", "ab cd " * 300), ("valid", "ab " * 50)):
        (tmp_path / f"{name}.txt").write_text(text)
    flags = ["--dataset", "text-file", "--dataset.path", str(tmp_path / "train.txt"), "--model.hidden", "4"]
    heldout = f"text-file:path={tmp_path / 'valid.txt'}"
    out = str(tmp_path / "run")
    done = call("run", *flags, "--epochs", "1", "--heldout", heldout, "--out", out)
    assert f"train 100% / held out {tmp_path / 'valid.txt'}" in done.stdout
    run = Run.open(out)
    assert run.prepared.parts["heldout"].text == "ab " * 50
    assert Experiment.from_toml(run.experiment.to_toml()) == run.experiment
    assert call("run", "--config", f"{out}/config.toml", "--out", f"{out}-2").returncode == 0
