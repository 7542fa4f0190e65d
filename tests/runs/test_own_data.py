"""Runs on data in memory, which are saved in the folder of the run and read from it."""

import itertools
import json
import math
import shutil

import jax
import numpy as np
import pytest
from support.crash import contents
from support.shell import call
from support.tiny import FULL, NOISE, changed, refused, replace_file

from seqjax import Experiment, Pairs, Run, Series, Spec, Text, Tokens, Values
from seqjax.datasets import TextFile
from seqjax.models import MLP, RNN
from seqjax.optimizers import Adam
from seqjax.runs.files import folder
from seqjax.runs.files.data import encode_data, read_data
from seqjax.samplers import Random, Windows
from seqjax.tokenizers import Char, Standardize

RNG = np.random.default_rng(0)
BOUNDS = [0, 110, 110, 200, 260, 300]
IDS = RNG.integers(0, 4, 300)
REALS = np.cumsum(RNG.normal(size=(300, 2)), 0)
MASK = RNG.random(300) < 0.7

TEXT = Text("".join("abc\ud800é"[i] for i in RNG.integers(0, 5, 300)), "letters", BOUNDS)
SERIES = Series(REALS, ("height", "größe"), "heights", BOUNDS)
TAGS = Pairs(IDS, (IDS + np.roll(IDS, 1)) % 3, MASK, Spec(Tokens(6), Tokens(3)), BOUNDS)
COVARIATES = Pairs(REALS, REALS.sum(1), bounds=BOUNDS)
MIXED = Pairs(REALS, IDS, MASK)

PARTS = {"train": 200, "heldout": 60, "epochs": 2, "optimizer": Adam(learning_rate=0.01)}
SMALL = {"sampler": Random(batch_size=4, num_steps=10), "model": RNN(hidden=3)}
EXPERIMENTS = {
    "text": Experiment(dataset=TEXT, **SMALL, **PARTS),
    "series": Experiment(dataset=SERIES, tokenizer=Standardize(), model=MLP(lags=3), sampler=Windows(16, 6), **PARTS),
    "tags": Experiment(dataset=TAGS, **SMALL, **PARTS),
    "mixed": Experiment(dataset=MIXED, **SMALL, **PARTS),
}
EACH = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name not in ("series", "tags"))) for name in EXPERIMENTS]
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run in a folder for each experiment, made when it is first asked for."""

    class Runs(dict):
        def __missing__(self, name):
            self[name] = EXPERIMENTS[name].run(tmp_path_factory.mktemp("runs") / name)
            return self[name]

    return Runs()


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


@pytest.mark.parametrize("data", [TEXT, SERIES, TAGS, COVARIATES, MIXED])
def test_data_come_back_with_all_their_fields(tmp_path, data):
    (tmp_path / folder.DATA["heldout"]).write_bytes(encode_data(data))
    assert_same_data(read_data(tmp_path, "heldout", data.sha256), data)
    with refused(rf"heldout\.safetensors .*its sha256 is not {'0' * 64}"):
        read_data(tmp_path, "heldout", "0" * 64)


@EACH
def test_a_run_on_own_data_is_opened_with_them(runs, name):
    """Every target is counted once: all entries of a document but the first, or all unmasked ones of pairs."""
    kept, opened, data = runs[name], Run.open(runs[name].path), EXPERIMENTS[name].dataset
    assert_same_data(opened.data, data)
    assert opened.spec == kept.spec
    jax.tree.map(np.testing.assert_array_equal, opened.params, kept.params)
    for part, (first, last) in {"train": (0, 200), "heldout": (200, 260), "rest": (260, 300)}.items():
        row = opened.evaluate(part)
        assert row == kept.evaluate(part)
        inside = [first, *(int(b) for b in data.bounds if first < b < last), last]
        if isinstance(data, Pairs):
            expected = (last - first) if data.mask is None else int(data.mask[first:last].sum())
        else:
            lengths = [b - a for a, b in itertools.pairwise(inside) if b > a]
            expected = sum(max(0, n - 1 - opened.experiment.model.warmup) for n in lengths)
        assert row["tokens"] == expected
    assert opened.evaluate()["loss"] == kept.metrics[-1]["heldout_loss"]
    assert opened.experiment.to_toml() == kept.experiment.to_toml()
    assert json.loads((kept.path / "environment.json").read_text())["data_sha256"] == {"dataset": data.sha256}
    # Only tokens have perplexities, and only texts have samples.
    of_tokens, of_text = name in ("text", "tags", "mixed"), name == "text"
    assert ("train_perplexity" in kept.metrics[0]) == ("perplexity" in opened.evaluate()) == of_tokens
    assert ("bits_per_character" in opened.evaluate()) == (folder.SAMPLES in contents(kept.path)) == of_text


def test_equal_data_open_the_run_and_other_data_are_another_experiment(runs):
    path, kept = runs["tags"].path, EXPERIMENTS["tags"]
    before = contents(path)
    assert changed(kept, dataset=TAGS[:]).run(path).metrics == runs["tags"].metrics, "the measured times too"
    larger = Spec(Tokens(6), Tokens(5))  # the same arrays, with more tokens
    for mask, spec in ((~MASK, TAGS.spec), (MASK, larger)):
        other = Pairs(TAGS.inputs, TAGS.targets, mask, spec, TAGS.bounds)
        with refused("another experiment", 2) as caught:
            changed(kept, dataset=other).run(path)
        assert caught.value.problems == (f"dataset.sha256: {TAGS.sha256} → {other.sha256}",)
    assert contents(path) == before


def test_other_data_with_the_right_hash_in_the_manifest_are_exit_4(finished):
    replace_file(finished, folder.DATA["dataset"], encode_data(TAGS))
    for use in (Run.open, FULL.run):
        with refused(r"data\.safetensors"):
            use(finished)


def test_toml_alone_does_not_hold_the_data():
    text = EXPERIMENTS["series"].to_toml()
    with refused(r"only its hash: open the run, or pass its config\.toml to --config", 2) as caught:
        Experiment.from_toml(text)
    assert "[dataset]" in str(caught.value)


def test_the_command_line_runs_an_experiment_with_the_data_beside_it(runs, tmp_path):
    config = runs["tags"].path / "config.toml"
    done = call("run", "--config", config, "--out", tmp_path / "again", "--devices", len(jax.devices()))
    assert done.returncode == 0, done.stderr
    again = Run.open(tmp_path / "again")
    jax.tree.map(np.testing.assert_array_equal, again.params, runs["tags"].params)
    assert "sample" not in done.stdout
    assert f"next     seqjax evaluate {tmp_path}/again" in done.stdout
    lonely = shutil.copy(config, tmp_path)
    done = call("run", "--config", lonely, "--out", tmp_path / "another")
    assert (done.returncode, f"{tmp_path / 'data.safetensors'}" in done.stderr) == (4, True)
    assert not (tmp_path / "another").exists()


@pytest.mark.parametrize("kind", ["tokens", pytest.param("values", marks=pytest.mark.slow)])
def test_masked_targets_count_neither_in_training_nor_in_evaluation(kind):
    """Changing all of them changes no bit of the result; changing one unmasked target does."""
    if kind == "tokens":
        spec, inputs, targets, others = Spec(Tokens(6), Tokens(3)), IDS, IDS % 3, (IDS + 1) % 3
    else:
        spec, inputs, targets, others = Spec(Values(2), Values(1)), REALS, REALS[:, :1], np.full((300, 1), 1e6)
    results = []
    for replaced in (np.zeros(300, bool), ~MASK, ~MASK | (np.arange(300) == np.flatnonzero(MASK)[50])):
        mixed = np.where(replaced.reshape(-1, *(1,) * (targets.ndim - 1)), others, targets)
        run = Experiment(dataset=Pairs(inputs, mixed, MASK, spec, BOUNDS), **SMALL, **PARTS).run()
        losses = [run.evaluate(part)["loss"] for part in ("train", "heldout", "rest")]
        results.append((run.params, losses, run.metric("train_loss"), run.metric("tokens").tolist()))
    jax.tree.map(np.testing.assert_array_equal, results[0], results[1])
    assert results[0][2][0] != results[2][2][0]
    assert all(map(math.isfinite, results[0][1]))


@pytest.mark.parametrize("how", ["in memory", "in a file"])
def test_a_held_out_dataset_belongs_to_the_experiment(tmp_path, how):
    """Its loss is evaluated on all of it; another one is another experiment; a changed one is an error."""
    text = NOISE[432:]
    file = tmp_path / "valid.txt"
    file.write_text(text)
    heldout = Text(text) if how == "in memory" else TextFile(path=str(file))
    experiment = changed(FULL, train=None, heldout=heldout, tokenizer=Char(), epochs=1)
    assert experiment.train == 1.0
    run = experiment.run(tmp_path / "run")
    assert run.metrics[-1]["heldout_loss"] == run.evaluate(Text(text))["loss"] == run.evaluate()["loss"]
    assert len(run.prepared.streams["train"].inputs) == 432 - 1
    assert run.data_hashes == {"dataset": FULL.dataset.sha256, "heldout": Text(text).sha256}
    assert (folder.DATA["heldout"] in contents(run.path)) == (how == "in memory")
    again = Run.open(tmp_path / "run")
    assert again.experiment == experiment
    assert again.data_hashes == run.data_hashes
    assert again.evaluate()["loss"] == run.evaluate()["loss"]
    with refused("another experiment", 2) as caught:
        changed(experiment, heldout=Text("the mat")).run(tmp_path / "run")
    changes = {"in memory": "heldout.sha256: ", "in a file": "heldout: text-file → in-memory"}
    assert caught.value.problems[0].startswith(changes[how])
    if how == "in a file":
        file.write_text(text + "a")
        with refused("its heldout has changed; its sha256 was"):
            experiment.run(tmp_path / "run")
