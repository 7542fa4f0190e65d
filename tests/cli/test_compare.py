"""`seqjax compare`: the table of runs in folders, and whether two of them are equal."""

from support.shell import call

from seqjax import Runs


def test_the_table_is_printed_as_text_latex_or_markdown(run_):
    flags = ("--metric", "train_loss", "--which", "last")
    table = Runs.open(run_).compare("train_loss", which="last")
    head = "train_loss, last epoch: mean over seeds, without an interval, which takes two seeds"
    for form, text in {
        "text": f"{head}\n{table}\n",
        "latex": table.to_latex(),
        "markdown": table.to_markdown(),
    }.items():
        assert call("compare", run_, *flags, "--format", form).stdout == text
    assert "--figure" in call("compare", run_, "--format", "latex", "--figure", "x.png").stderr


def test_the_last_line_says_whether_two_runs_are_equal(run_, tmp_path):
    config = ("run", "--config", run_ / "config.toml")
    for name, flags in {"again": [], "other": ["--seed", 7]}.items():
        assert call(*config, *flags, "--out", tmp_path / name).returncode == 0
    equal = call("compare", run_, tmp_path / "again", "--figure", tmp_path / "curves.png")
    assert (equal.returncode, equal.stdout.splitlines()[-1]) == (0, "equal to the bit: parameters, metrics")
    other = call("compare", run_, tmp_path / "other")
    assert (other.returncode, other.stdout.splitlines()[-1][:44]) == (0, "not equal: metrics differ from epoch 1 on (t")
    for paths in ([run_], [run_, tmp_path / "again", tmp_path / "other"]):
        assert "equal" not in call("compare", *paths).stdout
