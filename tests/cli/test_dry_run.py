"""`seqjax run --dry-run`."""

import re
from pathlib import Path

import pytest
from support.shell import call
from support.small_run import EXPERIMENT

from seqjax import Run


def test_dry_run_describes_a_run_and_makes_none(run_, tmp_path, monkeypatch):
    row = Run.open(run_).metrics[-1]
    vocabulary = len(Run.open(run_).codec)
    text = Path("text.txt").resolve()
    monkeypatch.chdir(tmp_path)
    done = call("run", *EXPERIMENT, "--dataset.path", text, "--dry-run", "--out", "run")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.rglob("*")) == []
    size = 2 * vocabulary * 8 + 8 * 8 + 8 + vocabulary
    assert f" {size:,} parameters" in done.stdout
    assert f"float32[{vocabulary}, 8]" in done.stdout
    updates = int(re.search(r"(\d+) updates of 4 x 8 steps", done.stdout)[1])
    assert abs(3 * updates - row["update"]) <= 3  # the sampler's offset moves it by one
    assert "3 epochs" in done.stdout
    memory = [float(size) for size in re.findall(r"([\d.]+) MB", done.stdout)]
    assert len(memory) == 2
    assert "nothing was trained" in done.stdout
    assert "tokens/s" not in done.stdout


@pytest.mark.parametrize(
    "flags",
    [
        ("--metrics", "mae"),
        ("--metrics", "mae", "--model", "ngram"),
        ("--init-from", "run", "--model.hidden", 5),
        ("--init-from", "run", "--init-which", "best"),
    ],
    ids=lambda flags: " ".join(map(str, flags)),
)
def test_what_the_run_refuses_is_refused_by_its_dry_run(run_, flags):
    flags = [*(EXPERIMENT[:8] if "ngram" in flags else EXPERIMENT), *flags, "--out", "other"]
    dry, done = (call("run", *flags, *more) for more in (["--dry-run"], []))
    assert dry.returncode == done.returncode == 2
    assert dry.stderr == done.stderr != ""
    assert not Path("other").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--target", "h100"), "--target names a device that --dry-run compiles for: add --dry-run"),
        (("--target", "h100", "--dry-run", "--devices", 1), "leave out --devices"),
        (("--target", "a100", "--dry-run"), "there are h100, v5e, and slices of v5e: 2x2, 2x4,"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_a_target_is_one_that_there_is_and_that_a_dry_run_reads(flags, message):
    done = call("run", *flags)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""
