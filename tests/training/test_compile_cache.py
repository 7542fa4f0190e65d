"""Programs that are kept from one process to the next. Each command runs in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = ["run", "--dataset", "text-file", "--dataset.path", "a.txt", "--epochs", "1", "--model.hidden", "4"]
SAY = """
import sys
from seqjax.training import keep_programs
keep_programs()
import jax
seen = []
jax.monitoring.register_event_listener(lambda name, **_: seen.append(name.rpartition("/")[2]))
from seqjax.cli.command import main
code = main(sys.argv[1:])
print("hits", seen.count("cache_hits"), "misses", seen.count("cache_misses"))
sys.exit(code)
"""
KEEP = """
import os
from seqjax.training import keep_programs
print(keep_programs())
"""
"""Imports no jax, so that it takes little time."""
FOLDER = f"{KEEP}print(os.environ['JAX_COMPILATION_CACHE_DIR'])"
KEPT = f"""
{KEEP}
import jax
seen = []
jax.monitoring.register_event_listener(lambda name, **_: seen.append(name.rpartition("/")[2]))
jax.jit(lambda x: x + 1)(1.0)
jax.jit(lambda x: x * 2)(1.0)
print(seen.count("cache_hits"), seen.count("cache_misses"))
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="the user's cache is elsewhere")


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


@linux
def test_programs_are_kept_and_one_that_a_killed_process_left_half_written_is_compiled_anew(tmp_path):
    """JAX had not written its time of use."""
    assert python(tmp_path, KEPT) == ["True", "0 2"]
    file, other = programs(tmp_path)
    assert not file.parent.stat().st_mode & 0o077, "a program is code: nobody else may write or read it"
    good = file.read_bytes()
    file.write_bytes(good[:50])
    file.with_name(file.name.replace("-cache", "-atime")).unlink()
    assert python(tmp_path, KEPT) == ["True", "1 1"]
    assert programs(tmp_path) == [file, other]
    assert file.read_bytes() == good


@linux
@pytest.mark.parametrize("variable", ["JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE"])
def test_the_choice_of_the_user_comes_first(tmp_path, variable):
    value = str(tmp_path / "own") if variable.endswith("DIR") else "false"
    assert python(tmp_path, KEEP, **{variable: value}) == ["False"]
    assert not (tmp_path / "cache").exists()


@linux
def test_the_folder_of_another_kind_of_machine_is_not_inherited(tmp_path):
    other = tmp_path / "cache" / "seqjax" / "compiled" / "other"
    kept, folder = python(tmp_path, FOLDER, JAX_COMPILATION_CACHE_DIR=str(other))
    assert kept == "True"
    assert Path(folder).parent == other.parent
    assert folder != str(other)
    # A child of this process has the same folder, and leaves it as it is.
    assert python(tmp_path, KEEP, JAX_COMPILATION_CACHE_DIR=folder) == ["False"]


@pytest.mark.skipif(sys.platform != "linux" or os.getuid() != 0, reason="needs root, who can give a folder away")
def test_a_folder_of_another_user_is_not_used(tmp_path):
    _, folder = python(tmp_path, FOLDER)
    os.chmod(folder, 0o770)
    assert python(tmp_path, KEEP) == ["False"]
    os.chmod(folder, 0o700)
    os.chown(folder, 12345, -1)
    assert python(tmp_path, KEEP) == ["False"]


@linux
def test_no_compile_cache_keeps_nothing(tmp_path):
    """Also for a command that fails, which it does before it imports jax."""
    code = "from seqjax.cli.command import main\nassert main(['run', '--model', 'rn'{}]) == 2"
    python(tmp_path, code.format(", '--no-compile-cache'"))
    assert not (tmp_path / "cache").exists()
    python(tmp_path, code.format(""))
    assert (tmp_path / "cache" / "seqjax" / "compiled").exists()


@pytest.mark.slow
@linux
def test_the_second_run_compiles_nothing(tmp_path):
    """Nor does a run of more epochs and of other numbers. With --no-compile-cache nothing is kept or used."""
    (tmp_path / "a.txt").write_text("the cat sat on the mat. " * 100)

    def run(*flags):
        return python(tmp_path, SAY, *RUN, *flags)[-1]

    first = run("--out", "one")
    assert first.startswith("hits 0 misses ")
    assert run("--out", "two").endswith(" misses 0")
    other = ["--epochs", "3", "--seed", "5", "--optimizer.learning-rate", "0.3", "--optimizer.clip-norm", "2"]
    assert run("--out", "three", *other).endswith(" misses 0")
    before = programs(tmp_path)
    code = "import sys; from seqjax.cli.command import main; sys.exit(main(sys.argv[1:]))"
    python(tmp_path, code, *RUN, "--model.hidden", "5", "--no-compile-cache")
    assert programs(tmp_path) == before
