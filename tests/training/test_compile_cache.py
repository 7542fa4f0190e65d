"""Programs that are kept from one process to the next. Each command runs in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

RUN = ["run", "--dataset", "text-file", "--dataset.path", "a.txt", "--epochs", "1", "--model.hidden", "4"]
SAY = """
import jax, sys
seen = []
jax.monitoring.register_event_listener(lambda name, **_: seen.append(name.rpartition("/")[2]))
from seqjax.cli.command import main
import atexit
code = main(sys.argv[1:])
print("hits", seen.count("cache_hits"), "misses", seen.count("cache_misses"))
sys.exit(code)
"""
KEPT = """
from seqjax.training import keep_programs
print(keep_programs())
import jax
seen = []
jax.monitoring.register_event_listener(lambda name, **_: seen.append(name.rpartition("/")[2]))
jax.jit(lambda x: x + 1)(1.0)
print(seen.count("cache_hits"), seen.count("cache_misses"))
"""


def python(folder, code, *args, **variables):
    """The lines that a new process prints, whose user cache is in the folder."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", code, *args],
        env=own | {"XDG_CACHE_HOME": str(folder / "cache"), "JAX_PLATFORMS": "cpu"} | variables,
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout.splitlines()


def programs(folder):
    return sorted((folder / "cache" / "seqjax" / "compiled").glob("*/*-cache"))


@pytest.mark.skipif(sys.platform != "linux", reason="the user's cache is elsewhere")
def test_a_program_is_kept_and_a_damaged_one_is_compiled_anew(tmp_path):
    assert python(tmp_path, KEPT) == ["True", "0 1"]
    assert python(tmp_path, KEPT) == ["True", "1 0"]
    (file,) = programs(tmp_path)
    assert not file.parent.stat().st_mode & 0o077, "a program is code: nobody else may write or read it"
    good = file.read_bytes()
    for damaged in (good[:-1], b"", good[:50] + bytes([good[50] ^ 1]) + good[51:]):
        file.write_bytes(damaged)
        assert python(tmp_path, KEPT) == ["True", "0 1"]
        assert len(programs(tmp_path)) == 1
        assert python(tmp_path, KEPT) == ["True", "1 0"]


@pytest.mark.skipif(sys.platform != "linux", reason="the user's cache is elsewhere")
def test_a_program_without_a_recorded_hash_is_not_used(tmp_path):
    """As a killed process leaves it. A damaged list of hashes is an empty one."""
    python(tmp_path, KEPT)
    seals = programs(tmp_path)[0].with_name("blake2b.json")
    for text in ("{", "[]", json.dumps({})):
        seals.write_text(text)
        assert python(tmp_path, KEPT) == ["True", "0 1"]


@pytest.mark.skipif(sys.platform != "linux", reason="the user's cache is elsewhere")
def test_a_half_written_program_is_not_given_a_hash(tmp_path):
    """A process was killed while it wrote one, so that JAX did not write its time of use, while another one ran."""
    python(tmp_path, KEPT)
    half = programs(tmp_path)[0].with_name("jit_f-0123-cache")
    late = f"import pathlib; pathlib.Path({str(half)!r}).write_bytes(b'half')"
    python(tmp_path, f"{KEPT}\n{late}")
    assert half.exists()
    assert python(tmp_path, KEPT) == ["True", "1 0"]
    assert not half.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="the user's cache is elsewhere")
@pytest.mark.parametrize("variable", ["JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"])
def test_the_choice_of_the_user_comes_first(tmp_path, variable):
    value = str(tmp_path / "own") if variable.endswith("DIR") else "false"
    assert python(tmp_path, KEPT, **{variable: value})[0] == "False"
    assert not programs(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="the user's cache is elsewhere")
def test_the_folder_of_another_kind_of_machine_is_not_inherited(tmp_path):
    other = tmp_path / "cache" / "seqjax" / "compiled" / "other"
    assert python(tmp_path, KEPT, JAX_COMPILATION_CACHE_DIR=str(other)) == ["True", "0 1"]
    (file,) = programs(tmp_path)
    assert file.parent != other
    # A child of this process has the same folder, and leaves it as it is.
    assert python(tmp_path, KEPT, JAX_COMPILATION_CACHE_DIR=str(file.parent))[0] == "False"


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="needs root, who can give a folder away")
def test_a_folder_of_another_user_is_not_used(tmp_path):
    python(tmp_path, KEPT)
    folder = programs(tmp_path)[0].parent
    folder.chmod(0o770)
    assert python(tmp_path, KEPT)[0] == "False"
    folder.chmod(0o700)
    os.chown(folder, 12345, -1)
    assert python(tmp_path, KEPT)[0] == "False"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the user's cache is elsewhere")
def test_the_second_run_compiles_nothing(tmp_path):
    """Nor does a run of more epochs and of other numbers. With --no-compile-cache nothing is kept or used."""
    (tmp_path / "a.txt").write_text("the cat sat on the mat. " * 100)
    code = SAY.replace(
        "import jax, sys", "import sys; from seqjax.training import keep_programs; keep_programs()\nimport jax"
    )

    def run(*flags):
        return python(tmp_path, code, *RUN, *flags)[-1]

    first = run("--out", "one")
    assert first.startswith("hits 0 misses ")
    assert run("--out", "two").endswith(" misses 0")
    other = ["--epochs", "3", "--seed", "5", "--optimizer.learning-rate", "0.3", "--optimizer.clip-norm", "2"]
    assert run("--out", "three", *other).endswith(" misses 0")


def test_no_compile_cache_keeps_nothing(tmp_path):
    (tmp_path / "a.txt").write_text("the cat sat on the mat. " * 100)
    code = "import sys; from seqjax.cli.command import main; sys.exit(main(sys.argv[1:]))"
    python(tmp_path, code, *RUN, "--no-compile-cache")
    assert not (tmp_path / "cache" / "seqjax").exists()
