"""The rows of a run in its file, with their running hash."""

import hashlib
import json
import math

import pytest

from seqjax import Error
from seqjax.runs.files.rows import append_row, first_hash, last_hash, last_row, read_rows, write_rows

ROWS = [
    {
        **{"epoch": n, "update": 8 * n, "tokens": 320 * n, "seconds": n / 3},
        **{"train_loss": 1 / n, "heldout_loss": math.nan if n % 2 else 2 / n},
    }
    for n in (1, 2, 3)
]


@pytest.fixture
def path(tmp_path):
    (tmp_path / "config.toml").write_text("epochs = 3\nseed = 0\n")
    (tmp_path / "codec.json").write_text("{}\n")
    write_rows(tmp_path, ROWS)
    return tmp_path


def same(found, rows):
    return json.dumps(found) == json.dumps(rows)


def test_rows_come_back(path):
    assert same(read_rows(path), ROWS)
    assert same(last_row(path), ROWS[-1])


def test_rows_that_are_appended_are_those_that_are_written_at_once(path):
    whole = (path / "metrics.jsonl").read_bytes()
    write_rows(path, [])
    assert read_rows(path) == []
    assert last_row(path) == {}
    hash_ = last_hash(path)
    for row in ROWS:
        hash_ = append_row(path, row, hash_)
        assert hash_ == last_hash(path)
        assert same(last_row(path), row)
    assert (path / "metrics.jsonl").read_bytes() == whole


def test_each_hash_is_that_of_its_row_and_of_all_before(path):
    before = first_hash(path)
    for line in (path / "metrics.jsonl").read_text().splitlines():
        text, _, tail = line.rpartition(", ")
        before = hashlib.sha256((before + text).encode()).hexdigest()[:16]
        assert tail == f'"hash": "{before}"}}'


def test_each_flipped_bit_and_each_truncation_is_exit_4_or_leaves_rows_out(path):
    file = path / "metrics.jsonl"
    good = file.read_bytes()
    ends = [n + 1 for n, byte in enumerate(good) if byte == ord("\n")]
    for n in range(len(good)):
        file.write_bytes(good[:n])
        if n in (0, *ends):
            assert same(read_rows(path), ROWS[: [0, *ends].index(n)]), "whoever reads it counts the rows"
        else:
            with pytest.warns(UserWarning, match="incomplete"):
                assert same(read_rows(path), ROWS[: sum(end <= n for end in ends)])
        for bit in range(8):
            file.write_bytes(good[:n] + bytes([good[n] ^ 1 << bit]) + good[n + 1 :])
            if n == len(good) - 1:
                with pytest.warns(UserWarning, match="incomplete"):
                    assert same(read_rows(path), ROWS[:2])
                continue
            with pytest.raises(Error) as caught:
                read_rows(path)
            assert caught.value.exit_code == 4
            assert str(file) in str(caught.value)
            if n >= ends[1]:
                with pytest.raises(Error):
                    last_row(path)


@pytest.mark.parametrize("order", [(0, 2), (1, 0, 2), (0, 1, 1), (1, 2), (0, 1, 2, 2)])
def test_lines_that_are_missing_or_twice_or_swapped_are_exit_4(path, order):
    lines = (path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (path / "metrics.jsonl").write_bytes(b"".join(lines[n] for n in order))
    with pytest.raises(Error, match=r"line \d has changed, or belongs to another run") as caught:
        read_rows(path)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(("file", "text"), [("config.toml", "epochs = 3\nseed = 1\n"), ("codec.json", "[]\n")])
def test_rows_of_another_run_are_exit_4(path, file, text):
    (path / file).write_text(text)
    with pytest.raises(Error, match="line 1 has changed, or belongs to another run"):
        read_rows(path)


def test_the_number_of_epochs_may_change(path):
    (path / "config.toml").write_text("epochs = 5\nseed = 0\n")
    assert same(read_rows(path), ROWS)
