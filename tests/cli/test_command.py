"""The command line as a whole: wrong input, help, locales and broken outputs."""

import io
import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from support.shell import call, run, seqjax
from support.small_run import NGRAM

from seqjax import __version__
from seqjax.cli import main
from seqjax.plugin import registry

KINDS = list(registry.GROUPS)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("rnu", ["no verb 'rnu'", "'run'", "generate", "seqjax --help"]),
        ("--verbose", ["--verbose", "seqjax --help"]),
        ("list modle", ["unknown kind 'modle'", "'model'", *KINDS]),
        ("list model rnn", ["rnn", "seqjax list --help"]),
        ("show", ["KIND, NAME", "seqjax show --help"]),
        ("show model", ["NAME", "seqjax show --help"]),
        ("show model rnm", ["unknown model 'rnm'", "'rnn'", "known: "]),
        ("show model seqjax/rnm", ["'seqjax/rnn'"]),
        ("run --model rn", ["[model]", "unknown model 'rn'", "'rnn'", "known: "]),
        ("run --modle rnn", ["--modle", "'--model'", "seqjax run --help"]),
        ("run --hidden 3", ["--hidden", "seqjax run --help"]),
        ("run rnn", ["rnn", "seqjax run --help"]),
        ("run --model", ["--model", "expected one argument"]),
        ("run --model.hidden", ["--model.hidden", "value"]),
        ("run --model.hiden 3", ["[model]", "hiden", "'hidden'"]),
        ("run --model.hidden -3", ["[model]", "hidden = -3", "int >= 1"]),
        ("run --gradient randomized --gradient.keep-prob x", ["keep_prob = 'x'", "a tuple of float in (0, 1]"]),
        ("run --dataset text-file --dataset.errors no", ["errors = 'no'", "'strict' or 'replace'"]),
        ("run --dataset text-file", ["[dataset] path: missing"]),
        ("run --train nan", ["train = nan"]),
        ("run --devices two", ["--devices", "int"]),
        ("run --devices 3 --dry-run", ["devices = 3", "batch_size = 32"]),
        ("run --config nowhere.toml", ["--config nowhere.toml", "No such file"]),
        ("run --config .", ["--config .", "Is a directory"]),
        ("run --config latin.toml", ["--config latin.toml", "utf-8"]),
        ("run --config syntax.toml", ["syntax.toml", "not valid TOML", "line 1"]),
        ("run --config typo.toml", ["[model]", "hiden", "'hidden'"]),
        ("run --load nowhere.py", ["--load", "nowhere.py", "no such file"]),
        ("run --dataset text-file --dataset.path nowhere.txt", ["nowhere.txt", "No such file", "--dataset.path"]),
        ("run --dataset text-file --dataset.path *.rst", ["no file has a path of this form", "--dataset.path"]),
        (
            "run --dataset text-file --dataset.path latin.toml",
            ["UTF-8", "0xfc", "offset 3", "--dataset.errors replace"],
        ),
        ("run --dataset text-file --dataset.path empty.txt", ["empty.txt", "empty"]),
        ("run --dataset text-file --dataset.path short.txt", ["32 x 35", "found 1", "Use more data"]),
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


VERBS = [
    *("run", "generate", "evaluate", "sweep", "status", "compare", "verify"),
    *("track", "lags", "measure", "check", "new", "reproduce", "list", "show"),
]


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["help"]])
def test_help_has_the_verbs(argv):
    done = call(*argv)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r"^  (\w+) ", done.stdout.partition("verbs:")[2], re.MULTILINE) == VERBS
    assert re.findall(r"^  seqjax .*?(?=   )", done.stdout, re.MULTILINE) == [
        "  seqjax run",
        "  seqjax run --dataset text-file --dataset.path FILE",
        "  seqjax list",
    ]


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb):
    done = call(verb, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: seqjax {verb} ")


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": None, "LANG": None}
IN_ASCII = """
from seqjax.cli import main
assert main([{run}, "--out", "ascii"]) == 0
for line in ("show gradient randomized", "show"):
    print(main(line.split()))
"""


def test_signs_and_texts_are_printed_and_written_in_a_locale_without_them(folder):
    """One verb after the other in one process, as in a notebook: none shadows a module that the next one needs."""
    argv = ", ".join(repr(str(word)) for word in ["run", *NGRAM, "--heldout", 0])
    done = run([sys.executable, "-c", IN_ASCII.format(run=argv)], cwd=folder, **ASCII)
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^\d$", done.stdout, re.MULTILINE) == ["0", "2"]
    assert r"1,200 characters \xb7 33 tokens" in done.stdout
    tokens = json.loads((folder / "ascii" / "codec.json").read_text(encoding="utf-8"))["codec"]["tokens"]
    assert {"É", "ü", "🎉"} <= set(tokens)
    for name in ("config.toml", "samples.txt", "environment.json", "metrics.jsonl"):
        (folder / "ascii" / name).read_text(encoding="utf-8")


def test_latin_1_has_no_sign_of_sums(monkeypatch):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main(["show", "gradient", "randomized"]) == 0
    stdout.flush()
    assert b"\\u" in stdout.buffer.getvalue()


def test_a_closed_pipe_is_not_an_error():
    done = run(["sh", "-c", f"{Path(sys.executable).parent}/seqjax list | head -n 1"])
    assert (done.stdout, done.stderr) == ("dataset\n", "")
