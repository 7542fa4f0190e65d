"""Completion in a shell, as bash asks for it."""

import subprocess

from support.imports import imported, plugin_modules
from support.shell import SEQJAX, call, run

from seqjax.cli.command import VERBS
from seqjax.cli.complete import SHELLS
from seqjax.plugin import registry

ASK = """
COMP_LINE={line!r} COMP_POINT={point} COMP_TYPE=9
_python_argcomplete seqjax
echo "${{COMPREPLY[@]}}"
"""
OFFERED = {
    "seqjax ": list(VERBS),
    "seqjax run --mo": ["--model"],
    "seqjax run --model ": registry.names("model"),
    "seqjax run --model l": ["lru", "lstm"],
    "seqjax measure a --gradient full rt": ["rtrl"],
    "seqjax show gradient r": ["randomized", "rflo", "rolling", "rtrl"],
    "seqjax compare a --which ": ["last", "best", "both"],
    "seqjax no-such-verb r": [],
}


def test_bash_completes_verbs_flags_and_names_of_plugins():
    script = f'PATH={SEQJAX.parent}:$PATH\neval "$(seqjax --completion bash)"\n'
    script += "".join(ASK.format(line=line, point=len(line)) for line in OFFERED)
    done = run(["bash", "--norc", "-c", script])
    assert (done.returncode, done.stderr) == (0, "")
    first, *offered = (line.split() for line in done.stdout.removesuffix("\n").split("\n"))
    expected_first, *expected = OFFERED.values()
    assert set(first) >= set(expected_first)
    assert offered == expected


LINES = ["seqjax ", *(f"seqjax {verb} --" for verb in VERBS), "seqjax run --model "]
COMPLETES = f"""
import os, sys
from seqjax.cli import main
ended = os._exit
os._exit = sys.exit
for line in {LINES}:
    os.environ |= {{"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line))}}
    os.environ["_ARGCOMPLETE_STDOUT_FILENAME"] = "offered"
    try:
        main([])
    except SystemExit:
        pass
    assert open("offered").read(), line
    os.unlink("offered")
    assert not {{"jax", "numpy"}} & {{*sys.modules}}, line
os._exit = ended
"""


def test_completing_imports_neither_jax_nor_a_plugin(tmp_path):
    ((modules, _),) = imported([COMPLETES], tmp_path)
    assert not plugin_modules(modules)


def test_each_shell_has_its_code():
    for shell in SHELLS:
        done = call("--completion", shell)
        assert (done.returncode, done.stderr) == (0, "")
        assert "seqjax" in done.stdout
    subprocess.run(["bash", "-n"], input=call("--completion", "bash").stdout, text=True, check=True)
