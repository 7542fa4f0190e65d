"""The command line as a whole: help, locales, and the installed script."""

import json
import re
import sys

import pytest
from support.shell import call, run, seqjax
from support.small_run import NGRAM

from seqjax import __version__


def test_an_installed_script_ends_like_main(folder):
    done = seqjax("run", "--model", "rn", cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", call("run", "--model", "rn").stderr)
    done = run([sys.executable, "-m", "seqjax", "--version"])
    assert (done.returncode, done.stdout.strip()) == (0, __version__)


VERBS = [*("run", "generate", "evaluate", "sweep", "status", "compare", "verify"), *("check", "new", "list")]


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


def test_every_verb_has_help():
    for verb in VERBS:
        done = call(verb, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"usage: seqjax {verb} ")


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": None, "LANG": None}
IN_ASCII = """
from seqjax.cli import main
assert main([{run}, "--out", "ascii"]) == 0
for line in ("list gradient randomized", "check"):
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
