"""Bad input ends with the documented exit code, a message with a way out, and no file that was written."""

import os
import shlex
from pathlib import Path

import pytest
from support.shell import call
from support.small_run import EXPERIMENT

from seqjax.plugin import registry

KINDS = list(registry.GROUPS)
RUN = "run " + " ".join(map(str, EXPERIMENT))
FILES = {
    "latin.toml": "# t\xfcr".encode("latin-1"),
    "syntax.toml": b"[model\n",
    "typo.toml": b'[model]\nplugin = "rnn"\nhiden = 3\n',
    "key.toml": b"a." * 5000 + b"a = @",
    "tables.toml": b'model = "rnn"\ndataset = 3\n',
}


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("rnu", ["no verb 'rnu'", "'run'", "generate", "seqjax --help"]),
        ("--verbose", ["--verbose", "seqjax --help"]),
        ("list modle", ["unknown kind 'modle'", "'model'", *KINDS]),
        ("check", ["KIND", "seqjax check --help"]),
        ("list model rnm", ["unknown model 'rnm'", "'rnn'", "known: "]),
        ("new model My_Cell", ["use lower-case letters, digits and single dashes"]),
        ("new model gru", ["model 'gru' is the name of seqjax/gru; choose another name"]),
        ("new optimizer statistics", ["'statistics' is the name of an installed package or module"]),
        ("new optimizer lazy-loader --package", ["'lazy-loader' is the name of an installed package or module"]),
        ("run --model rn", ["[model]", "unknown model 'rn'", "'rnn'", "known: "]),
        ("run --modle rnn", ["--modle", "'--model'", "seqjax run --help"]),
        ("run --model.hidden", ["--model.hidden", "value"]),
        ("run --dataset text-file", ["[dataset] path: missing"]),
        ("run --devices 3 --dry-run", ["devices = 3", "batch_size = 32"]),
        (f"{RUN} --devices {10**20}", ["out of range"]),
        (f"{RUN} --epochs {2**62}", ["below 2^31"]),
        ("run --tracker.project mine", ["--tracker.project: give the tracker too"]),
        ("run --load pipe", ["no such file"]),
        (f"run --load {'a' * 5000}", ["File name too long"]),
        ("run --config nowhere.toml", ["--config nowhere.toml", "No such file"]),
        ("run --config latin.toml", ["--config latin.toml", "utf-8"]),
        ("run --config syntax.toml", ["syntax.toml", "not valid TOML", "line 1"]),
        ("run --config key.toml", ["key.toml: cannot be read: not valid TOML: more than 32 tables "]),
        ("run --config typo.toml", ["[model]", "hiden", "'hidden'"]),
        ("run --config tables.toml", ["must be a table"]),
        ("run --config tables.toml --help", ["unknown dataset '3'"]),
        ("run --config tables.toml --heldout text-file:path=text.txt", ["must be a table"]),
        ("run --config pipe", ["is a pipe that is empty"]),
        ("run --config /dev/zero", ["is a device"]),
        ("run --dataset text-file:path=pipe", ["is a pipe that is empty"]),
        ("run --dataset text-file:path=nowhere.txt", ["nowhere.txt", "No such file", "--dataset.path"]),
        ("run --dataset text-file:path=*.rst", ["no file has a path of this form", "--dataset.path"]),
        ("run --dataset text-file:path=latin.toml", ["UTF-8", "0xfc", "offset 3", "--dataset.errors replace"]),
        ("run --gradient randomized --gradient.keep-prob 0.5,0.5", ["2 entries", "35 steps"]),
        (f"{RUN} --out {'a' * 300}", ["File name too long"]),
        (f"sweep {RUN[4:]} --seeds 0,1 --checkpoint-seconds nan --out nan", ["checkpoint_seconds = nan"]),
        ("generate nowhere", ["nowhere", "no run"]),
        ("generate run --prompt", ["--prompt", "expected at least one argument"]),
        ("generate run --prompt 'the €uro ¥'", ["prompt", "'€'", "'¥'"]),
        ("generate run --length long", ["--length", "int"]),
        (f"generate run --length {10**12}", ["--length"]),
        ("generate run --temperature 1 --top-p 1.5 --top-k -1", ["top_p = 1.5", "top_k = -1"]),
        (f"generate run --seed {10**30}", ["seed"]),
        ("evaluate run --text nowhere.txt", ["--text nowhere.txt: there is no such file"]),
        ("evaluate run --text latin.toml", ["UTF-8", "latin.toml"]),
        ("run --tracker tensorbord", ["unknown tracker 'tensorbord'; did you mean 'tensorboard'"]),
        ("run --tracker trackio:projekt=x", ["no such field; did you mean 'project'"]),
        ("compare run --figure ''", ["--figure '': an empty text is given as FILE"]),
        ("compare run --figure .", [". is a folder; name a file in it"]),
    ],
)
def test_bad_input_is_exit_2_and_names_a_way_out(run_, command, words):
    refused(command, words, 2)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (f"{RUN} --model.hidden 1000000000 --dry-run", ["parameters and state of rnn ", " take 4,000,0"]),
        (f"{RUN} --model.hidden 1000000000 --out large", ["this machine has"]),
        (f"{RUN} --gradient rtrl --model.hidden 3000 --dry-run", ["for the memory of the strategy"]),
        ("run --out text.txt/run", ["text.txt/run", "another folder"]),
        ("new optimizer mine --out text.txt", ["text.txt", "cannot be written"]),
        ("compare run --figure nowhere/a.png", ["nowhere/a.png cannot be written: No such file or directory"]),
    ],
)
def test_what_memory_and_disk_refuse_is_exit_6(run_, command, words):
    refused(command, words, 6)


def refused(command, words, code):
    """Runs a command beside some wrong files."""
    for name, data in FILES.items():
        Path(name).write_bytes(data)
    if not Path("pipe").exists():
        os.mkfifo("pipe")
    before = sorted(Path().rglob("*"))
    done = call(*shlex.split(command))
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("seqjax: ")
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ("--nonsense=1", "Unknown flag in XLA_FLAGS: --nonsense=1"),
        ("--xla_force_host_platform_device_count=x", "Couldn't interpret value x for flag xla_force_host_platform_"),
        ("--xla_force_host_platform_device_count=2", None),
    ],
)
def test_flags_that_xla_does_not_take_are_bad_input(monkeypatch, flags, reason):
    """XLA would end the process, with exit code 1."""
    monkeypatch.setenv("XLA_FLAGS", flags)
    done = call("generate", "missing")
    assert done.returncode == 2
    message = f"the environment variable XLA_FLAGS is {flags!r:.80}, which XLA does not take: {reason}"
    assert done.stderr.startswith(f"seqjax: {message if reason else 'missing holds no run'}")


@pytest.mark.parametrize("count", ["0", "1000000000", "two"])
def test_a_number_of_devices_that_cannot_be_is_bad_input(monkeypatch, count):
    monkeypatch.setenv("JAX_NUM_CPU_DEVICES", count)
    done = call("run", "--dry-run", "--train", "2000")
    assert done.returncode == 2, done.stderr
    assert "JAX_NUM_CPU_DEVICES" in done.stderr
