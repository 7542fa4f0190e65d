"""Commands that are printed can be pasted into a shell, whatever is in a name."""

import os
import shutil
import subprocess

import pytest

from seqjax.terminal.shell import argument, join, program, quote

SHELLS = [shell for shell in ("bash", "zsh", "ksh") if shutil.which(shell)]
WORDS = [
    *("plain", "", "two words", "it's", 'a "b" $HOME `id` $(id) \\ !', "a\nrm -rf b", "tab\t'quoted'\\"),
    *("\x1b[8m\x9b\u202e\u2028\x7f1a", "é 🎉 語", os.fsdecode(b"\x9b\xff0"), *";&|<>*?[]{}~#=%\r\x07"),
]


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_a_shell_reads_the_same_words(shell, locale):
    command = f"printf '%s\\0' {join(WORDS)}"
    assert command.isprintable()
    done = subprocess.run([shell, "-c", command], capture_output=True, check=True, env=os.environ | {"LC_ALL": locale})
    assert done.stdout == b"".join(os.fsencode(word) + b"\0" for word in WORDS)


def test_a_lone_surrogate_is_quoted_too():
    assert quote("\ud800") == "$'\\xed\\xa0\\x80'"


@pytest.mark.parametrize(("path", "word"), [("-x", "./-x"), ("--load", "./--load"), ("a-x", "a-x"), ("/-x", "/-x")])
def test_a_path_is_never_read_as_a_flag(path, word):
    assert argument(path) == word


@pytest.mark.parametrize("called", ["script", "other", "module"])
def test_the_program_is_named_as_the_shell_finds_it(tmp_path, monkeypatch, called):
    """`script`: by its path, `other`: by a script of the user, `module`: by a Python beside which there is none."""
    folder = tmp_path / "an env" / "bin"
    folder.mkdir(parents=True)
    own, elsewhere = folder / "seqjax", tmp_path / "elsewhere"
    if called != "module":
        own.write_text('#!/bin/sh\necho "called $*"\n')
        own.chmod(0o755)
    elsewhere.mkdir()
    shutil.copy("/bin/true", elsewhere / "seqjax")
    python = folder / "python"
    python.write_text('#!/bin/sh\nshift 2\necho "called $*"\n')
    python.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(python))
    monkeypatch.setattr("sys.argv", [str(own if called == "script" else tmp_path / "mine.py")])
    for path in ["/usr/bin:/bin", f"{elsewhere}:/usr/bin:/bin", f"{folder}:/usr/bin:/bin"]:
        monkeypatch.setenv("PATH", path)
        done = subprocess.run(["bash", "-c", f"{program()} run 'a b'"], capture_output=True, check=True)
        assert done.stdout == b"called run a b\n"
        assert (program() == "seqjax") == (called != "module" and path.startswith(str(folder)))
