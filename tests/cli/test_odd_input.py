"""Numbers, names and files that nobody expects, and that work."""

import os
from pathlib import Path

import pytest
from support.shell import call
from support.small_run import EXPERIMENT


def test_the_hottest_temperature_draws_tokens_of_the_vocabulary(run_):
    done = call("generate", "run", "--length", 60, "--temperature", "1e39", "--prompt", "the ")
    assert done.returncode == 0
    assert len(done.stdout) == 65
    assert "<unk>" not in done.stdout


@pytest.mark.parametrize("name", ["drawn", "drawn.svg"])
def test_the_figure_that_is_named_is_the_file_that_is_written(run_, name):
    done = call("compare", "run", "--figure", name)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("figure")]
    assert Path(line.split()[1]).is_file()
    Path(line.split()[1]).unlink()


def test_text_and_config_may_come_from_a_pipe_of_the_shell(run_):
    """As `<(cat FILE)` of bash names it."""
    for words, file in (
        (["--dataset", "text-file", *EXPERIMENT[4:], "--dry-run", "--dataset.path"], "text.txt"),
        (["--print-config", "--config"], "run/config.toml"),
    ):
        reader, writer = os.pipe()
        os.write(writer, Path(file).read_bytes())
        os.close(writer)
        done = call("run", *words, f"/dev/fd/{reader}")
        os.close(reader)
        assert done.returncode == 0, done.stderr
