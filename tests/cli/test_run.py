"""`seqjax run`: its folder, its help and its output."""

import re
import shlex
from pathlib import Path

import pytest
from support.crash import forget_results
from support.shell import call
from support.small_run import EXPERIMENT, NGRAM, TEXT, damage

from seqjax import Run, Runs


def test_a_run_without_parameters_is_trained_to_its_end(run_):
    """Until then the other verbs report that it is unfinished."""
    out = damage(run_, "params.safetensors", None)
    forget_results(out, checkpoints=True)
    assert f"{out} is unfinished" in call("generate", out).stderr
    done = call("run", *EXPERIMENT, "--out", out)
    assert done.returncode == 0, done.stderr
    assert (out / "params.safetensors").exists()
    assert f"saved    {out}\n" in done.stdout


def test_run_help_shows_the_parameters_of_the_chosen_plugins():
    chosen = ["--gradient", "randomized", "--optimizer", "adam", "--dataset", "text-file"]
    text = call("run", *chosen, "--help").stdout
    for words in ("gradient seqjax/randomized", "--gradient.keep-prob   float in (0, 1] or", "--optimizer.b1 "):
        assert words in text
    for flag in ("--dataset.errors", "--dataset.path", "--sampler.batch-size", "--model.hidden"):
        assert re.search(rf"^  {flag}  ", text, re.MULTILINE)
    default = call("run", "--help").stdout
    for flag in ("--gradient.keep-prob", "--optimizer.b1", "--dataset.path"):
        assert flag not in default
    assert "--optimizer.learning-rate" in default


def test_run_help_shows_the_values_that_would_be_used():
    """The default experiment has the learning rate 1.0, which is not the default of the optimizer's class."""
    text = call("run", "--model.hidden", 77, "--help").stdout
    for flag, value in {"--optimizer.learning-rate": "1.0", "--model.hidden": "77"}.items():
        assert re.search(rf"^  {flag} .*default {value}$", text, re.MULTILINE)


def test_a_run_prints_plain_lines_and_the_next_commands(trained, folder, monkeypatch):
    monkeypatch.chdir(folder)
    out = trained.stdout
    assert trained.stderr == ""
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", out), "control characters off a terminal"
    lines = out.splitlines()
    for word in ("device", "dataset", "model", "epoch", "sample", "saved", "next"):
        assert sum(line.startswith(word) for line in lines) == 1, word
    row = Run.open("run").metrics[-1]
    (last,) = (line.split() for line in lines if line.startswith(f"{row['epoch']:5}  "))
    assert float(last[1]) == pytest.approx(row["train_loss"], abs=1e-3)
    assert float(last[3]) == pytest.approx(row["heldout_perplexity"], abs=1e-2)
    commands = [line.removeprefix("next").strip() for line in lines[[line[:4] for line in lines].index("next") :]]
    assert [shlex.split(command)[:2] for command in commands] == [["seqjax", verb] for verb in ("generate", "run")]
    assert "--dataset text-file --dataset.path" in commands[1]
    assert call(*shlex.split(commands[0])[1:]).returncode == 0


def test_without_out_a_new_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    Path("runs", "text-file-ngram-1").mkdir(parents=True)
    done = call("run", *NGRAM)
    assert done.returncode == 0, done.stderr
    assert "saved    runs/text-file-ngram-2\n" in done.stdout
    assert Run.open("runs/text-file-ngram-2").finished
    assert list(Path("runs", "text-file-ngram-1").iterdir()) == []


def test_run_with_several_seeds_is_a_sweep(folder, monkeypatch):
    monkeypatch.chdir(folder)
    done = call("run", *NGRAM, "--seeds", "0,1", "--out", "seeds")
    assert done.returncode == 0, done.stderr
    assert sorted(run.experiment.seed for run in Runs.open("seeds").values()) == [0, 1]
    assert "saved    seeds\n" in done.stdout
    for verb in ("run", "sweep"):
        assert call(verb, "--seeds", "0,1", "--help").stdout.startswith("usage: seqjax sweep")
