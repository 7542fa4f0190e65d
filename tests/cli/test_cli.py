"""The command line: exit codes, messages and output of each verb."""

import dataclasses
import json
import math
import os
import re
import shlex
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from support.shell import call, run, seqjax

from seqjax import Experiment, Run, Runs, Series, Text, __version__, names
from seqjax.cli import main
from seqjax.plugin import registry
from seqjax_models import RNN
from seqjax_samplers import Sequential

C_LOCALE = {"LC_ALL": "C", "LANG": None, "PYTHONUTF8": None, "PYTHONIOENCODING": None}
ASCII = {**C_LOCALE, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}

TEXT = "the quick brown fox jumps over the lazy dog, und 🎉 für Élise. " * 20


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    """Keeps the number of devices of the test session."""
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", str(os.cpu_count()))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    (folder / "text.txt").write_text(TEXT, encoding="utf-8")
    return folder


EXPERIMENT = [
    *("--dataset", "text-file", "--dataset.path", "text.txt", "--train", 1000, "--heldout", 150),
    *("--sampler.batch-size", 4, "--sampler.num-steps", 8, "--model.hidden", 8, "--epochs", 3),
]


@pytest.fixture(scope="module")
def trained(folder):
    """A run in folder/run, made by a separate process in the C locale. Returns the finished process."""
    done = seqjax("run", *EXPERIMENT, "--out", "run", cwd=folder, **C_LOCALE)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture
def run_(trained, folder, monkeypatch):
    """The path of that run, relative to its folder."""
    monkeypatch.chdir(folder)
    return Path("run")


KINDS = list(registry.GROUPS)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("rnu", ["no verb 'rnu'", "'run'", "generate", "seqjax --help"]),
        ("--verbose", ["--verbose", "seqjax --help"]),
        ("list modle", ["unknown kind 'modle'", "'model'", *KINDS]),
        ("list models", ["unknown kind 'models'", "'model'"]),
        ("list model rnn", ["rnn", "seqjax list --help"]),
        ("list --kind model", ["--kind", "seqjax list --help"]),
        ("show", ["kind, name", "seqjax show --help"]),
        ("show model", ["name", "seqjax show --help"]),
        ("show modle rnn", ["unknown kind 'modle'", "'model'", *KINDS]),
        ("show model rnm", ["unknown model 'rnm'", "'rnn'", "known: "]),
        ("show model seqjax/rnm", ["'seqjax/rnn'"]),
        ("run --model rn", ["[model]", "unknown model 'rn'", "'rnn'", "known: "]),
        ("run --model rn --epochs 3", ["unknown model 'rn'"]),
        ("run --gradient randmized", ["[gradient]", "'randomized'", "truncated"]),
        ("run --modle rnn", ["--modle", "'--model'", "seqjax run --help"]),
        ("run --modle.hidden 3", ["--modle.hidden", "'--model", "seqjax run --help"]),
        ("run --hidden 3", ["--hidden", "seqjax run --help"]),
        ("run rnn", ["rnn", "seqjax run --help"]),
        ("run --model", ["--model", "expected one argument"]),
        ("run --model.hidden", ["--model.hidden", "value"]),
        ("run --model.hiden 3", ["[model]", "hiden", "'hidden'"]),
        ("run --model.hidden -3", ["[model]", "hidden = -3", "int >= 1"]),
        ("run --model.hidden 3.5", ["[model]", "hidden", "int >= 1"]),
        ("run --gradient randomized --gradient.keep-prob 1.5", ["keep_prob = 1.5", "float in (0, 1]"]),
        ("run --gradient randomized --gradient.keep-prob x", ["keep_prob = 'x'", "a tuple of float in (0, 1]"]),
        ("run --dataset text-file --dataset.errors no", ["errors = 'no'", "'strict' or 'replace'"]),
        ("run --dataset text-file", ["[dataset] path: missing"]),
        ("run --epochs 0", ["epochs = 0", "int >= 1"]),
        ("run --epochs many", ["epochs = 'many'"]),
        ("run --epoch 3", ["--epoch", "'--epochs'"]),
        ("run --seed -1", ["seed = -1"]),
        ("run --train 0", ["train = 0", "int >= 2"]),
        ("run --train 1.5", ["train = 1.5", "float in (0, 1]"]),
        ("run --train nan", ["train = nan"]),
        ("run --heldout -0.1", ["heldout = -0.1"]),
        ("run --devices two", ["--devices", "int"]),
        ("run --devices 3 --dry-run", ["devices = 3", "batch_size = 32"]),
        ("run --devices 0 --dry-run", ["devices = 0"]),
        ("run --config nowhere.toml", ["--config nowhere.toml", "No such file"]),
        ("run --config .", ["--config .", "Is a directory"]),
        ("run --config latin.toml", ["--config latin.toml", "utf-8"]),
        ("run --config syntax.toml", ["syntax.toml", "not valid TOML", "line 1"]),
        ("run --config typo.toml", ["[model]", "hiden", "'hidden'"]),
        ("run --load nowhere.py", ["--load", "nowhere.py", "no such file"]),
        ("run --dataset text-file --dataset.path nowhere.txt", ["nowhere.txt", "No such file", "--dataset.path"]),
        ("run --dataset text-file --dataset.path .", ["Is a directory", "--dataset.path"]),
        (
            "run --dataset text-file --dataset.path latin.toml",
            ["UTF-8", "0xfc", "offset 3", "--dataset.errors replace"],
        ),
        ("run --dataset text-file --dataset.path empty.txt", ["empty.txt", "empty"]),
        ("run --dataset text-file --dataset.path short.txt", ["32 x 35", "found 1", "Use more text"]),
        ("run --dataset text-file --dataset.path text.txt --train 9999", ["9999", "--train 0.9"]),
        (
            "run --dataset text-file --dataset.path text.txt --sampler.num-steps 999",
            ["32 x 999", "--sampler.batch-size"],
        ),
        ("run --gradient randomized --gradient.keep-prob 0.5,0.5", ["2 entries", "35 steps"]),
        ("run --out text.txt/run", ["text.txt/run", "another folder"]),
        ("generate", ["RUN", "seqjax generate --help"]),
        ("generate nowhere", ["nowhere", "no run"]),
        ("evaluate nowhere --part heldout", ["nowhere", "no run"]),
    ],
)
def test_bad_input_ends_with_2_and_a_way_out(folder, monkeypatch, command, words):
    """The message is on stderr, without a traceback, and no file is left behind."""
    monkeypatch.chdir(folder)
    for name, data in {
        "latin.toml": "# t\xfcr".encode("latin-1"),
        "syntax.toml": b"[model\n",
        "typo.toml": b'[model]\nplugin = "rnn"\nhiden = 3\n',
        "empty.txt": b"",
        "short.txt": b"hi",
    }.items():
        Path(name).write_bytes(data)
    before = sorted(Path().rglob("*"))
    done = call(*shlex.split(command))
    # A file with the name of the folder is not an error of the experiment.
    assert done.returncode == (6 if "--out" in command else 2), done.stderr
    assert done.stderr.startswith("seqjax: ")
    for word in words:
        assert word in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(Path().rglob("*")) == before


def test_an_installed_script_ends_like_main(folder):
    done = seqjax("run", "--model", "rn", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", call("run", "--model", "rn").stderr)
    done = run([sys.executable, "-m", "seqjax", "--version"])
    assert (done.returncode, done.stdout.strip()) == (0, __version__)


def test_debug_shows_the_traceback():
    with pytest.raises(registry.Error, match="unknown model 'rn'"):
        main(["run", "--model", "rn", "--debug"])


def test_several_verbs_in_one_process():
    """As in a notebook: no verb may shadow a module that the next one needs."""
    code = "from seqjax.cli import main\nfor verb in ('list', 'list', 'show'): print(main([verb, '--help'][:1]))"
    done = run([sys.executable, "-c", code])
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout.split()[-1] == "2"


def test_run_again_in_one_process(tmp_path):
    """As in a notebook, where jax has started already: settings that must come before its start are left alone."""
    code = (
        "import jax; jax.numpy.zeros(1)\nfrom seqjax.cli import main\n"
        "for seed in '12': assert main(['run', '--seed', seed, '--print-config']) == 0"
    )
    done = run([sys.executable, "-c", code], cwd=tmp_path, JAX_NUM_CPU_DEVICES=None)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("out", ["other", "notes"])
def test_a_folder_in_use_is_left_as_it_is(run_, out):
    """If it holds another experiment or other files, the message says so, and names a way out."""
    words = {"other": ["another experiment", "model: there", "8", "9"], "notes": ["notes", "diary.txt"]}[out]
    Path(out).mkdir()
    if out == "notes":
        (Path(out) / "diary.txt").write_text("dear diary")
    else:
        for file in run_.iterdir():
            (Path(out) / file.name).write_bytes(file.read_bytes())
    before = {file: file.read_bytes() for file in Path(out).iterdir()}
    done = call("run", *EXPERIMENT, *(["--model.hidden", 9] if out == "other" else []), "--out", out)
    assert (done.returncode, done.stdout) == (2, "")
    for word in (*words, "another folder"):
        assert word in done.stderr
    assert {file: file.read_bytes() for file in Path(out).iterdir()} == before


def test_a_run_without_parameters_is_trained_to_its_end(run_):
    """Until then the other verbs report that it is unfinished."""
    out = damage(run_, "params.safetensors", None)
    done = call("generate", out)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{out} is unfinished" in done.stderr
    done = call("run", *EXPERIMENT, "--out", out)
    assert done.returncode == 0, done.stderr
    assert (out / "params.safetensors").exists()
    assert f"saved    {out}\n" in done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_list_has_a_line_for_each_plugin(kind):
    done = call("list", kind)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == kind
    for name in names(kind):
        (line,) = (line for line in lines if f"seqjax/{name} " in line)
        assert registry.summary(registry.find(kind, name)) in line
        assert f" {__version__} " in line
    assert "seqjax show KIND NAME" in done.stdout


def test_list_has_every_kind():
    headings = [line for line in call("list").stdout.splitlines()[:-2] if not line.startswith(" ")]
    assert headings == KINDS


SHOWN = [
    ("gradient", "randomized", "float in (0, 1] or a tuple of float in (0, 1]; default 0.9"),
    ("gradient", "uoro", "none"),
    ("optimizer", "seqjax/adam", "float > 0 or none; default none"),
    ("dataset", "text-file", "a string; required"),
    ("sampler", "sequential", "int >= 1; default 35"),
    ("model", "rnn", "int >= 1; default 256"),
]


@pytest.mark.parametrize(("kind", "name", "words"), SHOWN)
def test_show_prints_docs_parameters_and_origin(kind, name, words):
    cls = registry.get(kind, name)
    entry = registry.entry_of(cls)
    done = call("show", kind, name)
    assert (done.returncode, done.stderr) == (0, "")
    head, _, snippet = done.stdout.partition("in a config file:")
    assert head.startswith(f"{kind} {entry.id}\n")
    for part in (words, entry.source, entry.target, f"seqjax {__version__}", *cls.__doc__.splitlines()):
        assert part.strip() in head
    fields = [f.name for f in dataclasses.fields(cls)]
    for f in fields:
        assert f.replace("_", "-") in head
        assert " ".join(registry_doc(cls, f).split()) in " ".join(head.split())
    table = tomllib.loads(snippet)[kind]
    assert table.pop("plugin") == entry.id
    if name != "text-file":  # which has no default
        made = registry.get(kind, name)()
        assert table == {f: getattr(made, f) for f in fields if getattr(made, f) is not None}


def registry_doc(cls, name):
    from seqjax.plugin.base import fields_of

    doc = fields_of(cls)[name].doc
    assert doc, f"{cls.__name__}.{name} has no docstring under it"
    return doc


VERBS = ["run", "generate", "evaluate", "sweep", "compare", "lags", "measure", "check", "reproduce", "list", "show"]


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]])
def test_help_has_the_verbs(argv):
    done = call(*argv)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^  (\w+) ", done.stdout, re.MULTILINE) == VERBS


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb):
    done = call(verb, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: seqjax {verb} ")


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


def test_run_help_shows_the_values_that_would_be_used(tmp_path):
    """The default experiment has the learning rate 1.0, which is not the default of the optimizer's class."""
    lines = call("run", "--model.hidden", 77, "--help").stdout.splitlines()
    used = {"--optimizer.learning-rate": "1.0", "--optimizer.clip-norm": "1.0", "--model.hidden": "77"}
    for flag, value in used.items():
        (line,) = (line for line in lines if line.startswith(f"  {flag} "))
        assert re.search(rf"\b{value}\b", line), line


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
    assert [shlex.split(command)[:2] for command in commands] == [
        ["seqjax", verb] for verb in ("generate", "measure", "run")
    ]
    for command in commands[:2]:
        done = call(*shlex.split(command)[1:])
        assert done.returncode == 0, f"{command}: {done.stderr}"
    assert "--dataset text-file --dataset.path" in commands[2]


def test_without_out_a_new_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    Path("runs", "text-file-rnn-1").mkdir(parents=True)
    done = call("run", *EXPERIMENT, "--epochs", 1)
    assert done.returncode == 0, done.stderr
    assert "saved    runs/text-file-rnn-2\n" in done.stdout
    assert Run.open("runs/text-file-rnn-2").finished
    assert list(Path("runs", "text-file-rnn-1").iterdir()) == []


def test_a_finished_run_of_the_same_experiment_is_opened(run_):
    before = {file: file.stat().st_mtime_ns for file in run_.iterdir()}
    done = call("run", *EXPERIMENT, "--out", "run")
    assert done.returncode == 0, done.stderr
    assert {file: file.stat().st_mtime_ns for file in run_.iterdir()} == before
    assert "saved    run" in done.stdout


def test_run_with_several_seeds_is_a_sweep(folder, monkeypatch):
    monkeypatch.chdir(folder)
    done = call("run", *EXPERIMENT[:-1], 1, "--seeds", "0,1", "--out", "seeds")
    assert done.returncode == 0, done.stderr
    assert sorted(run.experiment.seed for run in Runs.open("seeds").values()) == [0, 1]
    assert "saved    seeds\n" in done.stdout
    for verb in ("run", "sweep"):
        assert call(verb, "--seeds", "0,1", "--help").stdout.startswith("usage: seqjax sweep")


def test_dry_run_describes_a_run_and_makes_none(run_, tmp_path, monkeypatch):
    row = Run.open(run_).metrics[-1]
    vocabulary = len(Run.open(run_).codec)
    text = Path("text.txt").resolve()
    monkeypatch.chdir(tmp_path)
    done = call("run", *EXPERIMENT, "--dataset.path", text, "--dry-run", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*")) == []
    size = 2 * vocabulary * 8 + 8 * 8 + 8 + vocabulary
    assert f" {size:,} parameters" in done.stdout
    assert f"float32[{vocabulary}, 8]" in done.stdout
    updates = int(re.search(r"(\d+) updates of 4 x 8 steps", done.stdout)[1])
    assert abs(3 * updates - row["update"]) <= 3  # the sampler's offset moves it by one
    assert "3 epochs" in done.stdout
    memory = [float(size) for size in re.findall(r"([\d.]+) MB", done.stdout)]
    assert len(memory) == 2
    assert "nothing was trained" in done.stdout
    assert "tokens/s" not in done.stdout


def test_generate_continues_the_prompt(run_):
    printed = call("generate", run_, "--prompt", "the ", "--length", 17).stdout
    assert printed == Run.open(run_).generate("the ", 17) + "\n"
    assert printed.startswith("the ")
    assert len(printed) == len("the ") + 17 + 1
    assert len(call("generate", run_).stdout) == 200 + 1  # nothing but the defaults
    hot = [call("generate", run_, "--prompt", "the", "--temperature", 2, "--seed", seed).stdout for seed in (0, 0, 1)]
    assert hot[0] == hot[1] != hot[2]
    assert call("generate", run_, "--prompt", "für 🎉", "--length", 0).stdout == "für 🎉\n"


def test_generate_continues_several_prompts_one_text_each(run_):
    prompts = ["the", "für 🎉", "", "a dog"]
    options = ["--length", 9, "--temperature", 1.5, "--seed", 4]
    printed = call("generate", run_, "--prompt", *prompts, *options).stdout
    assert printed == "".join(call("generate", run_, "--prompt", prompt, *options).stdout for prompt in prompts)
    assert printed.splitlines() == Run.open(run_).generate(prompts, 9, 1.5, seed=4)


def test_generate_chooses_among_the_likeliest(run_):
    greedy = call("generate", run_, "--prompt", "the", "--length", 30).stdout
    hot = ["generate", run_, "--prompt", "the", "--length", 30, "--temperature", 3]
    for limit in (["--top-k", 1], ["--top-p", 1e-6], ["--top_k=1", "--top-p", 0.5]):
        assert call(*hot, *limit).stdout == greedy
    limited = call(*hot, "--top-k", 4, "--top-p", 0.9, "--seed", 2).stdout
    assert limited == Run.open(run_).generate("the", 30, 3.0, top_k=4, top_p=0.9, seed=2) + "\n"
    assert limited != greedy


def test_generate_takes_unknown_symbols_with_the_flag(run_):
    printed = call("generate", run_, "--prompt", "the €uro", "--length", 5, "--unknown").stdout
    assert printed == Run.open(run_).generate("the €uro", 5, unknown=True) + "\n"
    assert printed.startswith("the <unk>uro")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["--prompt", "the €uro ¥"], ["prompt", "'€'", "'¥'"]),
        (["--length", -1], ["length = -1"]),
        (["--length", "long"], ["--length", "int"]),
        (["--temperature", -0.5], ["temperature = -0.5"]),
        (["--temperature", "nan"], ["temperature = nan"]),
        (["--top-k", 0], ["top_k = 0"]),
        (["--top-k", 2.5], ["--top-k", "int"]),
        (["--top-p", 0], ["top_p = 0.0"]),
        (["--top-p", 1.5, "--top-k", -1], ["top_p = 1.5", "top_k = -1"]),
        (["--prompt", "the", "a €"], ["'€'"]),
        (["--seed", 10**30], ["seed"]),
        (["--lenght", 3], ["'--length'", "seqjax generate --help"]),
        (["--prompt"], ["--prompt", "expected at least one argument"]),
    ],
)
def test_generate_refuses(run_, argv, words):
    done = call("generate", run_, "--temperature", 1, *argv)
    assert (done.returncode, done.stdout) == (2, "")
    for word in words:
        assert word in done.stderr


def test_evaluate_prints_every_part_that_has_targets(run_):
    lines = call("evaluate", run_).stdout.splitlines()
    assert lines[0].split() == ["loss", "perplexity", "bits/char", "tokens"]
    opened = Run.open(run_)
    for line, part, size in zip(lines[1:], ("train", "heldout", "rest"), (1000, 150, len(TEXT) - 1150), strict=True):
        name, loss, perplexity, bits, targets = line.split()
        row = opened.evaluate(part)
        assert (name, int(targets)) == (part, size - 1)
        assert float(bits) == pytest.approx(row["loss"] / math.log(2), abs=1e-4)
        assert float(loss) == pytest.approx(row["loss"], abs=1e-4)
        assert float(perplexity) == pytest.approx(math.exp(row["loss"]), abs=1e-3)
    assert float(lines[2].split()[1]) == pytest.approx(opened.metrics[-1]["heldout_loss"], abs=1e-4)
    assert call("evaluate", run_, "--part", "heldout").stdout.splitlines() == [lines[0], lines[2]]


def test_evaluate_reads_a_text_file(run_):
    Path("own.txt").write_text("the lazy fox, und Ä", encoding="utf-8")  # with symbols that the vocabulary lacks
    assert "bits/char" not in call("evaluate", run_, "--text", "own.txt").stdout
    Path("own.txt").write_text("the lazy fox", encoding="utf-8")
    head, line = call("evaluate", run_, "--text", "own.txt").stdout.splitlines()
    row = Run.open(run_).evaluate(Text("the lazy fox"))
    assert head.split() == ["loss", "perplexity", "bits/char", "tokens"]
    expected = [f"{row[name]:.4f}" for name in ("loss", "perplexity", "bits_per_character")]
    assert line.split() == ["text", *expected, "11"]
    Path("own.txt").write_bytes(b"t\xfcr")
    for file, words in {"own.txt": ["UTF-8", "own.txt"], "nowhere.txt": ["nowhere.txt"]}.items():
        done = call("evaluate", run_, "--text", file)
        assert (done.returncode, done.stdout) == (2, "")
        for word in words:
            assert word in done.stderr


def test_evaluate_of_a_series_has_its_squared_error(tmp_path):
    run = Experiment(
        dataset=Series(np.sin(np.arange(90.0))), sampler=Sequential(2, 10), model=RNN(hidden=2), epochs=1
    ).run(tmp_path / "run")
    lines = call("evaluate", run.path).stdout.splitlines()
    assert lines[0].split() == ["loss", "tokens"]
    assert lines[1].split() == ["train", f"{run.evaluate('train')['loss']:.4f}", "80"]
    assert lines[2].split() == ["heldout", f"{run.evaluate('heldout')['loss']:.4f}", "8"]
    assert lines[3] == "rest      has no targets"
    done = call("evaluate", run.path, "--text", __file__)
    assert (done.returncode, done.stdout) == (2, "")
    assert "it cannot read this Text" in done.stderr
    done = call("generate", run.path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "not trained on text" in done.stderr


def test_evaluate_refuses_another_part(run_):
    done = call("evaluate", run_, "--part", "test")
    assert (done.returncode, done.stdout) == (2, "")
    for word in ("test", "train", "heldout", "rest"):
        assert word in done.stderr


def test_evaluate_reports_an_empty_part(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert call("run", *EXPERIMENT, "--heldout", 0, "--train", 1.0, "--epochs", 1, "--out", "whole").returncode == 0
    done = call("evaluate", "whole", "--part", "rest")
    assert "rest" in done.stdout + done.stderr


def damage(run_, name, data):
    """A copy of the run in which one file is changed or missing."""
    copy = Path(f"damaged-{name}-{abs(hash(data)) % 10**8}")
    copy.mkdir()
    for file in run_.iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    (copy / name).unlink()
    if data is not None:
        (copy / name).write_bytes(data)
    return copy


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("config.toml", b"["),
        ("config.toml", b"epochs = 0"),
        ("environment.json", b"{}"),
        ("codec.json", b"[1]"),
        ("metrics.jsonl", b"[]\n"),
        ("params.safetensors", b"x" * 100),
    ],
)
def test_a_damaged_run_is_named_with_its_file(run_, name, data):
    """The exit code is 4, or 2 for a config that is not valid; there is no traceback."""
    copy = damage(run_, name, data)
    done = call("evaluate", copy, "--part", "heldout")
    assert done.returncode in ((2, 4) if name == "config.toml" else (4,)), done.stderr
    assert done.stdout == ""
    assert f"{copy}/{name}" in done.stderr


def test_a_changed_dataset_is_not_evaluated(run_):
    Path("text.txt").write_text(TEXT.replace("fox", "cat"), encoding="utf-8")
    done = call("evaluate", run_)
    Path("text.txt").write_text(TEXT, encoding="utf-8")
    assert (done.returncode, "dataset has changed" in done.stderr) == (4, True)
    sha256 = json.loads((run_ / "environment.json").read_text())["dataset_sha256"]
    assert sha256 in done.stderr


SYMBOLS = ["show", "gradient", "randomized"]
TEXT_OF_A_RUN = ["generate", "run", "--prompt", "f", "--length", 300]


@pytest.mark.parametrize(
    ("env", "argv"),
    [(C_LOCALE, SYMBOLS), (ASCII, SYMBOLS), (ASCII, TEXT_OF_A_RUN), ({"PYTHONIOENCODING": "latin-1"}, SYMBOLS)],
)
def test_a_locale_without_the_symbols(trained, folder, env, argv):
    """In any locale, symbols of equations and texts are printed without a traceback."""
    done = seqjax(*argv, cwd=folder, **env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_the_files_of_a_run_are_utf8_in_any_locale(trained, folder):
    tokens = json.loads((folder / "run" / "codec.json").read_text(encoding="utf-8"))["codec"]["tokens"]
    assert {"É", "ü", "🎉"} <= set(tokens)
    for name in ("config.toml", "samples.txt", "environment.json", "metrics.jsonl"):
        (folder / "run" / name).read_text(encoding="utf-8")


def test_a_closed_pipe_is_not_an_error():
    done = run(["sh", "-c", f"{Path(sys.executable).parent}/seqjax list | head -n 1"])
    assert (done.stdout, done.stderr) == ("dataset\n", "")


def test_a_full_disk_under_stdout():
    done = run(["sh", "-c", f"{Path(sys.executable).parent}/seqjax list > /dev/full"])
    assert "Traceback" not in done.stderr, done.stderr
    assert done.returncode == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max-lag", 0, "--rows", 0], ["--max-lag 0: must be at least 1", "--rows 0: must be at least 1"]),
        (["--max-lag", 10, "--steps", 10], ["--steps 10: must be more than --max-lag 10"]),
        (["--max-lag", 2000], ["0 windows of 8000 steps", "--steps, by default 4 times --max-lag"]),
        (["--max-lag", 3, "--figure", "x.foo"], ["--figure x.foo", "foo"]),
    ],
)
def test_lags_names_the_wrong_flags(run_, arguments, words):
    done = call("lags", run_, *arguments)
    assert done.returncode == 2
    assert all(word in done.stderr for word in words), done.stderr


@pytest.mark.slow
def test_run_and_lags_report_a_state_without_gradient_through_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    mlp = [*EXPERIMENT, "--model", "mlp", "--epochs", 1]
    done = call("run", *mlp, "--gradient", "truncated", "--out", "mlp")
    assert "note     the state of mlp hidden=8 holds inputs only: no gradient goes through time" in done.stdout
    assert "no part of the gradient travels back" in call("lags", "mlp", "--max-lag", 5).stdout
    assert "note" not in call("run", *mlp, "--out", "full").stdout
    assert "note" not in call("run", *EXPERIMENT, "--epochs", 1, "--gradient", "truncated", "--out", "rnn").stdout
