"""Commands that are printed do what they say when they are pasted, whatever the names of files and folders are."""

import re
import subprocess
from pathlib import Path

import pytest
from support import small_run
from support.shell import SEQJAX, call, run

from seqjax.plugin import registry

NAME = "-a 'b' \"c\" \\\n$(touch pwned) `touch pwned` ; touch pwned #\x1b[8m é"
"""Begins like a flag, and has all that a shell would interpret."""
TEXT = small_run.TEXT.translate(str.maketrans("th eon", "- noeh"))
"""The text of the small run with other characters, of which the first ones are a dash, a space and "on"."""
NGRAM = small_run.NGRAM

PLUGIN = f"""{small_run.TOKENIZER}

@seqjax.register("tracker", "mine")
@dataclass(frozen=True)
class Fails(seqjax.Tracker):
    name: str = ""

    def open(self, run, config, epochs):
        raise KeyboardInterrupt if self.name == "stops" else RuntimeError("no")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch, forget_local_plugins):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(TEXT, encoding="utf-8")
    Path(f"{NAME}.py").write_text(PLUGIN)
    yield tmp_path
    assert not Path("pwned").exists()


def commands(printed: str) -> list[list[str]]:
    """The words of the commands in a text, as bash reads them."""
    found = re.findall(r"(?:^next     |^         |: |; )((?:seqjax|pip|uv pip) .*)$", printed, re.MULTILINE)
    shell = 'seqjax() { printf "%s\\0" "$@"; echo; }; pip() { seqjax "$@"; }; uv() { shift; pip "$@"; }\n'
    done = subprocess.run(["bash", "-c", shell + "\n".join(found)], capture_output=True, check=True)
    assert done.stderr == b""
    return [line.removesuffix("\0").split("\0") for line in done.stdout.decode().split("\0\n")[:-1]]


def test_the_commands_after_a_sweep():
    done = call("sweep", *NGRAM, "--seeds", "0,1", "--launcher", "none", f"--out={NAME}")
    assert done.returncode == 0
    assert commands(done.stdout) == [["compare", f"./{NAME}", "--metric", "train_loss"]]
    assert commands(call("status", f"./{NAME}").stdout) == [["compare", f"./{NAME}"]]


def test_the_command_that_resumes():
    Path(NAME).mkdir()
    flags = ["--tracker", "mine:name=stops", f"--load=./{NAME}.py", f"--out={NAME}"]
    done = call("run", *NGRAM, *flags)
    assert done.returncode == 130
    assert commands(done.stderr) == [["run", *map(str, NGRAM), *flags]]


def test_the_commands_after_a_run_whose_tracker_has_failed():
    done = call("run", *NGRAM, f"--tracker=mine:name={NAME}", f"--load=./{NAME}.py", f"--out={NAME}")
    assert done.returncode == 0
    assert "saved    -a 'b'" in done.stdout
    generate, another = commands(done.stdout)
    options = ["--load", f"./{NAME}.py", "--prompt=- on", "--temperature", "0.8"]
    assert generate == ["generate", f"./{NAME}", *options]
    assert another[0] == "run"
    assert call(*generate, "--length", 0).stdout == "- on\n"


def test_the_file_of_a_plugin_that_a_run_needs(forget_local_plugins):
    assert call("run", *NGRAM, "--tokenizer", "mine", f"--load=./{NAME}.py", f"--out={NAME}").returncode == 0
    for key in [key for key in registry._registered if key[1].startswith("local/")]:
        del registry._registered[key]
    refused = call("evaluate", f"./{NAME}")
    (load,) = re.findall(r"and then add: (.*)$", refused.stderr, re.MULTILINE)
    ((_, flag, file),) = commands(f"next     seqjax evaluate {load}")
    assert flag == "--load"
    assert call("evaluate", f"./{NAME}", flag, file).returncode == 0


def test_the_commands_after_a_new_plugin():
    check = ["check", "model", "my-cell"]
    file = call("new", *check[1:], f"--out={NAME}")
    assert commands(file.stdout) == [[*check, "--load", f"./{NAME}/my_cell.py"]]
    package = call("new", *check[1:], "--package", f"--out={NAME}")
    assert commands(package.stdout) == [["install", "-e", f"./{NAME}/my-cell"], check]


def test_the_flags_for_a_file_in_place_of_a_dataset():
    Path(NAME).write_text("a")
    refused = call("run", f"--dataset={NAME}")
    (flags,) = re.findall(r"reads it: (.*)$", refused.stderr, re.MULTILINE)
    assert commands(f"next     seqjax run {flags}") == [["run", "--dataset", f"text-file:path={NAME}"]]
    refused = call("run", f"--dataset.path={NAME}")
    (flags,) = re.findall(r"reads this file too: (.*)$", refused.stderr, re.MULTILINE)
    assert commands(f"next     seqjax run {flags}") == [["run", "--dataset", "text-file", "--dataset.path", NAME]]


@pytest.mark.parametrize("found", [False, True], ids=["not on the PATH", "on the PATH"])
def test_a_command_runs_where_it_was_printed(found):
    path = f"{SEQJAX.parent}:/usr/bin:/bin" if found else "/usr/bin:/bin"
    bin_folder = SEQJAX.parent.relative_to(SEQJAX.parents[1])
    done = run([bin_folder / "seqjax", "list", "optimizer"], cwd=SEQJAX.parents[1], PATH=path)
    (command,) = re.findall(r"parameters and defaults: (.*) list KIND NAME$", done.stdout, re.MULTILINE)
    assert command == ("seqjax" if found else "bin/seqjax")
    shown = run(["bash", "-c", f"{command} list optimizer adam"], cwd=SEQJAX.parents[1], PATH=path)
    assert shown.returncode == 0
    assert "optimizer seqjax/adam" in shown.stdout
