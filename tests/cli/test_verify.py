"""`seqjax verify`: its table and its exit code."""

import shutil

from support.shell import call

from seqjax.runs.files import folder


def rows(text):
    """What -> state, in the tables that were printed."""
    lines = [line for line in text.splitlines() if line and ": " not in line.partition("  ")[0]]
    return {line.split("  ")[0]: line.split("  ", 1)[1].split()[0] for line in lines if not line.startswith("what ")}


def test_a_run_that_was_not_touched(run_):
    done = call("verify", run_)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{run_}: no fault\nwhat ")
    assert set(rows(done.stdout).values()) == {"ok"}


def test_all_faults_of_all_runs_are_printed(run_, tmp_path):
    copy, other = (shutil.copytree(run_, tmp_path / name) for name in ("copy", "other"))
    (copy / folder.SAMPLES).write_text("mine")
    (other / folder.HISTORY).unlink()
    (other / folder.CODEC).write_text("{}")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    done = call("verify", copy, run_, other)
    assert done.returncode == 4
    assert f"{copy}: 1 fault\n" in done.stdout
    assert f"{run_}: no fault\n" in done.stdout
    assert f"{other}: 2 faults\n" in done.stdout
    found = rows(done.stdout)
    assert (found[folder.SAMPLES], found[folder.HISTORY], found[folder.CODEC]) == ("changed", "missing", "changed")
    assert f"runs with faults: 2 of 3: {copy} {other}\n" in done.stderr
    assert "Restore the old files" in done.stderr
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_folder_that_holds_no_run_is_exit_2_and_the_others_are_checked(run_, tmp_path):
    done = call("verify", tmp_path, run_)
    assert done.returncode == 2
    assert f"{run_}: no fault" in done.stdout
    assert f"{tmp_path} holds no run and no sweep" in done.stderr
