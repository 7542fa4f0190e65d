"""An experiment is run in a folder or in memory, and opened again."""

import hashlib
import json
import linecache
import math
import os
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from support.crash import contents, crash_after
from support.drawn import drawn_params
from support.tiny import FULL, NOISE, SENTENCE, TEXT, TINY, changed, refused, replace_file

from seqjax import Error, Experiment, Pairs, Run, Text
from seqjax.datasets import TextFile
from seqjax.models import MLP
from seqjax.optimizers import Adam
from seqjax.plugin import registry
from seqjax.report import plot
from seqjax.runs.files import folder
from seqjax.runs.plugin_files import local_files
from seqjax.runs.run import check_options, job_of, run_of
from seqjax.samplers import Sequential
from seqjax.tokenizers import Char

HISTORY = plot.history
LONG = SENTENCE * 22
"""A text with the parts of the tiny experiment, and a rest that is as long as the held-out part."""
COLUMNS = (
    "epoch update tokens seconds train_loss heldout_loss train_perplexity heldout_perplexity "
    "compile_seconds grad_norm learning_rate tokens_per_second"
)


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """An experiment that memorises one sentence in ten short epochs."""
    file = tmp_path_factory.mktemp("dataset") / "cat.txt"
    file.write_text(LONG)
    fields = {"train": 432, "heldout": 48, "optimizer": Adam(0.02, clip_norm=1.0), "epochs": 10, "evaluate_every": 3}
    return changed(dataset=TextFile(path=str(file)), **fields)


@pytest.fixture(scope="module")
def kept(experiment, tmp_path_factory):
    """The run of `experiment` in a folder, with a figure."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot, "history", HISTORY)
        return experiment.run(tmp_path_factory.mktemp("runs") / "cat")


def assert_same(a, b):
    """Bit for bit."""
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_run_learns(kept):
    assert kept.metric("train_perplexity")[0] > 5
    assert kept.metric("heldout_perplexity")[-1] < 1.5
    assert kept.generate("the cat", 12) == "the cat sat on the "
    prompts = ["the cat", "sat o"]
    assert kept.generate(prompts, 9) == [kept.generate(prompt, 9) for prompt in prompts]
    assert kept.finished


def test_metrics_are_a_row_an_epoch(kept):
    assert [list(row) for row in kept.metrics] == [COLUMNS.split()] * 10
    assert kept.metric("epoch").tolist() == list(range(1, 11))
    assert kept.metric("train_loss").dtype == np.float64
    for part in ("train", "heldout"):
        np.testing.assert_allclose(kept.metric(f"{part}_perplexity"), np.exp(kept.metric(f"{part}_loss")), rtol=1e-15)
    assert np.flatnonzero(np.isfinite(kept.metric("heldout_loss"))).tolist() == [2, 5, 8, 9], "and always the last one"
    assert set(kept.metric("learning_rate")) == {np.float32(0.02)}
    assert np.diff(kept.metric("tokens"), prepend=0).tolist() == [16 * 26] * 10
    assert kept.metric("update").tolist() == list(range(26, 261, 26))
    with refused("did you mean 'train_loss'", 2):
        kept.metric("trainloss")


def test_the_folder_has_what_is_documented(kept):
    files = "config.toml manifest.json environment.json metrics.jsonl codec.json params.safetensors samples.txt"
    assert {file.name for file in kept.path.iterdir()} == {*files.split(), "history.png", ".lock", "checkpoints"}
    rows = [json.loads(line) for line in (kept.path / "metrics.jsonl").read_text().splitlines()]
    assert [row["update"] for row in rows] == kept.metric("update").tolist()
    assert rows[0]["heldout_loss"] is None
    saved = json.loads((kept.path / "codec.json").read_text())
    assert saved["codec"]["tokens"] == list(kept.codec.tokens)
    assert saved["spec"] == {"inputs": {"Tokens": 12}, "targets": {"Tokens": 12}}
    arrays = safetensors.numpy.load_file(kept.path / "params.safetensors")
    layer, outer = kept.params["layer_0"], {name: kept.params[name] for name in ("W_hq", "b_q")}
    assert_same(arrays, jax.tree.map(np.asarray, {f"layer_0/{name}": layer[name] for name in layer} | outer))
    samples = (kept.path / "samples.txt").read_text()
    assert samples.startswith(f"--- greedy ---\n{kept.generate(TEXT[:12], 200)}\n\n--- temperature 0.8 ---\n")
    assert (kept.path / "history.png").read_bytes().startswith(b"\x89PNG")


def test_the_environment_says_what_a_run_depends_on(kept):
    record = json.loads((kept.path / "environment.json").read_text())
    assert record["data_sha256"] == kept.data_hashes == {"dataset": hashlib.sha256(LONG.encode()).hexdigest()}
    for name in ("seqjax", "jax", "jaxlib", "numpy", "optax"):
        assert record["versions"][name] == version(name)
    assert record["backend"] == jax.default_backend()
    assert record["devices"] == len(jax.devices())
    assert record["device"] == jax.devices()[0].device_kind
    assert (record["processes"], record["initial_params_sha256"]) == (1, None)
    assert {"python", "platform", "git_commit"} <= set(record)
    by_kind = {plugin["kind"]: plugin for plugin in record["plugins"]}
    assert set(by_kind) == {"dataset", "tokenizer", "sampler", "model", "gradient", "optimizer"}
    source = Path(__file__).parents[2] / "plugins" / "seqjax_models" / "rnn.py"
    assert by_kind["model"] == {
        **{"kind": "model", "id": "seqjax/rnn", "version": version("seqjax"), "target": "seqjax_models.rnn:RNN"},
        **{"file": "rnn.py", "sha256": hashlib.sha256(source.read_bytes()).hexdigest()},
    }


def test_an_opened_run_is_the_run(experiment, kept):
    run = Run.open(kept.path)
    assert_same(run.params, kept.params)
    assert run.experiment == kept.experiment == changed(experiment, tokenizer=Char())
    assert (repr(run), run.best_epoch) == (repr(kept), kept.best_epoch)
    for name in COLUMNS.split():
        np.testing.assert_array_equal(run.metric(name), kept.metric(name))
    assert run.generate("a mat", 50, 1.0, seed=3) == kept.generate("a mat", 50, 1.0, seed=3)
    for part, targets in (("train", 431), ("heldout", 47), ("rest", 47)):
        row = run.evaluate(part)
        assert row == kept.evaluate(part)
        assert row["tokens"] == targets
    assert run.evaluate() == run.evaluate("heldout")
    assert run.evaluate()["loss"] == kept.metrics[-1]["heldout_loss"]
    assert run.data.text == LONG


def test_a_run_is_opened_with_the_parameters_of_its_best_epoch(whole):
    opened = Run.open(whole.path, which="best")
    assert_same(opened.params, whole.best_params)
    assert_same(opened.best_params, whole.best_params)
    assert type(opened) is type(whole) is Run
    for name in ("metrics", "ending", "best_epoch", "experiment", "spec", "path", "stopped_at", "diverged", "finished"):
        assert getattr(opened, name) == getattr(whole, name)
    assert opened.codec_text == whole.codec_text
    assert f"which='best' of epoch {whole.best_epoch}" in repr(opened)
    assert opened.evaluate()["loss"] == min(whole.metric("heldout_loss"))
    with refused("which = 'first': choose 'last' or 'best'", 2):
        Run.open(whole.path, which="first")


def test_an_unfinished_run_has_the_parameters_and_rows_of_its_last_checkpoint(half, tmp_path, monkeypatch):
    run = Run.open(half)
    assert not run.finished
    assert run.metric("epoch").tolist() == [1]
    with crash_after(monkeypatch, 1):
        FULL.run(tmp_path / "run")
    same = changed(FULL, epochs=1, keep="last").run()
    assert not np.array_equal(run.params["W_hq"], same.params["W_hq"]), "it is within the second epoch"
    np.testing.assert_array_equal(run.kept_best["W_hq"], same.params["W_hq"])
    with refused(f"{tmp_path / 'run'} is unfinished: it has no parameters yet", 2):
        Run.open(tmp_path / "run")
    with refused(f"{half} is unfinished: its best epoch is not known yet", 2):
        Run.open(half, which="best")


def test_a_run_evaluates_any_text(kept):
    assert kept.evaluate(Text(LONG[432:480]))["loss"] == pytest.approx(kept.evaluate("heldout")["loss"])
    with pytest.warns(UserWarning, match=r"75\.00% of the text is unknown to the vocabulary"):
        assert kept.evaluate(Text("xyzt"))["loss"] > 2, "what is unknown counts too"
    with pytest.raises(Error, match=r"xyz\.txt has no token of the vocabulary .*\n.* whose tokens are ' ', "):
        kept.evaluate(Text("xyz" * 50, "xyz.txt"))
    assert math.isnan(kept.evaluate(Text("t"))["loss"])
    row = kept.evaluate(Text(LONG[:48]))
    assert row["bits_per_character"] == pytest.approx(row["loss"] / math.log(2))
    assert "bits_per_character" not in kept.evaluate(Text("t"))
    with refused("evaluate takes one of", 2):
        kept.evaluate(3)


def test_a_run_shows_itself_in_a_notebook(kept, whole, monkeypatch):
    assert f"2 of 2 epochs · {whole.path}" in str(whole).splitlines()[0]
    assert whole._repr_markdown_().count("|") > 8
    loss = f"heldout_loss={whole.metrics[-1]['heldout_loss']:.4g}"
    assert repr(whole) == f"Run(2 of 2 epochs, {loss}, path={str(whole.path)!r})"
    assert len(repr(whole.prepared)) < 300
    assert "array" not in repr(whole.prepared)
    assert "\n" not in repr(whole.prepared)
    assert repr(Run(TINY, None, whole.spec)) == "Run(0 of 2 epochs)"
    monkeypatch.setattr(plot, "history", HISTORY)
    train, heldout = kept.plot().axes[0].lines
    np.testing.assert_array_equal(train.get_ydata(), kept.metric("train_perplexity"))
    np.testing.assert_array_equal(heldout.get_xdata(), [3, 6, 9, 10])


def test_a_dataset_that_has_changed_is_exit_4(tmp_path):
    file, path = tmp_path / "cat.txt", tmp_path / "run"
    file.write_text(NOISE)
    base = changed(dataset=TextFile(path=str(file)), epochs=1)
    base.run(path)
    file.write_text(NOISE.replace("a", "e", 1))
    run = Run.open(path)
    assert run.generate("the", 5), "generating does not need the dataset"
    for use in (lambda: run.evaluate("heldout"), lambda: base.run(path)):
        with refused(f"{path}: its dataset has changed; its sha256 was {Text(NOISE).sha256}"):
            use()
    file.unlink()
    with refused("The data are named in .*config.toml. If a file was moved, put it back", 2):
        Run.open(path).evaluate("heldout")


def test_a_run_that_diverges_keeps_the_last_good_parameters(tmp_path):
    """It diverges in the first epoch, before the first row of metrics."""
    wild = changed(optimizer=Adam(1e38, clip_norm=1.0))
    with refused("(?s)diverged.*The parameters before it are in .*/wild/params.safetensors", 3) as caught:
        wild.run(tmp_path / "wild")
    assert caught.value.run.diverged
    run = Run.open(tmp_path / "wild")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run.params))
    assert (run.finished, run.diverged) == (False, True)
    assert "0 of 2 epochs · diverged · " in str(run)
    assert len(run.generate("the", 5)) == 8
    with refused("no metrics", 2):
        run.metric("train_loss")
    with refused(r"has no best epoch: training ended before", 2):
        _ = run.best_params
    with refused("diverged", 3) as caught:
        wild.run()
    assert "params.safetensors" not in str(caught.value)


def test_without_a_held_out_part_its_columns_are_nan():
    run = changed(train=432, heldout=0, epochs=1).run()
    assert np.isnan(run.metric("heldout_loss")).all()
    assert np.isnan(run.metric("heldout_perplexity")).all()
    assert run.best_epoch is None
    assert run.evaluate("heldout")["tokens"] == 0
    assert run.evaluate("rest")["tokens"] == 47


def test_metrics_of_the_experiment_are_columns_of_both_parts(tmp_path):
    base = changed(metrics=("accuracy",), evaluate_every=2)
    run = base.run(tmp_path / "run")
    assert [*run.metrics[0]] == [*COLUMNS.split(), "train_accuracy", "heldout_accuracy"]
    for part in ("train", "heldout"):
        assert math.isnan(run.metrics[0][f"{part}_accuracy"])
        assert run.metrics[1][f"{part}_accuracy"] == run.evaluate(part)["accuracy"] > 0.3
    np.testing.assert_equal(Run.open(tmp_path / "run").metrics, run.metrics)


def test_a_run_in_memory_writes_and_prints_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run = changed(epochs=1).run()
    assert (run.path, run.finished, list(tmp_path.iterdir())) == (None, True, [])
    assert run.data_hashes == {"dataset": TINY.dataset.sha256}
    assert capsys.readouterr() == ("", "")


def test_the_sample_is_prompted_from_the_training_part_alone():
    """The training part has six characters, and those after it are not in the vocabulary."""
    run = run_of(job_of(changed(dataset=Text("ababab" + "cdefgh"), train=6, heldout=2, sampler=Sequential(1, 2))))
    assert run.first_tokens(12) == "ababa"
    run.params = drawn_params(run.experiment.model, run.spec)
    assert [text[:5] for text in run.samples.values()] == ["ababa"] * 2


def test_options_of_the_wrong_type_are_refused_before_training(tmp_path):
    for options, words in (
        ({"callback": 3}, "callback = 3 is no function; pass one that takes the run"),
        ({"tracker": 3}, "tracker = 3 is no tracker"),
        *(({"checkpoint_seconds": value}, "must be a number, at least 0") for value in (-1, math.nan, True, "1")),
    ):
        with refused(words, 2):
            TINY.run(tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
    check_options(None, 0)
    check_options(None, np.float32(math.inf))


def test_one_character_is_not_all_of_them():
    """An int counts characters, and one is too few; only 1.0 is the whole dataset."""
    assert Experiment(train=1.0).train == 1.0
    with refused(r"train = 1\b(?!\.)", 2):
        changed(train=1, heldout=0).run()


def test_the_number_of_devices_of_a_run_is_that_with_which_it_was_begun(stopped):
    record = json.loads((stopped / folder.ENVIRONMENT).read_text())
    assert record["devices"] == 2
    with refused("devices: then 2, now 1"):
        FULL.run(stopped, devices=1)
    replace_file(stopped, folder.ENVIRONMENT, (json.dumps(record | {"devices": 1}) + "\n").encode())
    assert FULL.run(stopped).finished, "without a choice it is taken from the run"


def test_another_environment_is_exit_4_and_named(stopped, monkeypatch):
    record = json.loads((stopped / folder.ENVIRONMENT).read_text())
    plugins = {plugin["kind"]: plugin for plugin in record["plugins"]}
    now, record["device"], record["versions"]["jaxlib"] = record["versions"]["jaxlib"], "NVIDIA H100", "0.0.1"
    plugins["model"]["sha256"] = "0" * 64
    record["plugins"].remove(plugins["optimizer"])
    replace_file(stopped, folder.ENVIRONMENT, json.dumps(record).encode())
    before = contents(stopped)
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    precision, words = jax.default_matmul_precision("highest"), f"{stopped} was begun in another environment"
    with jax.enable_x64(True), precision, refused(words) as caught:
        FULL.run(stopped)
    beginnings = [
        "enable_x64: then False, now True",
        "default_matmul_precision: then None, now highest",
        "xla_flags: then , now --xla_cpu_enable_fast_math=true",
        "device: then NVIDIA H100, now cpu",
        f"jaxlib: then 0.0.1, now {now}",
        "model seqjax/rnn: then 0.",
        "optimizer seqjax/adam: then None, now ",
    ]
    problems = caught.value.problems
    assert len(problems) == len(beginnings)
    assert all(any(problem.startswith(words) for problem in problems) for words in beginnings), problems
    assert contents(stopped) == before


def test_a_tokenizer_whose_code_changed_is_exit_4(stopped, monkeypatch):
    monkeypatch.setattr(Char, "split", lambda self, text: text.replace("a", "x"))
    monkeypatch.setattr(Char, "is_of_characters", False)  # otherwise a table encodes the text
    before = contents(stopped)
    with refused(f"{stopped}: its tokenizer no longer gives the ids"):
        FULL.run(stopped)
    assert {**contents(stopped), folder.LOCK: b""} == {**before, folder.LOCK: b""}


CELL = """
from dataclasses import dataclass
import seqjax, seqjax_models
SCALE = 2
@seqjax.register("model", "mine")
@dataclass(frozen=True)
class Mine(seqjax_models.NGram):
    def scale(self):
        return SCALE
"""


def define_in_a_notebook(cell, name):
    """Defines the model of a cell as a notebook does: its kernel keeps the source of each cell in `linecache`."""
    lines = cell.splitlines(keepends=True)
    linecache.cache[name] = len(cell), None, lines, name
    exec(compile(cell, name, "exec"), {"__name__": "notebook"})
    return registry.get("model", "mine")


def test_a_class_of_a_notebook_that_was_changed_is_another_plugin(tmp_path, forget_local_plugins):
    base = Experiment(dataset=Text(TEXT), model=define_in_a_notebook(CELL, "<cell 1>")())
    base.run(tmp_path / "run")
    same = define_in_a_notebook(CELL, "<cell 2>")
    assert changed(base, model=same()).run(tmp_path / "run").finished
    other = define_in_a_notebook(CELL.replace("SCALE = 2", "SCALE = 3"), "<cell 3>")
    with refused("another model 'local/mine'"):
        changed(base, model=other()).run(tmp_path / "run")
    with refused("model 'mine' was defined without a file, which another process could load", 2):
        local_files(changed(base, model=other()))
    registry._registered.pop(("model", "local/mine"))
    with refused("needs model 'local/mine', which was defined without a file: define it again first", 2):
        Run.open(tmp_path / "run")


def test_an_experiment_that_no_file_can_keep_is_an_error_before_training(tmp_path):
    file = os.fsdecode(os.fsencode(tmp_path) + b"/b\xff.txt")
    Path(file).write_text(TEXT)
    with refused(r"cannot be saved as UTF-8.*b.udcff", 2):
        changed(dataset=TextFile(path=file)).run(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert changed(dataset=TextFile(path=file)).run().finished


def test_rows_have_the_targets_that_count_in_training():
    """Masked targets and those within the warm-up have the weight 0."""
    t = np.arange(400)
    experiment = {"dataset": Pairs(t, t % 3, mask=t % 5 == 0), "train": 400, "heldout": 0, "sampler": Sequential(4, 20)}
    run = run_of(job_of(Experiment(**experiment, model=MLP(lags=4, hidden=3), epochs=1)))
    run.params = drawn_params(run.experiment.model, run.spec)
    rows = run.scan_arguments(3, 30)
    weights_TB, inputs_TB = np.asarray(rows["weights"]), np.asarray(rows["xs"][0])
    for weights_T, inputs_T in zip(weights_TB.T, inputs_TB.T, strict=True):
        assert inputs_T.tolist() == list(range(inputs_T[0], inputs_T[0] + 30))
        assert np.flatnonzero(weights_T).tolist() == [i for i in range(3, 30) if inputs_T[i] % 5 == 0]
    assert weights_TB.sum() == pytest.approx(1, rel=1e-6)
    assert len(np.unique(weights_TB)) == 2
    with refused("no target in these 1 windows of 3 steps is scored", 2):
        run.scan_arguments(1, 3)
