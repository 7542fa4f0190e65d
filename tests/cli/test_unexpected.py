"""What a command says about exceptions that no code expected."""

import errno

import pytest
from support.shell import call, seqjax

from seqjax import Error
from seqjax.cli import list as list_
from seqjax.cli.unexpected import explained


def raised(fault):
    """The `Error` that an exception becomes."""
    with pytest.raises(Error) as caught, explained():
        raise fault
    assert caught.value.__cause__ is fault
    return caught.value


def test_a_fault_of_seqjax_is_exit_1_with_its_place_and_debug_shows_the_traceback(monkeypatch):
    def broken(argv):
        raise KeyError("lost")

    monkeypatch.setattr(list_, "main", broken)
    done = call("list", "model", "rnn")
    assert done.returncode == 1
    assert done.stderr.startswith("seqjax: a fault of seqjax itself, and not of your input: KeyError: 'lost' (")
    assert "test_unexpected.py, line" in done.stderr
    assert "--debug" in done.stderr
    assert "Traceback" not in done.stderr
    with pytest.raises(Error) as caught:
        call("list", "model", "rnn", "--debug")
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "f"), 6, "f: Permission denied"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 300), 2, "aaa': File name too long"),
        (OverflowError("Python int too large to convert to int32"), 2, "a number is too large"),
        (RuntimeError("Unable to initialize backend 'x'"), 2, "JAX does not start: Unable to initialize backend 'x'"),
    ],
)
def test_what_the_user_can_change_is_no_fault_of_seqjax(fault, code, words):
    error = raised(fault)
    assert error.exit_code == code
    assert words in str(error)


def test_what_the_caller_handles_passes_unchanged():
    full = OSError(errno.ENOSPC, "x"), RuntimeError("RESOURCE_EXHAUSTED: x"), MemoryError()
    for fault in (Error("x"), KeyboardInterrupt(), SystemExit(143), BrokenPipeError(), *full):
        with pytest.raises(type(fault)) as caught, explained():
            raise fault
        assert caught.value is fault


def test_what_a_loaded_file_raises_is_shown_with_its_line(tmp_path):
    (tmp_path / "mine.py").write_text("x = 1\nquit()\n")
    done = call("list", "--load", tmp_path / "mine.py")
    assert done.returncode == 2
    assert "mine.py, line 2: quit()" in done.stderr


def test_a_setting_that_jax_cannot_read_is_named(tmp_path):
    done = seqjax("run", "--dry-run", "--train", "2000", cwd=tmp_path, JAX_ENABLE_X64="perhaps")
    assert done.returncode == 2, done.stderr
    assert "JAX does not start" in done.stderr
    assert "JAX_ENABLE_X64" in done.stderr
    assert "uninstall" not in done.stderr
