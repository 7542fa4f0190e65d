import dataclasses
import hashlib
import json
import linecache
import logging
import math
import os
import shutil
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from support.crash import forget_results

from seqjax import Error, Experiment, Pairs, Run, Text, sweep
from seqjax.plugin import registry
from seqjax.runs import params_file, record
from seqjax_datasets import TextFile
from seqjax_gradients import Randomized
from seqjax_models import MLP, RNN
from seqjax_optimizers import SGD, Adam
from seqjax_samplers import Sequential
from seqjax_tokenizers import Char, Standardize

SENTENCE = "the cat sat on the mat. "
TEXT = SENTENCE * 30
FILES = {
    "checkpoints",
    "config.toml",
    "manifest.json",
    "environment.json",
    "metrics.jsonl",
    "codec.json",
    "params.safetensors",
    "samples.txt",
    "history.png",
    ".lock",
}
COLUMNS = (
    "epoch update tokens seconds train_loss heldout_loss train_perplexity heldout_perplexity "
    "compile_seconds grad_norm learning_rate tokens_per_second"
)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """An experiment that memorises one sentence in ten short epochs."""
    file = tmp_path_factory.mktemp("dataset") / "cat.txt"
    file.write_text(TEXT)
    return Experiment(
        dataset=TextFile(path=str(file)),
        train=480,
        heldout=120,
        sampler=Sequential(batch_size=4, num_steps=12),
        model=RNN(hidden=32),
        optimizer=Adam(learning_rate=0.02, clip_norm=1.0),
        epochs=10,
        evaluate_every=3,
    )


@pytest.fixture(scope="module")
def kept(experiment, tmp_path_factory):
    """The run of `experiment` in a folder."""
    return experiment.run(tmp_path_factory.mktemp("runs") / "cat")


@pytest.fixture
def copied(kept, tmp_path):
    """A copy of the folder, to be damaged."""
    return Path(shutil.copytree(kept.path, tmp_path / "cat"))


def contents(path):
    """The bytes of each file, and when it was written."""
    return {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in path.rglob("*") if file.is_file()}


def assert_same(a, b):
    """Bit for bit."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def in_memory(text, **fields):
    """An experiment of one short epoch."""
    defaults = {"train": 480, "heldout": 120, "sampler": Sequential(4, 12), "model": RNN(hidden=3), "epochs": 1}
    return Experiment(dataset=Text(text), **(defaults | fields))


def test_a_run_learns(kept):
    assert kept.metric("train_perplexity")[0] > 5
    assert kept.metric("heldout_perplexity")[-1] < 1.1
    assert kept.generate("the cat", 70) == (SENTENCE * 4)[:77]
    assert kept.finished


def test_metrics_are_a_row_an_epoch(kept):
    assert [list(row) for row in kept.metrics] == [COLUMNS.split()] * 10
    assert kept.metric("epoch").tolist() == list(range(1, 11))
    assert kept.metric("train_loss").dtype == np.float64
    for part in ("train", "heldout"):
        np.testing.assert_allclose(kept.metric(f"{part}_perplexity"), np.exp(kept.metric(f"{part}_loss")), rtol=1e-15)
    assert np.flatnonzero(np.isfinite(kept.metric("heldout_loss"))).tolist() == [2, 5, 8, 9], "and always the last one"
    assert set(kept.metric("learning_rate")) == {np.float32(0.02)}
    assert np.diff(kept.metric("tokens"), prepend=0).tolist() == [48 * 9] * 10


@pytest.mark.slow
def test_a_run_compiles_once_however_many_its_epochs_and_an_equal_one_not_at_all(experiment, caplog):
    """Training and evaluation compile once each. The equal experiment, read from TOML, has other plugin objects."""
    other = dataclasses.replace(experiment, model=RNN(hidden=5), evaluate_every=1)
    found = []
    for experiment in (other, Experiment.from_toml(other.to_toml())):
        caplog.clear()
        with jax.log_compiles(), caplog.at_level(logging.WARNING):
            assert len(experiment.run().metrics) == 10
        compiled = [message for message in caplog.messages if message.startswith("Compiling")]
        found.append((sum("_epoch" in m for m in compiled), sum("_sums" in m for m in compiled), len(compiled)))
    (epochs, evaluations, total), again = found
    assert epochs == evaluations == 1
    assert total < 60, "the rest are the small operations that set a run up"
    assert again == (0, 0, 0)


def test_an_unknown_metric_is_an_error_with_the_nearest(kept):
    with pytest.raises(Error, match="did you mean 'train_loss'"):
        kept.metric("trainloss")


def test_the_folder_has_what_is_documented(experiment, kept):
    assert {file.name for file in kept.path.iterdir()} == FILES
    rows = [json.loads(line) for line in (kept.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows] == kept.metric("update").tolist()
    assert rows[0]["heldout_loss"] is None
    saved = json.loads((kept.path / "codec.json").read_text())
    assert saved["codec"]["tokens"] == list(kept.codec.tokens)
    assert saved["spec"] == {"inputs": {"Tokens": 12}, "targets": {"Tokens": 12}}
    arrays = safetensors.numpy.load_file(kept.path / "params.safetensors")
    layer, outer = kept.params["layer_0"], {name: kept.params[name] for name in ("W_hq", "b_q")}
    assert_same(arrays, jax.tree.map(np.asarray, {f"layer_0/{name}": layer[name] for name in layer} | outer))
    assert kept.generate(TEXT[:12], 200) in (kept.path / "samples.txt").read_text()
    assert (kept.path / "history.png").read_bytes().startswith(b"\x89PNG")


def test_the_config_is_resolved_and_gives_the_same_run_again(experiment, kept):
    text = (kept.path / "config.toml").read_text()
    for name in ("text-file", "char", "sequential", "rnn", "full", "adam"):
        assert f'plugin = "seqjax/{name}"' in text
    again = Experiment.from_toml(text)
    assert again == dataclasses.replace(experiment, tokenizer=Char()) == kept.experiment
    run = again.run()
    assert_same(run.params, kept.params)
    for name in ("train_loss", "heldout_loss", "grad_norm"):
        np.testing.assert_array_equal(run.metric(name), kept.metric(name))
    assert run.path is None


def test_the_environment_says_what_a_run_depends_on(experiment, kept):
    record = json.loads((kept.path / "environment.json").read_text())
    assert record["data_sha256"] == {"dataset": hashlib.sha256(TEXT.encode()).hexdigest()}
    for name in ("seqjax", "jax", "jaxlib", "numpy", "optax"):
        assert record["versions"][name] == version(name)
    assert record["backend"] == jax.default_backend()
    assert record["devices"] == len(jax.devices())
    assert record["device"] == jax.devices()[0].device_kind
    assert {"python", "platform", "git_commit"} <= set(record)
    by_kind = {plugin["kind"]: plugin for plugin in record["plugins"]}
    assert set(by_kind) == {"dataset", "tokenizer", "sampler", "model", "gradient", "optimizer"}
    model = by_kind["model"]
    assert (model["id"], model["version"], model["target"]) == (
        "seqjax/rnn",
        version("seqjax"),
        "seqjax_models.rnn:RNN",
    )
    source = Path(__file__).parents[2] / "plugins" / "seqjax_models" / model["file"]
    assert model["sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()


def test_an_opened_run_is_the_run(kept):
    run = Run.open(kept.path)
    assert_same(run.params, kept.params)
    assert run.experiment == kept.experiment
    assert repr(run) == repr(kept)
    for name in COLUMNS.split():
        np.testing.assert_array_equal(run.metric(name), kept.metric(name))
    for temperature in (0.0, 1.0):
        assert run.generate("a mat", 50, temperature, seed=3) == kept.generate("a mat", 50, temperature, seed=3)
    for part, targets in (("train", 479), ("heldout", 119), ("rest", 119)):
        row = run.evaluate(part)
        assert row == kept.evaluate(part)
        assert row["tokens"] == targets
    assert run.evaluate() == run.evaluate("heldout")
    assert run.evaluate()["loss"] == kept.metrics[-1]["heldout_loss"]
    assert run.data.text == TEXT


def test_a_run_evaluates_any_text(kept):
    assert kept.evaluate(Text(TEXT[480:600]))["loss"] == pytest.approx(kept.evaluate("heldout")["loss"])
    with pytest.warns(UserWarning, match=r"75\.00% of the text is unknown to the vocabulary"):
        assert kept.evaluate(Text("xyzt"))["loss"] > 2, "what is unknown counts too"
    with pytest.raises(Error, match=r"xyz\.txt has no token of the vocabulary .*\n.* whose tokens are ' ', "):
        kept.evaluate(Text("xyz" * 50, "xyz.txt"))
    assert math.isnan(kept.evaluate(Text("t"))["loss"])
    with pytest.raises(Error, match="no part 'the cat'"):
        kept.evaluate("the cat")


def test_a_run_plots_its_history(kept):
    figure = kept.plot()
    train, heldout = figure.axes[0].lines
    np.testing.assert_array_equal(train.get_ydata(), kept.metric("train_perplexity"))
    np.testing.assert_array_equal(heldout.get_xdata(), [3, 6, 9, 10])


def test_a_finished_run_opens_instead_of_training(experiment, kept):
    before = contents(kept.path)
    run = experiment.run(str(kept.path))
    assert run.metrics[-1] == kept.metrics[-1], "the measured times too"
    assert_same(run.params, kept.params)
    assert contents(kept.path) == before


def test_another_experiment_is_an_error_that_names_the_difference(experiment, kept):
    other = dataclasses.replace(experiment, epochs=9, model=RNN(hidden=33))
    with pytest.raises(Error, match="another experiment") as caught:
        other.run(kept.path)
    assert caught.value.exit_code == 2
    assert str(kept.path) in str(caught.value)
    assert len(caught.value.problems) == 2
    for part in ("epochs", "10", "9", "hidden", "32", "33"):
        assert part in "\n".join(caught.value.problems)


def without_times(run):
    """The metrics without the columns that a clock measures."""
    measured = ("seconds", "compile_seconds", "tokens_per_second")
    return [{key: value for key, value in row.items() if key not in measured} for row in run.metrics]


def test_a_run_that_was_interrupted_is_trained_to_its_end(experiment, kept, copied):
    forget_results(copied)
    (copied / "params.safetensors").unlink()
    shutil.rmtree(copied / "checkpoints")
    with pytest.raises(Error, match="unfinished") as caught:
        Run.open(copied)
    assert caught.value.exit_code == 2
    assert str(copied) in str(caught.value)
    run = experiment.run(copied)
    assert run.finished
    assert_same(run.params, kept.params)
    np.testing.assert_equal(without_times(run), without_times(kept))
    assert_same(Run.open(copied).params, kept.params)
    assert {file.name for file in copied.iterdir()} == FILES


def test_a_folder_whose_setting_up_was_killed_is_begun_anew(experiment, kept, copied):
    """The config is written last: a folder with other files of a run, but without it, holds no begun run."""
    for name in ("config.toml", "params.safetensors", "samples.txt", "history.png"):
        (copied / name).unlink()
    shutil.rmtree(copied / "checkpoints")
    (copied / "environment.json").write_text("{ torn")
    (copied / "config.toml.part").write_text("ep")
    run = experiment.run(copied)
    assert_same(run.params, kept.params)
    np.testing.assert_equal(without_times(Run.open(copied)), without_times(kept))
    assert {file.name for file in copied.iterdir()} == FILES


@pytest.mark.parametrize("beside", ["thesis.tex", "params.safetensors"])
def test_a_folder_with_something_else_beside_is_refused(experiment, copied, beside):
    """A folder without a config, but with a file of the user or of training, is not one whose setup was killed."""
    for name in ("config.toml", "params.safetensors", "samples.txt", "history.png"):
        (copied / name).unlink()
    shutil.rmtree(copied / "checkpoints")
    (copied / beside).write_text("precious")
    before = contents(copied)
    with pytest.raises(Error, match=f"holds no run, but {beside}; choose another") as caught:
        experiment.run(copied)
    assert caught.value.exit_code == 2
    assert contents(copied) == before


@pytest.mark.parametrize("content", ["nothing", "a file"])
def test_a_folder_without_a_run_is_an_error(experiment, tmp_path, content):
    if content == "a file":
        (tmp_path / "thesis.tex").write_text("precious")
        with pytest.raises(Error, match="holds no run"):
            experiment.run(tmp_path)
        assert [file.name for file in tmp_path.iterdir()] == ["thesis.tex"]
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(Error, match="holds no run") as caught:
            Run.open(path)
        assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("config.toml", b"\xff"),
        ("config.toml", b"model = "),
        ("environment.json", b"\xff"),
        ("environment.json", b"{}"),
        ("codec.json", b"\xff"),
        ("codec.json", b"{}"),
        ("metrics.jsonl", b"\xff\n"),
        ("metrics.jsonl", b'{"epoch": \n{"epoch": 2}\n'),
        ("params.safetensors", b""),
        ("params.safetensors", b"\xff" * 20),
    ],
)
def test_a_damaged_file_is_exit_4_and_named(copied, name, damage):
    (copied / name).write_bytes(damage)
    with pytest.raises(Error) as caught:
        Run.open(copied)
    assert caught.value.exit_code == 4
    assert str(copied / name) in str(caught.value)


@pytest.mark.parametrize("name", ["environment.json", "codec.json", "metrics.jsonl"])
def test_a_missing_file_is_exit_4_and_named(copied, name):
    (copied / name).unlink()
    with pytest.raises(Error) as caught:
        Run.open(copied)
    assert caught.value.exit_code == 4
    assert str(copied / name) in str(caught.value)


@pytest.mark.parametrize("where", [0, 20, 0.5, -1], ids=["length", "header", "middle", "end"])
def test_one_flipped_bit_of_the_parameters_is_exit_4(copied, where):
    file = copied / "params.safetensors"
    data = bytearray(file.read_bytes())
    at = int(where * len(data)) if isinstance(where, float) else where
    data[at] ^= 1
    file.write_bytes(data)
    with pytest.raises(Error) as caught:
        Run.open(copied)
    assert caught.value.exit_code == 4
    assert str(file) in str(caught.value)


def test_truncated_parameters_are_exit_4(copied):
    file = copied / "params.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(Error) as caught:
        Run.open(copied)
    assert caught.value.exit_code == 4


def test_parameters_of_another_model_are_exit_4(copied):
    config = copied / "config.toml"
    config.write_text(config.read_text().replace("hidden = 32", "hidden = 31"))
    with pytest.raises(Error) as caught:
        Run.open(copied)
    assert caught.value.exit_code == 4


def test_a_dataset_that_has_changed_is_exit_4(experiment, copied, tmp_path):
    file = tmp_path / "cat.txt"
    file.write_text(TEXT)
    dataclasses.replace(experiment, dataset=TextFile(path=str(file)), epochs=1).run(copied / "own")
    file.write_text(TEXT.replace("cat", "dog", 1))
    copied = copied / "own"
    run = Run.open(copied)
    assert run.generate("the", 5), "generating does not need the dataset"
    for _ in range(2):
        with pytest.raises(Error, match="has changed") as caught:
            run.evaluate("heldout")
        assert caught.value.exit_code == 4
        assert str(copied) in str(caught.value)


def test_a_run_that_diverges_keeps_the_last_good_parameters(experiment, tmp_path):
    """It diverges in the first epoch, before the first row of metrics."""
    wild = dataclasses.replace(experiment, optimizer=SGD(learning_rate=1e38))
    with pytest.raises(Error, match="diverged") as caught:
        wild.run(tmp_path / "wild")
    assert caught.value.exit_code == 3
    assert str(tmp_path / "wild" / "params.safetensors") in str(caught.value)
    run = Run.open(tmp_path / "wild")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.params))
    assert not run.finished
    assert len(run.generate("the", 5)) == 8
    with pytest.raises(Error, match="diverged"):
        wild.run(tmp_path / "wild")
    with pytest.raises(Error, match="no metrics"):
        run.metric("train_loss")
    with pytest.raises(Error, match="diverged") as caught:
        wild.run()
    assert caught.value.exit_code == 3


def test_without_a_held_out_part_its_columns_are_nan():
    run = in_memory(TEXT, heldout=0).run()
    assert np.isnan(run.metric("heldout_loss")).all()
    assert np.isnan(run.metric("heldout_perplexity")).all()
    assert run.evaluate("heldout")["tokens"] == 0
    assert run.evaluate("rest")["tokens"] == 239
    assert run.plot().axes


def test_a_run_in_memory_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = in_memory(TEXT).run()
    assert run.path is None
    assert run.finished
    assert list(tmp_path.iterdir()) == []


def test_a_vocabulary_of_one_has_a_perplexity():
    run = in_memory("x" * 600).run()
    assert 1 <= run.metric("train_perplexity")[0] <= 2.01
    assert 1 <= run.metric("heldout_perplexity")[0] <= 2.01
    assert run.generate("", 3) == "xxx"


def test_the_sample_is_prompted_from_the_training_part_alone(tmp_path):
    """The training part has six characters, and those after it are not in the vocabulary."""
    file = tmp_path / "short.txt"
    file.write_text("ababab" + "cdefgh")
    experiment = in_memory("", train=6, heldout=2, sampler=Sequential(1, 2))
    run = dataclasses.replace(experiment, dataset=TextFile(path=str(file))).run(tmp_path / "run")
    assert "ababab" in (run.path / "samples.txt").read_text()


@pytest.mark.parametrize("path", ["file", "file/run", "file/deep/run"])
def test_a_path_that_cannot_be_a_folder_is_exit_6(experiment, tmp_path, path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(Error) as caught:
        experiment.run(tmp_path / path)
    assert caught.value.exit_code == 6
    assert str(tmp_path / "file") in str(caught.value)
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_folder_that_may_not_be_written_is_exit_6(experiment, tmp_path):
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("this user, root, may write everywhere")
    with pytest.raises(Error, match="cannot be written") as caught:
        experiment.run(tmp_path / "run")
    assert caught.value.exit_code == 6


@pytest.mark.parametrize(
    ("fields", "devices"),
    [
        ({"train": 10_000}, None),
        ({"train": 40}, None),
        ({"gradient": Randomized(keep_prob=(0.5, 0.5))}, None),
        ({"tokenizer": Standardize()}, None),
        ({}, 3),
    ],
    ids=["split", "sampler", "gradient", "tokenizer", "devices"],
)
def test_what_cannot_be_trained_leaves_no_folder(experiment, tmp_path, fields, devices):
    """Otherwise the corrected command would find a run of another experiment there."""
    with pytest.raises(Error) as caught:
        dataclasses.replace(experiment, **fields).run(tmp_path / "run", devices=devices)
    assert caught.value.exit_code == 2
    assert not (tmp_path / "run").exists()


def test_every_field_of_an_experiment_out_of_range_is_reported_at_once():
    with pytest.raises(Error) as caught:
        Experiment(train=0, heldout=-0.1, epochs=0, seed=-1, evaluate_every=0)
    assert len(caught.value.problems) == 5


def test_one_character_is_not_all_of_them():
    """An int counts characters, and one is too few; only 1.0 is the whole dataset."""
    assert Experiment(train=1.0).train == 1.0
    with pytest.raises(Error, match=r"train = 1\b(?!\.)"):
        in_memory(TEXT, train=1, heldout=0).run()


CELL = """
from dataclasses import dataclass
import jax.numpy as jnp, seqjax
SCALE = 2
@seqjax.register("model", "mine")
@dataclass(frozen=True)
class Mine(seqjax.Cell):
    def cell(self, u, v, state):
        return self.State(jnp.tanh(SCALE * u + v))
"""


def define_in_a_notebook(cell, name):
    """Defines the model of a cell as a notebook does: its kernel keeps the source of each cell in `linecache`."""
    lines = cell.splitlines(keepends=True)
    linecache.cache[name] = len(cell), None, lines, name
    exec(compile(cell, name, "exec"), {"__name__": "notebook"})
    return registry.get("model", "mine")


def test_a_class_of_a_notebook_that_was_changed_is_another_plugin(tmp_path):
    try:
        experiment = in_memory(TEXT, model=define_in_a_notebook(CELL, "<cell 1>")(hidden=4))
        experiment.run(tmp_path / "run")
        same = define_in_a_notebook(CELL, "<cell 2>")
        assert dataclasses.replace(experiment, model=same(hidden=4)).run(tmp_path / "run").finished
        changed = define_in_a_notebook(CELL.replace("SCALE = 2", "SCALE = 3"), "<cell 3>")
        with pytest.raises(Error, match="another model 'local/mine'") as caught:
            dataclasses.replace(experiment, model=changed(hidden=4)).run(tmp_path / "run")
        assert caught.value.exit_code == 4
    finally:
        del registry._registered["model", "local/mine"]


def test_an_experiment_that_no_file_can_keep_is_an_error_before_training(tmp_path):
    file = os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.txt")
    Path(file).write_text(TEXT)
    experiment = dataclasses.replace(in_memory(TEXT), dataset=TextFile(path=file))
    with pytest.raises(Error, match=r"cannot be saved as UTF-8.*b.udcff") as caught:
        experiment.run(tmp_path / "run")
    assert caught.value.exit_code == 2
    assert not (tmp_path / "run").exists()
    assert experiment.run().finished


def test_an_epoch_counts_no_characters(monkeypatch):
    """Counting takes as long as encoding the text, and a row of metrics does not need it."""
    monkeypatch.setattr("seqjax.runs.run.predicted_characters", lambda *args: 1 / 0)
    assert in_memory(TEXT).run().finished


class Kill(BaseException):
    pass


@pytest.mark.parametrize("file", ["params.safetensors", "diverged.txt"])
def test_a_kill_while_a_diverged_run_is_kept_does_not_stall_a_sweep(tmp_path, monkeypatch, file):
    experiment = in_memory(TEXT, optimizer=SGD(learning_rate=1e38))
    write = record.write

    def killed(path, data):
        if path.name == file:
            raise Kill
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(record, "write", killed)
        patch.setattr(params_file, "write", killed)
        with pytest.raises(Kill):
            sweep(experiment, {"seed": [0]}, tmp_path)
    assert sweep(experiment, {"seed": [0]}, tmp_path)["seed=0"].diverged
    assert Run.open(tmp_path / "seed-0").diverged


def test_a_run_that_finishes_on_the_second_try_is_not_marked_as_diverged(experiment, kept, copied):
    forget_results(copied)
    rows = (copied / "metrics.jsonl").read_text().splitlines(keepends=True)
    (copied / "metrics.jsonl").write_text("".join(rows[:4]))
    shutil.rmtree(copied / "checkpoints")
    (copied / "diverged.txt").write_text("diverged at update 50")
    assert experiment.run(copied).finished
    run = Run.open(copied)
    assert not run.diverged
    assert_same(run.params, kept.params)
    assert {file.name for file in copied.iterdir()} == FILES


def test_rows_have_the_targets_that_count_in_training():
    """Masked targets and those within the warm-up have the weight 0."""
    t = np.arange(400)
    experiment = {"dataset": Pairs(t, t % 3, mask=t % 5 == 0), "train": 400, "heldout": 0, "sampler": Sequential(4, 20)}
    run = Experiment(**experiment, model=MLP(lags=4, hidden=3), epochs=1).run()
    rows = run.scan_arguments(3, 30)
    weights_TB, inputs_TB = np.asarray(rows["weights"]), np.asarray(rows["xs"][0])
    for weights_T, inputs_T in zip(weights_TB.T, inputs_TB.T, strict=True):
        assert inputs_T.tolist() == list(range(inputs_T[0], inputs_T[0] + 30))
        assert np.flatnonzero(weights_T).tolist() == [i for i in range(3, 30) if inputs_T[i] % 5 == 0]
    assert weights_TB.sum() == pytest.approx(1, rel=1e-6)
    assert len(np.unique(weights_TB)) == 2
    with pytest.raises(Error, match="no target in these 1 windows of 3 steps is scored"):
        run.scan_arguments(1, 3)
