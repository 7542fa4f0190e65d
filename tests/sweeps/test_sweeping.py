"""Sweeps from Python and from the command line: names, results and interruptions."""

import dataclasses
import importlib
import math
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from support.crash import contents, crash_after, results
from support.quick import AXES, BASE, CHUNKS, FLAGS, NAMES, TEXT, refused
from support.shell import call

from seqjax import Error, Experiment, Run, Runs, Text, create, sweep
from seqjax.files import PLAIN_NAME
from seqjax.gradients import Full, Truncated
from seqjax.models import GRU, RNN
from seqjax.optimizers import SGD
from seqjax.runs import listen
from seqjax.runs.files.folder import CODEC, CONFIG, ENVIRONMENT
from seqjax.runs.files.manifest import Manifest, read_manifest, write_manifest
from seqjax.sweeps import sweeping
from seqjax.sweeps.index import folder_name, write_index
from seqjax.sweeps.planning import combine

RATES = "optimizer.learning_rate"
WILD = {RATES: {"tame": 0.5, "wild": 1e38}, "seed": range(2)}
GRADIENTS = {"full": Full(), "2 steps": Truncated(steps=2)}


@pytest.mark.parametrize(
    ("axes", "expected"),
    [
        ({}, [""]),
        (AXES, NAMES),
        ({"gradient": GRADIENTS, "seed": np.arange(2)}, [f"{g}, seed={n}" for g in GRADIENTS for n in range(2)]),
        ({"model": [RNN(hidden=4), GRU()], "heldout": [0]}, ["model=rnn hidden=4, heldout=0", "model=gru, heldout=0"]),
    ],
)
def test_names_are_the_labels_in_order_with_the_seed_last(axes, expected):
    found = combine(BASE, axes)
    assert list(found) == expected
    for name, (variant, _) in found.items():
        assert variant == re.sub(r"(, )?seed=\d+$", "", name)


def test_each_variant_has_its_values():
    found = combine(BASE, {"seed": [5, 6], RATES: {"low": 0.1, "high": 2}, "epochs": [7]})
    for name, rate, seed in (("low", 0.1, 5), ("high", 2.0, 6)):
        planned = dataclasses.replace(BASE, epochs=7, seed=seed, optimizer=SGD(rate, clip_norm=1.0))
        assert found[f"{name}, epochs=7, seed={seed}"] == (f"{name}, epochs=7", planned)
    of_data = [*combine(BASE, {"dataset": [Text("ab" * 90), Text("ba" * 90)]})]
    assert [name[:13] for name in of_data] == ["dataset=Text "] * 2


@pytest.mark.parametrize(
    ("axes", "words"),
    [
        ({"gradent": [Full()]}, ["no field 'gradent'", "'gradient'"]),
        ({"model.hiden": [3]}, ["RNN has no field 'hiden'", "'hidden'"]),
        ({"epochs.hidden": [3]}, ["'epochs.hidden'", "no fields of its own"]),
        ({"model.hidden": [3, -1]}, ["hidden = -1", "int >= 1"]),
        ({"gradient": [Full()], "gradient.steps": []}, ["gradient.steps has no values"]),
        ({"seed": [1, 1]}, ["seed has a value twice"]),
        ({"epochs": {"a, b": 1, "a": 2}, "seed": {"c": 0, "b, c": 1}}, ["two runs", "'a, b, c'"]),
        ({"gradient": {"k=1": Full(), "k-1": Truncated(steps=2)}}, ["give the same folder", "'k=1', 'k-1'"]),
        ({"model": {"a": RNN(hidden=3), "b": RNN(hidden=3)}}, ["these are the same experiment: 'a', 'b'"]),
    ],
)
def test_what_cannot_be_swept_is_an_error_before_anything_is_trained(axes, words, tmp_path):
    with refused(*words):
        sweep(BASE, axes, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_every_run_is_the_one_that_is_made_alone(swept, tmp_path):
    path, runs = swept
    assert list(runs) == NAMES
    assert len(np.unique(runs.metric("train_loss")[:, -1])) == 4
    in_memory = sweep(BASE, {**AXES, "seed": [1]})
    name = "fast, seed=1"
    alone = combine(BASE, AXES)[name].experiment.run(tmp_path / name)
    assert results(alone.path) == results(runs[name].path)
    assert (runs[name].path.parent, in_memory[name].path) == (path, None)
    assert Run.open(runs[name].path).experiment == alone.experiment
    for column in ("train_loss", "heldout_loss", "grad_norm"):
        np.testing.assert_array_equal(in_memory[name].metric(column), alone.metric(column))


def test_a_sweep_can_be_repeated_and_extended(copied, swept):
    """Finished runs are opened, and their files are not touched."""
    before = {file: file.stat().st_mtime_ns for file in copied.glob("*/*") if file.is_file()}
    assert len(before) > 4 * 5
    more = sweep(BASE, {RATES: AXES[RATES], "seed": [1, 2]}, copied)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    opened = Runs.open(str(copied))
    assert {name: opened[name].metrics for name in NAMES} == {name: run.metrics for name, run in swept[1].items()}
    assert {*opened} == {*NAMES, *more}
    assert {variant: len(found) for variant, found in opened.variants.items()} == {"fast": 3, "slow": 3}
    (copied / "slow-seed-0" / "samples.txt").write_text("other")
    with refused("slow-seed-0/samples.txt has changed", exit_code=4):
        sweep(BASE, {**AXES, "seed": [3]}, copied)
    assert not (copied / "fast-seed-3").exists()


def test_an_interrupted_sweep_goes_on(tmp_path, swept, monkeypatch):
    """After two crashes inside the third of four runs, finished runs are not trained again."""
    path = tmp_path / "out"
    for chunks in (2 * 2 * CHUNKS + 3, 2):
        with crash_after(monkeypatch, chunks):
            sweep(BASE, AXES, path, checkpoint_seconds=0)
    done = {file: file.stat().st_mtime_ns for file in path.glob("fast-*/*")}
    assert len(done) > 10
    assert not (path / "slow-seed-0" / "params.safetensors").exists()
    with pytest.raises(Error, match="'slow, seed=1' yet"):
        Runs.open(path)
    trained, take = [], listen.Training.take
    with monkeypatch.context() as patch:
        patch.setattr(listen.Training, "take", lambda *args: (trained.append(args[0].run.path.name), take(*args))[1])
        runs = sweep(BASE, AXES, path)
    assert trained == ["slow-seed-0"] * 3 + ["slow-seed-1"] * 2 * CHUNKS
    assert {file: file.stat().st_mtime_ns for file in done} == done
    for name in NAMES:
        assert results(runs[name].path) == results(swept[1][name].path)


def test_a_run_that_diverges_does_not_end_the_sweep(tmp_path, capsys):
    runs = sweep(BASE, WILD, tmp_path, progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line[:6] for line in lines] == [f"[{n}/4] " for n in range(1, 5)]
    assert ["diverged" in line for line in lines] == [False, False, True, True]
    for found in (runs, Runs.open(tmp_path)):
        table = found.compare("heldout_perplexity", against="tame")
        assert (table["diverged"], table["runs"]) == ([0, 2], [2, 0])
        assert str(table.rows[1][2:8]) == str((math.nan, None, None) * 2)
        assert np.isnan(found.metric("train_loss")).tolist() == [[False, False]] * 2 + [[True, True]] * 2
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found["wild, seed=0"].params))


def test_a_folder_of_something_else_is_left_alone(tmp_path, swept):
    (tmp_path / "thesis.tex").write_text("precious")
    for path, name in ((tmp_path, "thesis.tex"), (swept[0] / "fast-seed-0", "checkpoints, codec.json")):
        before = contents(path)
        with refused(f"holds no sweep, but {name}"):
            sweep(BASE, {"seed": [0]}, path)
        assert contents(path) == before


def test_another_dataset_behind_the_same_experiment_is_an_error(tmp_path):
    """Also for a run that diverged, which is opened if the dataset is the same."""
    file, wild = tmp_path / "text.txt", {**WILD, "seed": [0]}
    file.write_text(TEXT)
    base = dataclasses.replace(BASE, dataset=create("dataset", "text-file", path=str(file)))
    for _ in range(2):
        assert sweep(base, wild, tmp_path / "out")["wild, seed=0"].diverged
    file.write_text(TEXT[::-1])
    for axes in (wild, {**wild, "seed": [0, 1]}):
        with refused("dataset has changed", exit_code=4):
            sweep(base, axes, tmp_path / "out")
    sweep(base, {"seed": [1]}, tmp_path / "new")
    with pytest.raises(Error, match="different datasets"):
        Runs.open(tmp_path / "out" / "tame-seed-0", tmp_path / "new" / "seed-1")


def test_any_names_are_folders():
    """Names that differ in more than separators have different ones."""
    labels = ["", "+", "-", "é", "\ud800", "x=1", "x=-1", "x" * 100, "x" * 101, "..", "a/b", "a b", "-rf", ".lock"]
    labels += ["sweep.json", "curves.png", "x.part"]
    folders = [*map(folder_name, labels)]
    assert all(re.fullmatch(PLAIN_NAME, each) for each in folders)
    assert len({*folders}) == len(labels)
    assert not {"sweep.json", "curves.png"} & {*folders}


def test_a_variant_may_have_any_name(tmp_path):
    """Also that of a file in the folder of the sweep, and one that is no UTF-8."""
    names = ["sweep.json", "curves.png", "x.part", "\ud800"]
    rates = {name: 0.1 * n for n, name in enumerate(names, 1)}
    for _ in range(2):
        assert list(sweep(dataclasses.replace(BASE, epochs=1), {RATES: rates}, tmp_path)) == names
    assert list(Runs.open(tmp_path)) == names


@pytest.mark.parametrize(
    ("base", "axes", "words"),
    [
        ({}, {RATES: {"slow-": 0.2}, "seed": [0]}, ["give the same folder", "'slow, seed=0', 'slow-, seed=0'"]),
        ({"heldout": 70}, AXES, ["fast: its runs differ in more than the seed", "heldout: 60 → 70"]),
        ({}, {RATES: {"new": 0.3}, "train": {"too many": 100_000}, "seed": [0]}, ["100,000"]),
        ({"seed": 9}, {}, ["differ from these in fields that are not varied", "optimizer"]),
    ],
)
def test_runs_that_do_not_belong_leave_a_sweep_as_it_was(swept, axes, base, words):
    """Otherwise its table would mix experiments, name one run twice, or lack a run that cannot be made."""
    before = contents(swept[0])
    with refused(*words):
        sweep(dataclasses.replace(BASE, **base), axes, swept[0])
    assert contents(swept[0]) == before


def test_runs_of_a_sweep_start_from_given_parameters():
    """With a learning rate so small that nothing changes, they end with them."""
    params = BASE.run().params
    found = sweep(BASE, {"seed": [1, 2], RATES: [1e-30]}, params=params)
    for run in found.values():
        jax.tree.map(np.testing.assert_array_equal, run.params, params)
    with pytest.raises(Error, match="params cannot be sent"):
        sweep(BASE, AXES, "out", params=params, launcher=create("launcher", "local"))


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "2")
    Path("text.txt").write_text(TEXT)
    return tmp_path


@pytest.fixture
def planned(place, monkeypatch):
    """Runs the command without training. Returns the variants by name, and what it has printed."""

    def plan(*argv):
        def take(variants, *args, **options):
            found.update(variants)
            raise KeyboardInterrupt

        found = {}
        monkeypatch.setattr(sweeping, "run_all", take)
        done = call(*argv)
        assert done.returncode == 130, done.stderr
        return found, done.stdout

    return plan


def test_long_runs_on_a_cpu_get_a_process_on_each_core(place, planned, monkeypatch):
    """A sweep goes on as it was begun."""
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES")
    command = importlib.import_module("seqjax.cli.sweep")
    monkeypatch.setattr("seqjax.training.devices.num_cores", lambda: 2)

    def has_launcher(least, *flags):
        monkeypatch.setattr(command, "MIN_OPERATIONS", least)
        _, said = planned("sweep", *FLAGS, *flags)
        return "launcher local, one run on each core" in said

    pair = ("--seeds", "0,1")
    assert has_launcher(0, *pair)
    assert not has_launcher(1e30, *pair)
    for flags in (["--seeds", "0"], [*pair, "--launcher", "none"], [*pair, "--devices", "1"]):
        assert not has_launcher(0, *flags)
    Path("out").mkdir()
    write_index(Path("out"), {})
    assert not has_launcher(0, *pair, "--out", "out")
    Path("out/_jobs").mkdir()
    assert has_launcher(1e30, *pair, "--out", "out")


def test_sweep_trains_every_combination_and_compares_them(place):
    flags = [*FLAGS[:-4], "--optimizer.learning-rate=0.5", "0.1", "--epochs", 2]
    variants = [f"{RATES}=0.5", f"{RATES}=0.1"]
    done = call("sweep", *flags, "--seeds", 0, 1, "--against", variants[0])
    assert done.returncode == 0, done.stderr
    out = Path("runs/sweep-1")
    assert f"saved    {out}\n" in done.stdout
    runs = Runs.open(out)
    assert list(runs) == [f"{variant}, seed={n}" for variant in variants for n in range(2)]
    assert [run.experiment.optimizer.learning_rate for run in runs.values()] == [0.5, 0.5, 0.1, 0.1]
    assert f"{runs.compare('heldout_perplexity', against=variants[0])}\n" in done.stdout
    for n, (name, run) in enumerate(runs.items()):
        assert f"[{n + 1}/4] {name}: held-out perplexity {run.metrics[-1]['heldout_perplexity']:.4g} (" in done.stdout
    command = next(line for line in done.stdout.splitlines() if line.startswith("next")).split()[2:]
    best = "best epoch (that with the lowest held-out loss)"
    head = f"train_loss, last epoch and {best}: mean over seeds, and its 95 % interval in brackets"
    assert call(*command).stdout == f"{head}\n{runs.compare('train_loss')}\n"
    folders = [out / folder_name(name) for name in runs]
    done = call("compare", *folders, "--metric", "train_loss", "--against", variants[0])
    assert str(runs.compare("train_loss", against=variants[0])) in done.stdout, done.stderr
    done = call("sweep", *flags, "--seeds", 2, "--out", out)
    assert f"{Runs.open(out).compare('heldout_perplexity')}\n" in done.stdout, "of three seeds"
    last = folders[-1]
    files = read_manifest(last).files
    write_manifest(last, Manifest({name: files[name] for name in (CONFIG, CODEC, ENVIRONMENT)}))
    done = call("sweep", *flags, "--seeds", 2, "--out", out)
    assert f"only these 2 runs are shown: {last} is unfinished" in done.stdout


def test_seeds_are_added_on_the_command_line(place):
    command = ["sweep", *FLAGS[:-4], "--optimizer.learning-rate=0.5", "0.1", "--epochs", 1, "--out", "out"]
    for seeds in ([], ["--seeds", "0,1"], []):
        done = call(*command, *seeds)
        assert done.returncode == 0, done.stderr
    assert "[1/2]" in done.stdout
    assert call("compare", "out").returncode == 0
    assert [len(runs) for runs in Runs.open("out").variants.values()] == [2, 2]


def test_without_a_held_out_part_the_training_loss_is_compared(place):
    done = call("sweep", *FLAGS[:6], "--heldout", 0, *FLAGS[8:], "--out", "out")
    assert done.returncode == 0, done.stderr
    last = Runs.open("out").first.metrics[-1]["train_perplexity"]
    assert f"] all: train perplexity {last:.4g} (" in done.stdout
    assert "\ntrain_perplexity, last epoch: mean over seeds, " in done.stdout
    assert "nan" not in done.stdout
    assert Path("out/curves.png").exists()


def test_flags_override_a_config_and_a_loaded_file(planned, forget_local_plugins):
    Path("c.toml").write_text(BASE.to_toml().replace(re.search(r"\[dataset\][^\[]*", BASE.to_toml())[0], ""))
    Path("mine.py").write_text(
        "import pathlib, dataclasses, seqjax\n"
        "with pathlib.Path('loads').open('a') as file: file.write('x')\n"
        "@seqjax.register('gradient', 'mine')\n@dataclasses.dataclass(frozen=True)\n"
        "class Mine(seqjax.WeightedEdges):\n    a: float = 1.0\n    claim = 'exact'\n"
    )
    argv = ["--config", "c.toml", "--load", "mine.py", "--seeds", "0,1", "--gradient", "full", "mine:a=2"]
    found, _ = planned("sweep", *argv)
    assert [e.model for _, e in found.values()] == [RNN(hidden=3)] * 4
    assert [type(e.gradient).__name__ for _, e in found.values()] == ["Full"] * 2 + ["Mine"] * 2
    assert Path("loads").read_text() == "x", "run once"
    found, _ = planned("sweep", "--model", "gru:hidden=5", "rnn", "--model.layers", 2)
    assert [e.model for _, e in found.values()] == [GRU(hidden=5, layers=2), RNN(layers=2)]


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("sweep --gradient", ["--gradient: expects a value", "seqjax sweep --help"]),
        ("sweep --seeds 0,", ["seed = ''"]),
        ("sweep --seeds 0,1 --figure x.foo", ["--figure x.foo: Format 'foo' is not supported", "png"]),
        ("sweep --seeds 0,1 --figure no/x.png", ["--figure no/x.png: there is no folder no; make it"]),
        ("sweep --seeds 0,0", ["--seed has a value twice"]),
        ("run --seeds 0,1 --epochs 1 --epochs 2", ["--epochs is given twice"]),
        ("sweep --seeds 0 --seed 1", ["--seeds and --seed"]),
        ("sweep --gradient full truncated:steps=4 --gradient.steps 8", ["--gradient.steps", "truncated:steps=4"]),
        ("sweep --model gru:hidden=5 --model.hidden 3 4", ["--model.hidden is given twice", "gru:hidden=5"]),
        ("sweep --gradient full truncated --against ful", ["no variant 'ful'", "'full'"]),
        (f"sweep {' '.join(FLAGS)} --out text.txt --seeds 0,1", ["text.txt"]),
    ],
)
def test_bad_input_ends_with_2_before_anything_is_trained(place, command, words):
    before = contents(place)
    done = call(*command.split())
    assert done.returncode == (6 if "--out" in command else 2), done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert contents(place) == before


def test_a_dry_run_prints_several_experiments(place):
    done = call("run", *FLAGS, "--seeds", "0,1", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert re.findall("# .*", done.stdout) == ["# seed=0", "# seed=1"]
    assert done.stdout.count("nothing was trained") == 2
    done = call("sweep", *FLAGS, "--gradient", "full", "truncated:steps=4", "--print-config")
    assert done.returncode == 0, done.stderr
    texts = re.split("^# .*$", done.stdout, flags=re.MULTILINE)[1:]
    assert [Experiment.from_toml(text).gradient for text in texts] == [Full(), Truncated(steps=4)]
    assert [*contents(place)] == ["text.txt"]
