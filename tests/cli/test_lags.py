"""`seqjax lags`."""

import pytest
from support.shell import call
from support.small_run import EXPERIMENT, TEXT


def test_lags_takes_fewer_rows_of_a_short_training_part(run_, tmp_path):
    flags = ["--max-lag", 3, "--steps", 150, "--figure"]
    done = call("lags", run_, *flags, tmp_path / "lags.png")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 rows of 150 steps\n")
    done = call("lags", run_, *flags, "x.foo")
    assert done.returncode == 2
    assert "--figure x.foo: Format 'foo' is not supported" in done.stderr


@pytest.mark.slow
def test_run_and_lags_report_a_state_without_gradient_through_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    mlp = [*EXPERIMENT, "--model", "mlp", "--epochs", 1]
    done = call("run", *mlp, "--gradient", "truncated", "--out", "mlp")
    assert "note     the state of mlp hidden=8 holds inputs only: no gradient goes through time" in done.stdout
    done = call("lags", "mlp", "--max-lag", 5)
    assert done.returncode == 0, done.stderr
    assert "no part of the gradient travels back" in done.stdout
    assert "note" not in call("run", *mlp, "--out", "full").stdout
    assert "note" not in call("run", *EXPERIMENT, "--epochs", 1, "--gradient", "truncated", "--out", "rnn").stdout
