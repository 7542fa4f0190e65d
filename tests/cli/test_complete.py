"""Completion in a shell, as bash asks for it."""

import json
import subprocess
import sys

import pytest
from support.shell import SEQJAX, call, run

from seqjax.cli.command import VERBS
from seqjax.cli.complete import SHELLS
from seqjax.plugin import registry

ASK = """
PATH={folder}:$PATH
eval "$(seqjax --completion bash)"
COMP_LINE={line!r} COMP_POINT={point} COMP_TYPE=9
_python_argcomplete seqjax
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def completions(line: str) -> list[str]:
    """What bash offers for the last word of a line."""
    script = ASK.format(folder=SEQJAX.parent, line=line, point=len(line))
    done = run(["bash", "--norc", "-c", script])
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("seqjax r", ["run", "reproduce"]),
        ("seqjax run --mo", ["--model"]),
        ("seqjax run --model l", ["lstm"]),
        ("seqjax sweep --gradient tr", ["truncated"]),
        ("seqjax measure a --gradient full rt", ["rtrl"]),
        ("seqjax run --tracker t", ["tensorboard", "trackio"]),
        ("seqjax show gradient r", ["randomized", "rflo", "rtrl"]),
        ("seqjax check opt", ["optimizer"]),
        ("seqjax compare a --which ", ["last", "best", "both"]),
        ("seqjax no-such-verb r", []),
    ],
)
def test_verbs_flags_and_names_of_plugins_are_completed(line, expected):
    assert completions(line) == expected


def test_all_verbs_and_all_plugins_of_a_kind_are_offered():
    assert set(VERBS) <= set(completions("seqjax "))
    assert completions("seqjax run --model ") == registry.names("model")


@pytest.mark.parametrize("line", ["seqjax ", *(f"seqjax {verb} --" for verb in VERBS), "seqjax run --model "])
def test_completing_imports_neither_jax_nor_a_plugin(line, tmp_path):
    """The process writes what it has imported when it would exit."""
    code = f"""
import json, os, sys
os.environ |= {{"_ARGCOMPLETE": "1", "COMP_LINE": {line!r}, "COMP_POINT": "{len(line)}"}}
os._exit = lambda code: (json.dump(sorted(sys.modules), open("modules.json", "w")), sys.exit(code))
from seqjax.cli import main
main([])
"""
    offered = tmp_path / "offered"
    done = run([sys.executable, "-c", code], cwd=tmp_path, _ARGCOMPLETE_STDOUT_FILENAME=str(offered))
    assert done.returncode == 0, done.stderr
    assert offered.read_text()
    modules = set(json.loads((tmp_path / "modules.json").read_text()))
    assert not modules & {"jax", "numpy"}
    assert not {name for name in modules if name.startswith(tuple(f"seqjax_{kind}s." for kind in registry.GROUPS))}


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_has_its_code(shell):
    done = call("--completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert "seqjax" in done.stdout
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=done.stdout, text=True, check=True)


@pytest.mark.parametrize("argv", [["--completion"], ["--completion", "csh"]])
def test_an_unknown_shell_is_an_error(argv):
    done = call(*argv)
    assert (done.returncode, done.stderr) == (2, "seqjax: --completion: name a shell, one of bash, zsh, fish\n")
