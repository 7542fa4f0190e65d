"""Numbers, names and files that nobody expects end with the documented exit code, and with a message."""

import os
import re
import shlex
from pathlib import Path

import pytest
from support.shell import call, seqjax
from support.small_run import EXPERIMENT

WORDS = " ".join(map(str, EXPERIMENT))


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        (f"run {WORDS} --model.hidden 1000000000 --dry-run", 6, "parameters and state of rnn .* take 4,000,0"),
        (f"run {WORDS} --model.hidden 1000000000 --out large", 6, "this machine has"),
        (f"run {WORDS} --model.hidden 10000000000 --dry-run", 2, r"a whole number is below 2\^31"),
        (f"run {WORDS} --gradient rtrl --model.hidden 3000 --dry-run", 6, "for the memory of the strategy"),
        (f"run {WORDS} --model lstm --model.layers 1000000000 --dry-run", 2, r"must be int in \[1, 1000\]"),
        (f"run {WORDS} --gradient truncated:steps={10**20} --dry-run", 2, f"steps = {10**20}: a whole number is below"),
        (f"run {WORDS} --epochs {2**62} --dry-run", 2, r"below 2\^31"),
        (f"run {WORDS} --devices {10**20} --dry-run", 2, "out of range"),
        (f"run {WORDS} --checkpoint-seconds nan --out nan", 2, "checkpoint_seconds = nan must be a number"),
        (f"sweep {WORDS} --seeds 0,1 --checkpoint-seconds nan --out nan", 2, "checkpoint_seconds = nan"),
        (f"run {WORDS} --out {'a' * 300}", 2, "File name too long"),
        (f"run --config {'a' * 300}", 2, "File name too long"),
        (f"run --load {'a' * 5000}", 2, "File name too long"),
        (f"generate run --length {10**12}", 2, "--length"),
        (f"generate run --length {2**31 - 1} --top-k {2**32}", 2, "--top-k"),
        (f"lags run --max-lag {10**20}", 2, "--max-lag"),
        (f"measure run --draws {10**20}", 2, "--draws"),
        (f"measure run --seed {10**20}", 2, "seed"),
        ("compare run --page ''", 2, "--page '': an empty text is given as FILE"),
        ("compare run --metric ''", 2, "--metric '': an empty text is given as NAME"),
        ("evaluate run --text ''", 2, "--text ''"),
        ("measure run --gradient full ''", 2, "--gradient ''"),
        ("run --load ''", 2, "--load ''"),
        ("reproduce empty", 2, "has no script at all"),
        ("run --config pipe", 2, "is a pipe that is empty"),
        ("run --config /dev/zero", 2, "is a device"),
        ("run --config deep.toml", 2, "nested in each other"),
        ("run --config key.toml", 2, "key.toml: cannot be read: not valid TOML: more than 32 tables .* in each other"),
        ("run --config tables.toml", 2, "must be a table"),
        ("run --config tables.toml --help", 2, "unknown dataset '3'"),
        ("run --config tables.toml --heldout text-file:path=text.txt", 2, "must be a table"),
        ("run --load pipe", 2, "no such file"),
        ("run --dataset text-file --dataset.path pipe", 2, "is a pipe that is empty"),
        ("run --dataset text-file --dataset.path /dev/zero", 2, "is a device"),
        ("run --dataset csv --dataset.path pipe", 2, "is a pipe that is empty"),
        ("evaluate run --text pipe", 2, "is a pipe that is empty"),
    ],
)
def test_odd_input_ends_with_a_message(run_, command, code, words):
    configs = {
        "deep.toml": f"a = {'[' * 10**4}",
        "key.toml": f"{'a.' * 5000}a = @",
        "tables.toml": 'model = "rnn"\ndataset = 3\n',
    }
    for name, text in configs.items():
        Path(name).write_text(text)
    if not Path("pipe").exists():
        os.mkfifo("pipe")
    before = sorted(Path().rglob("*"))
    done = call(*shlex.split(command))
    assert done.returncode == code, done.stderr
    assert "seqjax: " in done.stderr
    assert re.search(words, done.stderr), done.stderr
    assert sorted(Path().rglob("*")) == before


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


@pytest.mark.parametrize("count", ["0", "1000000000", "two"])
def test_a_number_of_devices_that_cannot_be_is_bad_input(tmp_path, count):
    done = seqjax("run", "--dry-run", "--train", "2000", cwd=tmp_path, JAX_NUM_CPU_DEVICES=count)
    assert done.returncode == 2, done.stderr
    assert "JAX_NUM_CPU_DEVICES" in done.stderr
