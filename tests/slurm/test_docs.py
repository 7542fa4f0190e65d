"""The commands of the guide that need a cluster."""

import re
import shlex
import time
from pathlib import Path

from support.shell import SEQJAX, run

GUIDE = Path(__file__).parents[2] / "docs" / "work.md"


def test_the_commands_of_the_guide_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("It was a dark and stormy night; the rain fell in torrents. " * 200)
    blocks = re.findall(r"^```shell\n(.*?)^```", GUIDE.read_text("utf-8"), re.M | re.S)
    commands = [line.removeprefix("$ ") for block in blocks for line in block.splitlines()]
    assert [command.split()[:2] for command in commands] == [["seqjax", "sweep"], ["seqjax", "status"]]
    for command in commands:
        tiny = ["--model.hidden", "8"] if "sweep" in command.split() else []
        done = run([SEQJAX, *shlex.split(command)[1:], *tiny])
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("queued") + done.stdout.count("running") == 4, done.stdout
    end = time.monotonic() + 300
    while (found := run([SEQJAX, *shlex.split(commands[-1])[1:]]).stdout).count("finished") < 4:
        assert time.monotonic() < end, found
        time.sleep(1)
