"""Sweeps from Python and from the command line: names, results and interruptions."""

import dataclasses
import importlib
import math
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from support.crash import NoFigure, crash_after, forget_results, results
from support.shell import call

from seqjax import Error, Experiment, Run, Runs, Text, create, names, sweep
from seqjax.runs import record
from seqjax.sweeps.sweeping import combine
from seqjax.training import feed
from seqjax_gradients import Full, Randomized, Truncated
from seqjax_models import GRU, RNN
from seqjax_optimizers import SGD
from seqjax_samplers import Sequential

pytestmark = pytest.mark.usefixtures("optimized")

TEXT = "the cat sat on the mat and the dog sat on the log. " * 12
sweeps = importlib.import_module("seqjax.sweeps.sweeping")  # `seqjax.runs.sweep` is the function

BASE = Experiment(
    dataset=Text(TEXT), model=RNN(hidden=3), sampler=Sequential(2, 8), optimizer=SGD(0.5, clip_norm=1.0), epochs=2
)
AXES = {"seed": range(2), "gradient": {"full": Full(), "2 steps": Truncated(steps=2)}}
NAMES = ["full, seed=0", "full, seed=1", "2 steps, seed=0", "2 steps, seed=1"]


@pytest.fixture(autouse=True, scope="module")
def no_figures():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "plot", NoFigure)
        yield


@pytest.fixture(scope="module")
def swept(no_figures, tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "out"
    return path, sweep(BASE, AXES, path)


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ({}, [""]),
        ({"seed": [3, 1]}, ["seed=3", "seed=1"]),
        (AXES, NAMES),
        ({"gradient": AXES["gradient"], "seed": np.arange(2)}, NAMES),
        ({"epochs": [1, 2], "seed": [0]}, ["epochs=1, seed=0", "epochs=2, seed=0"]),
        ({"optimizer.learning_rate": [0.1, 1]}, ["optimizer.learning_rate=0.1", "optimizer.learning_rate=1"]),
        ({"model.hidden": {4: 4, 8: 8}, "seed": [5]}, ["4, seed=5", "8, seed=5"]),
        ({"model": [RNN(hidden=4), GRU()], "heldout": [0]}, ["model=rnn hidden=4, heldout=0", "model=gru, heldout=0"]),
        ({"epochs": [1, 2], "model.hidden": [3, 4]}, [f"epochs={n}, model.hidden={h}" for n in (1, 2) for h in (3, 4)]),
        ({"gradient": [Full()], "gradient.steps": []}, Error),
    ],
)
def test_names_are_the_labels_in_order_with_the_seed_last(axes, expected):
    if expected is Error:
        with pytest.raises(Error, match="has no values"):
            sweeps.combine(BASE, axes)
        return
    found = sweeps.combine(BASE, axes)
    assert list(found) == expected
    for name, (variant, _) in found.items():
        assert variant == re.sub(r"(, )?seed=\d+$", "", name)


def test_each_variant_has_its_values():
    found = sweeps.combine(BASE, {"seed": [5, 6], "optimizer.learning_rate": {"low": 0.1, "high": 2}, "epochs": [7]})
    for name, rate, seed in (("low", 0.1, 5), ("low", 0.1, 6), ("high", 2.0, 5), ("high", 2.0, 6)):
        variant, planned = found[f"{name}, epochs=7, seed={seed}"]
        assert variant == f"{name}, epochs=7"
        optimizer = SGD(rate, clip_norm=1.0)
        assert planned == dataclasses.replace(BASE, epochs=7, seed=seed, optimizer=optimizer)


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"gradent": [Full()]}, ["no field 'gradent'", "'gradient'"]),
        ({"model.hiden": [3]}, ["RNN has no field 'hiden'", "'hidden'"]),
        ({"epochs.hidden": [3]}, ["'epochs.hidden'", "no fields of its own"]),
        ({"tokenizer.min_freq": [3]}, ["no fields of its own"]),
        ({"model.hidden": [3, -1]}, ["hidden = -1", "int >= 1"]),
        ({"gradient": ["full"]}, ["gradient", "full"]),
        ({"seed": []}, ["seed has no values"]),
        ({"seed": [1, 1]}, ["seed has a value twice"]),
        ({"epochs": {"a, b": 1, "a": 2}, "seed": {"c": 0, "b, c": 1}}, ["two runs", "'a, b, c'"]),
        ({"gradient": {"k=1": Full(), "k-1": Truncated(steps=2)}}, ["give the same folder", "'k=1', 'k-1'"]),
    ],
)
def test_what_cannot_be_swept_is_an_error_before_anything_is_trained(axes, words, tmp_path):
    with pytest.raises(Error) as caught:
        sweep(BASE, axes, tmp_path / "out")
    assert caught.value.exit_code == 2
    for word in words:
        assert word in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_every_run_is_the_one_that_is_made_alone(swept, tmp_path):
    path, runs = swept
    assert list(runs) == NAMES
    in_memory = sweep(BASE, AXES)
    for name, (_, planned) in sweeps.combine(BASE, AXES).items():
        alone = planned.run(tmp_path / name)
        assert results(alone.path) == results(runs[name].path)
        assert runs[name].path.parent == path
        opened = Run.open(runs[name].path)
        assert opened.experiment.to_toml() == alone.experiment.to_toml()
        for column in ("train_loss", "heldout_loss", "grad_norm"):
            np.testing.assert_array_equal(in_memory[name].metric(column), alone.metric(column))
        assert in_memory[name].path is None
    assert runs.metric("train_loss").shape == (4, 2)
    assert len(np.unique(runs.metric("train_loss")[:, -1])) == 4


@pytest.mark.slow
def test_a_sweep_can_be_repeated_and_extended(swept, tmp_path):
    """Finished runs are opened, and their files are not touched."""
    path, runs = swept
    files = [file for file in path.rglob("*") if file.is_file() and file.parent != path]
    before = {file: file.stat().st_mtime_ns for file in files}
    assert len(before) > 4 * 5
    more = sweep(BASE, {**AXES, "seed": [1, 2]}, path)
    assert len(more) == 4
    assert {file: file.stat().st_mtime_ns for file in before} == before
    opened = Runs.open(path)
    for name in NAMES:
        np.testing.assert_array_equal(opened[name].metric("seconds"), runs[name].metric("seconds"))
    assert set(opened) == {*NAMES, *more}
    assert {variant: len(found) for variant, found in opened.variants.items()} == {"full": 3, "2 steps": 3}


@pytest.mark.slow
def test_an_interrupted_sweep_goes_on(tmp_path, monkeypatch):
    """After a crash inside the third of four runs, finished runs are not trained again."""
    monkeypatch.setattr(feed, "CHUNK_STEPS", 64)
    whole = sweep(BASE, AXES, tmp_path / "whole")
    chunks, take = [], record.Recorder.take
    with monkeypatch.context() as patch:
        patch.setattr(record.Recorder, "take", lambda *args: (chunks.append(args[0].run.path.name), take(*args))[1])
        sweep(BASE, AXES, tmp_path / "counted")
    third = chunks.index("2-steps-seed-0")
    path = tmp_path / "out"
    for n in (third + 3, 2):
        with crash_after(monkeypatch, n):
            sweep(BASE, AXES, path, checkpoint_seconds=0)
    done = {file: file.stat().st_mtime_ns for file in path.glob("full-*/*")}
    assert len(done) > 10
    assert not (path / "2-steps-seed-0" / "params.safetensors").exists()
    with pytest.raises(Error, match="'2 steps, seed=1' yet"):
        Runs.open(path)
    trained = []
    with monkeypatch.context() as patch:
        patch.setattr(record.Recorder, "take", lambda *args: (trained.append(args[0].run.path.name), take(*args))[1])
        runs = sweep(BASE, AXES, path)
    assert set(trained) == {"2-steps-seed-0", "2-steps-seed-1"}
    assert trained.count("2-steps-seed-0") == chunks.count("2-steps-seed-0") - 5, "it went on from its checkpoint"
    assert {file: file.stat().st_mtime_ns for file in done} == done
    for name in NAMES:
        assert results(runs[name].path) == results(whole[name].path)


WILD = {"optimizer.learning_rate": {"tame": 0.5, "wild": 1e38}, "seed": range(2)}


@pytest.mark.parametrize("kept", [True, False])
def test_a_run_that_diverges_does_not_end_the_sweep(tmp_path, kept, capsys):
    runs = sweep(BASE, WILD, tmp_path if kept else None, progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.startswith(f"[{n + 1}/4] ") for n, line in enumerate(lines)] == [True] * 4
    assert ["diverged" in line for line in lines] == [False, False, True, True]
    opened = [runs, Runs.open(tmp_path)] if kept else [runs]
    for found in opened:
        table = found.compare("heldout_perplexity", against="tame")
        assert table["diverged"] == [0, 2]
        assert table["runs"] == [2, 0]
        assert str(table.rows[1][2:8]) == str((math.nan, None, None) * 2)
        assert np.isnan(found.metric("train_loss")).tolist() == [[False, False]] * 2 + [[True, True]] * 2
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found["wild, seed=0"].params))


@pytest.mark.slow
def test_a_folder_of_something_else_is_left_alone(tmp_path, swept):
    (tmp_path / "thesis.tex").write_text("precious")
    for path, name in ((tmp_path, "thesis.tex"), (swept[0] / "full-seed-0", "checkpoints, codec.json")):
        before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
        with pytest.raises(Error, match=f"holds no sweep, but {name}") as caught:
            sweep(BASE, {"seed": [0]}, path)
        assert caught.value.exit_code == 2
        assert {file: file.read_bytes() for file in path.rglob("*") if file.is_file()} == before


@pytest.mark.slow
def test_another_experiment_in_the_folder_of_a_sweep_is_an_error(swept):
    other = dataclasses.replace(BASE, heldout=0.2)
    with pytest.raises(Error, match=r"full: its runs differ[^$]*heldout: there .*, asked for 0.2"):
        sweep(other, AXES, swept[0])
    for differs in (other, dataclasses.replace(BASE, epochs=3)):  # other seeds of these variants exist
        with pytest.raises(Error, match="differ in more than the seed"):
            sweep(differs, AXES | {"seed": [7]}, swept[0])
    assert len(Runs.open(swept[0]).variants["full"]) < 4


@pytest.mark.slow
def test_another_dataset_behind_the_same_experiment_is_an_error(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("the cat sat. " * 60)
    base = dataclasses.replace(BASE, dataset=create("dataset", "text-file", path=str(file)))
    sweep(base, {"seed": [0]}, tmp_path / "out")
    file.write_text("the dog ran. " * 60)
    with pytest.raises(Error, match="dataset has changed") as caught:
        sweep(base, {"seed": [0, 1]}, tmp_path / "out")
    assert caught.value.exit_code == 4
    sweep(base, {"seed": [1]}, tmp_path / "new")
    with pytest.raises(Error, match="different datasets"):
        Runs.open(tmp_path / "out" / "seed-0", tmp_path / "new" / "seed-1")


@pytest.mark.slow
@pytest.mark.parametrize(
    "axes",
    [
        {},
        {"gradient": {"+": Full()}},
        {"gradient": {"+": Full(), "-": Truncated(steps=2), "é": Truncated(steps=3), "": Truncated(steps=4)}},
        {"optimizer.learning_rate": {"x=1": 0.1, "x=-1": 0.2}},
        {"gradient": {"x" * 100: Full()}, "seed": [0, 1]},
    ],
    ids=["one experiment", "a sign", "signs", "negative", "long"],
)
def test_any_names_are_folders(axes, tmp_path):
    runs = sweep(dataclasses.replace(BASE, epochs=1), axes, tmp_path / "out")
    assert list(Runs.open(tmp_path / "out")) == list(runs)
    assert len({run.path for run in runs.values()}) == len(runs) == len(combine(BASE, axes))
    assert all(run.path.parent == tmp_path / "out" for run in runs.values())


SHORT = dataclasses.replace(BASE, epochs=1)


@pytest.mark.parametrize(
    ("base", "axes", "words"),
    [
        (SHORT, {"gradient": {"8-steps": Truncated(steps=4)}}, ["give the same folder", "'8 steps', '8-steps'"]),
        (SHORT, {"gradient": {"8 steps": Truncated(steps=4)}}, ["8 steps: its runs differ in more than the seed"]),
        (SHORT, {"gradient": {"9 steps": Truncated(steps=9)}, "train": {"too many": 100_000}}, ["100,000"]),
        (
            BASE,
            {"gradient": {"full": Full()}},
            ["differ from full in fields that are not varied", "epochs: there 1, asked for 2"],
        ),
        (SHORT, {"model.hidden": {"wide": 4}}, ["gradient: there", "truncated", "full"]),
        (SHORT, {}, ["differ from these in fields that are not varied", "gradient"]),
    ],
    ids=["folder", "experiment", "untrainable", "base", "other field", "none"],
)
def test_runs_that_do_not_belong_leave_a_sweep_as_it_was(axes, base, words, tmp_path):
    """Otherwise its table would mix experiments, name one run twice, or lack a run that cannot be made."""
    sweep(SHORT, {"gradient": {"8 steps": Truncated(steps=8)}}, tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and file.name != ".lock"}
    with pytest.raises(Error) as caught:
        sweep(base, axes, tmp_path)
    assert caught.value.exit_code == 2
    for word in words:
        assert word in str(caught.value)
    assert {
        file: file.read_bytes() for file in tmp_path.rglob("*") if file.name != ".lock" and file.is_file()
    } == before
    assert len(Runs.open(tmp_path)) == 1


@pytest.mark.slow
def test_a_seed_in_another_precision_does_not_join_a_variant(tmp_path):
    """It is refused before training, and when single runs are compared."""
    sweep(SHORT, {"seed": [0]}, tmp_path / "a")
    with jax.enable_x64(True):
        with pytest.raises(Error, match="enable_x64: then False, now True"):
            sweep(SHORT, {"seed": [1]}, tmp_path / "a")
        sweep(SHORT, {"seed": [1]}, tmp_path / "b")
    assert len(Runs.open(tmp_path / "a")) == 1
    with pytest.raises(Error, match=r"different environments[^$]*enable_x64"):
        Runs.open(tmp_path / "a" / "seed-0", tmp_path / "b" / "seed-1")


@pytest.mark.slow
def test_a_run_that_diverged_is_not_opened_for_another_dataset(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("the cat sat. " * 60)
    base = dataclasses.replace(SHORT, dataset=create("dataset", "text-file", path=str(file)))
    wild = {"optimizer.learning_rate": {"wild": 1e38}}
    assert sweep(base, wild, tmp_path / "out")["wild"].diverged
    assert sweep(base, wild, tmp_path / "out")["wild"].diverged
    file.write_text("the dog ran. " * 60)
    with pytest.raises(Error, match="dataset has changed") as caught:
        sweep(base, wild, tmp_path / "out")
    assert caught.value.exit_code == 4


@pytest.mark.slow
def test_an_experiment_of_each_variant_is_read_once_before_a_sweep_goes_on(tmp_path, monkeypatch):
    axes = {"gradient": AXES["gradient"], "seed": range(3)}
    sweep(SHORT, axes, tmp_path)
    read, paths = sweeps.read_experiment, []
    monkeypatch.setattr(sweeps, "read_experiment", lambda path: (paths.append(path.name), read(path))[1])
    sweep(SHORT, axes, tmp_path)
    assert sorted(path.rpartition("-seed-")[0] for path in paths) == ["2-steps", "full"]


def test_one_experiment_twice_is_an_error():
    with pytest.raises(Error, match="these are the same experiment: 'a', 'b'"):
        sweep(BASE, {"model": {"a": RNN(hidden=3), "b": RNN(hidden=3)}})


def test_data_in_memory_are_named_by_their_hash():
    names = [*combine(BASE, {"dataset": [Text("ab" * 90), Text("ba" * 90)]})]
    assert len(names) == 2
    assert all(name.startswith("dataset=Text ") for name in names)


EXPERIMENT = [
    *("--dataset", "text-file", "--dataset.path", "text.txt", "--train", 500, "--heldout", 100),
    *("--sampler.batch-size", 2, "--sampler.num-steps", 8, "--model.hidden", 3, "--epochs", 2),
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    Path("text.txt").write_text(TEXT)
    return tmp_path


def made(done):
    """The variants that a command would train."""
    assert done.returncode == 0, done.stderr


@pytest.fixture
def planned(place, monkeypatch):
    """Runs the command without training, and returns the variants by name."""
    found = {}

    def take(variants, *args, **options):
        found.update(variants)
        raise KeyboardInterrupt

    def plan(*argv):
        found.clear()
        monkeypatch.setattr(sweeps, "run_all", take)
        done = call(*argv)
        assert done.returncode == 130, done.stderr
        return dict(found)

    return plan


@pytest.mark.slow
def test_long_runs_on_a_cpu_get_a_process_on_each_core(place, monkeypatch):
    """Each has the bits of a run alone on one device. A sweep goes on as it was begun."""
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES")
    command = importlib.import_module("seqjax.cli.sweep")
    monkeypatch.setattr(command, "MIN_OPERATIONS", 0)
    argv = ["sweep", *EXPERIMENT, "--seeds", "0,1"]
    done = call(*argv, "--out", "apart")
    assert done.returncode == 0, done.stderr
    assert "launcher local, one run on each core" in done.stdout
    done = call(*argv, "--launcher", "none", "--devices", 1, "--out", "in-turn")
    assert done.returncode == 0, done.stderr
    assert "launcher" not in done.stdout
    for n in range(2):
        assert results(place / "apart" / f"seed-{n}") == results(place / "in-turn" / f"seed-{n}")
    assert "launcher local" not in call(*argv, "--out", "in-turn").stdout
    monkeypatch.setattr(command, "MIN_OPERATIONS", 1e30)
    assert "launcher local" in call(*argv, "--out", "apart").stdout
    assert "launcher local" not in call(*argv, "--out", "new").stdout


@pytest.mark.slow
def test_sweep_trains_every_combination_and_compares_them(place):
    argv = ["sweep", *EXPERIMENT, "--gradient", "full", "truncated:steps=4", "--seeds", "0,1,2", "--out", "out"]
    done = call(*argv, "--against", "full")
    assert done.returncode == 0, done.stderr
    runs = Runs.open("out")
    variants = ["full", "truncated:steps=4"]
    assert list(runs) == [f"{variant}, seed={n}" for variant in variants for n in range(3)]
    assert [run.experiment.gradient for run in runs.values()] == [Full()] * 3 + [Truncated(steps=4)] * 3
    table = str(runs.compare("heldout_perplexity", against="full"))
    assert f"{table}\n" in done.stdout
    for n, (name, run) in enumerate(runs.items()):
        assert f"[{n + 1}/6] {name}: held-out perplexity {run.metrics[-1]['heldout_perplexity']:.4g} (" in done.stdout
    alone = call("run", *EXPERIMENT, "--gradient", "truncated", "--gradient.steps", 4, "--seed", 1, "--out", "alone")
    assert alone.returncode == 0, alone.stderr
    assert results(place / "alone") == results(runs["truncated:steps=4, seed=1"].path)
    command = next(line for line in done.stdout.splitlines() if line.startswith("next")).split()[2:]
    best = "best epoch (that with the lowest held-out loss)"
    head = f"train_loss, last epoch and {best}: mean over seeds, and its 95 % interval (from, to)"
    assert call(*command).stdout == f"{head}\n{runs.compare('train_loss')}\n"
    before = {file: file.stat().st_mtime_ns for file in Path("out").glob("*/*")}
    again = call(*argv)
    assert again.returncode == 0
    assert {file: file.stat().st_mtime_ns for file in before} == before

    folders = [f"out/{name}-seed-{n}" for name in ("full", "truncated-steps-4") for n in range(3)]
    done = call("compare", *folders, "--metric", "train_loss", "--against", "gradient=full")
    assert done.returncode == 0, done.stderr
    expected = runs.compare("train_loss", against="full")
    shown = Runs.open(*folders).compare("train_loss", against="gradient=full")
    assert [row[1:] for row in shown.rows] == [row[1:] for row in expected.rows]
    assert str(shown) in done.stdout
    assert shown["variant"] == ["gradient=full", "gradient=truncated, gradient.steps=4"]
    for argv, words in (
        (["out", "--metric", "trainloss"], ["trainloss", "'train_loss'"]),
        (["out", "--against", "truncated"], ["no variant 'truncated'", "'truncated:steps=4'"]),
        (["out", "nowhere"], ["out holds a sweep; name the folder of one of its runs"]),
        (["nowhere"], ["nowhere", "holds no run"]),
        ([], ["RUN", "seqjax compare --help"]),
        ([folders[0], folders[0]], ["twice"]),
        (["out", "--agianst", "full"], ["'--against'"]),
    ):
        done = call("compare", *argv)
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        for word in words:
            assert word in done.stderr


def test_run_with_seeds_is_a_sweep(place):
    done = call("run", *EXPERIMENT, "--seeds", "0,1", "--epochs", 1)
    assert (done.returncode, "--epochs is given twice" in done.stderr) == (2, True)
    done = call("run", *EXPERIMENT[:-2], "--seeds", "0,1", "--epochs", 1)
    assert done.returncode == 0, done.stderr
    assert "saved    runs/sweep-1\n" in done.stdout
    assert list(Runs.open("runs/sweep-1")) == ["seed=0", "seed=1"]
    assert "\nall " in done.stdout
    done = call("compare", "runs/sweep-1/seed-0", "runs/sweep-1/seed-1")
    assert "\nall " in done.stdout


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--seeds", "0,1"], ["seed=0", "seed=1"]),
        (["--seeds", "3", "5"], ["seed=3", "seed=5"]),
        (["--seeds=0,1"], ["seed=0", "seed=1"]),
        (["--seed", "7"], ["seed=7"]),
        (["--model.hidden", 64, 128], ["model.hidden=64", "model.hidden=128"]),
        (["--model.hidden=64", "128", "--seeds", 1], ["model.hidden=64, seed=1", "model.hidden=128, seed=1"]),
        (["--heldout", "0.1", "0"], ["heldout=0.1", "heldout=0"]),
        (["--model", "rnn", "gru:hidden=5:layers=2"], ["rnn", "gru:hidden=5:layers=2"]),
        (["--gradient", "randomized:keep_prob=0.9,0.8"], [""]),
        (["--gradient", "full", "randomized:keep-prob=0.9"], ["full", "randomized:keep-prob=0.9"]),
        (["--sampler.batch_size", "2", "4"], ["sampler.batch_size=2", "sampler.batch_size=4"]),
        (["--dataset", "text-file:path=a:b.txt"], [""]),
        (["--devices", "2", "--seeds", "1"], ["seed=1"]),
    ],
)
def test_several_values_of_a_flag_are_variants(planned, argv, expected):
    assert list(planned("sweep", *argv)) == expected


def test_values_are_read_by_the_type_of_their_field(planned):
    def one(*argv):
        ((_, e),) = planned("sweep", *argv).values()
        return e

    assert one("--gradient", "randomized:keep_prob=0.9,0.8").gradient == Randomized(keep_prob=(0.9, 0.8))
    assert one("--gradient", "randomized", "--gradient.keep-prob", "0.9,0.8").gradient.keep_prob == (0.9, 0.8)
    assert one("--dataset", "text-file:path=a:b.txt").dataset.path == "a:b.txt"
    assert one("--optimizer", "sgd:learning_rate=1e-2:clip_norm=none").optimizer == SGD(0.01)
    assert one("--model.hidden", 5).model.hidden == 5
    found = planned("sweep", "--model", "gru:hidden=5", "rnn", "--model.layers", 2)
    assert [e.model for _, e in found.values()] == [GRU(hidden=5, layers=2), RNN(layers=2)]


def test_flags_override_a_config_and_a_loaded_file(planned):
    Path("c.toml").write_text(BASE.to_toml().replace(re.search(r"\[dataset\][^\[]*", BASE.to_toml())[0], ""))
    Path("mine.py").write_text(
        "import pathlib, dataclasses, seqjax\n"
        "with pathlib.Path('loads').open('a') as file: file.write('x')\n"
        "@seqjax.register('gradient', 'mine')\n@dataclasses.dataclass(frozen=True)\n"
        "class Mine(seqjax.WeightedEdges):\n    'Mine.'\n    a: float = 1.0\n    'A.'\n    claim = 'exact'\n"
    )
    try:
        argv = ["--config", "c.toml", "--load", "mine.py", "--seeds", "0,1", "--gradient", "full", "mine:a=2"]
        found = planned("sweep", *argv)
        assert [e.model for _, e in found.values()] == [RNN(hidden=3)] * 4
        assert [type(e.gradient).__name__ for _, e in found.values()] == ["Full"] * 2 + ["Mine"] * 2
        assert Path("loads").read_text() == "x", "run once"
    finally:
        from seqjax.plugin import registry

        for key in [key for key in registry._registered if key[1] == "local/mine" or "mine" in str(key)]:
            del registry._registered[key]
    assert "mine" not in names("gradient")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("sweep --gradient full randmized", ["'randomized'"]),
        ("sweep --gradient full truncated:steps=0", ["steps = 0", "int >= 1"]),
        ("sweep --gradient truncated:stps=3", ["stps", "'steps'"]),
        ("sweep --gradient truncated:8", ["truncated:8"]),
        ("sweep --gradient", ["--gradient: expects a value", "seqjax sweep --help"]),
        ("sweep --seeds", ["--seeds"]),
        ("sweep --seeds 0,", ["seed = ''"]),
        ("sweep --seeds 0,one", ["seed = 'one'"]),
        ("sweep --seeds -1", ["seed = -1"]),
        ("sweep --seeds 0,0", ["--seed has a value twice"]),
        ("sweep --seeds 0 --seed 1", ["--seeds and --seed"]),
        ("sweep --model.hidden 3 3", ["--model.hidden has a value twice"]),
        ("sweep --gradient full truncated:steps=4 --gradient.steps 8", ["--gradient.steps", "truncated:steps=4"]),
        ("sweep --model gru:hidden=5 --model.hidden 3 4", ["--model.hidden is given twice", "gru:hidden=5"]),
        ("sweep --model.hidden 3 --model.hidden 4", ["--model.hidden is given twice"]),
        ("sweep --modle rnn", ["--modle", "'--model'"]),
        ("sweep rnn", ["rnn", "seqjax sweep --help"]),
        ("sweep --seeds 0,1 --devices two", ["--devices"]),
        ("sweep --gradient full truncated --against ful", ["no variant 'ful'", "'full'"]),
        ("sweep --config nowhere.toml", ["nowhere.toml"]),
        ("sweep --out text.txt --seeds 0,1", ["text.txt"]),
    ],
)
def test_bad_input_ends_with_2_before_anything_is_trained(place, command, words):
    before = sorted(place.rglob("*"))
    done = call(*command.split())
    assert done.returncode == (6 if "--out" in command else 2), done.stderr
    for word in words:
        assert word in done.stderr
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["--gradient", "full", "-h"], ["--gradient", "full", "--help"]])
def test_help(place, argv):
    done = call("sweep", *argv)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: seqjax sweep")
    assert "--against" in done.stdout
    assert call("compare", "--help").stdout.startswith("usage: seqjax compare")


@pytest.mark.slow
def test_without_a_held_out_part_the_training_loss_is_compared(place):
    done = call("sweep", *EXPERIMENT[:4], "--train", "1.0", "--heldout", 0, *EXPERIMENT[8:], "--out", "out")
    assert done.returncode == 0, done.stderr
    last = Runs.open("out").first.metrics[-1]["train_perplexity"]
    assert f"] all: train perplexity {last:.4g} (" in done.stdout
    assert "\ntrain_perplexity, last epoch: mean over seeds, " in done.stdout
    assert "nan" not in done.stdout
    assert Path("out/curves.png").stat().st_size > 0
    done = call("compare", "out", "--metric", "heldout_loss", "--figure", "curves.xyz")
    assert (done.returncode, "--figure curves.xyz: " in done.stderr) == (2, True)


@pytest.mark.slow
def test_an_added_seed_is_shown_with_the_earlier_ones(place):
    assert call("sweep", *EXPERIMENT, "--seeds", "0,1", "--out", "out").returncode == 0
    done = call("sweep", *EXPERIMENT, "--seeds", 2, "--out", "out", "--against", "all")
    assert done.returncode == 0, done.stderr
    table = Runs.open("out").compare("heldout_perplexity", against="all")
    assert table["runs"] == [3]
    assert f"{table}\n" in done.stdout


def test_an_added_run_is_shown_alone_while_others_are_unfinished(place):
    assert call("sweep", *EXPERIMENT, "--seeds", "0,1", "--out", "out").returncode == 0
    forget_results(Path("out/seed-1"))
    Path("out/seed-1/params.safetensors").unlink()
    shutil.rmtree("out/seed-1/checkpoints")
    done = call("sweep", *EXPERIMENT, "--seeds", 2, "--out", "out")
    assert done.returncode == 0, done.stderr
    assert "1 runs are shown: out/seed-1 is unfinished" in done.stdout


def test_a_dry_run_prints_several_experiments(place):
    done = call("run", *EXPERIMENT, "--seeds", "0,1", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert re.findall("# .*", done.stdout) == ["# seed=0", "# seed=1"]
    assert done.stdout.count("nothing was trained") == 2
    done = call("sweep", *EXPERIMENT, "--gradient", "full", "truncated:steps=4", "--print-config")
    assert done.returncode == 0, done.stderr
    texts = re.split("^# .*$", done.stdout, flags=re.MULTILINE)[1:]
    assert [Experiment.from_toml(text).gradient for text in texts] == [Full(), Truncated(steps=4)]
    assert [file.name for file in place.iterdir()] == ["text.txt"]


def test_runs_of_a_sweep_start_from_given_parameters():
    """With a learning rate so small that nothing changes, they end with them."""
    params = BASE.run().params
    found = sweep(dataclasses.replace(BASE, optimizer=SGD(1e-30)), AXES, params=params)
    for name in NAMES:
        jax.tree.map(np.testing.assert_array_equal, found[name].params, params)
    with pytest.raises(Error, match="params cannot be sent"):
        sweep(BASE, AXES, "out", params=params, launcher=create("launcher", "local"))
