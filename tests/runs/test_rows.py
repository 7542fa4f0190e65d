"""The rows of a run in its file."""

import hashlib
import json
import math

import pytest
from support.tiny import refused

from seqjax.runs.files.folder import METRICS
from seqjax.runs.files.rows import Counted, append_row, decode_rows, encode_rows, last_row, read_rows

ROWS = [
    {
        **{"epoch": n, "update": 8 * n, "tokens": 320 * n, "seconds": n / 3},
        **{"train_loss": 1 / n, "heldout_loss": math.nan if n % 2 else 2 / n},
    }
    for n in (1, 2, 3)
]
LINES = encode_rows(ROWS).splitlines(keepends=True)


def same(found, rows):
    return json.dumps(found) == json.dumps(rows)


def test_rows_come_back(tmp_path):
    assert last_row(tmp_path) == {}
    (tmp_path / METRICS).touch()
    assert (read_rows(tmp_path), last_row(tmp_path)) == ([], {})
    for n, row in enumerate(ROWS, 1):
        assert append_row(tmp_path, row) == LINES[n - 1]
        assert same(read_rows(tmp_path), ROWS[:n])
        assert same(last_row(tmp_path), row)
    assert (tmp_path / METRICS).read_bytes() == b"".join(LINES)
    (tmp_path / METRICS).write_bytes(b"".join(LINES) + LINES[0][:9])  # a line that is being written
    assert same(read_rows(tmp_path), ROWS)
    assert same(last_row(tmp_path), ROWS[-1])
    (tmp_path / METRICS).write_bytes(LINES[0] + b"\n")
    with refused("damaged", 4):
        last_row(tmp_path)


def test_the_last_row_is_read_without_those_before_it(tmp_path):
    """They are more than the memory here: zeros that take no room on the disk."""
    with (tmp_path / METRICS).open("wb") as file:
        file.seek(2**38)
        file.write(b"\n" + LINES[1] + LINES[2])
    assert same(last_row(tmp_path), ROWS[-1])


def test_numbers_that_are_not_finite_are_null():
    row = ROWS[0] | {"train_loss": math.inf}
    assert json.loads(encode_rows([row]))["train_loss"] is None
    assert math.isnan(decode_rows(encode_rows([row]))[0]["train_loss"])


@pytest.mark.parametrize("number", [0, 1, 3])
def test_only_the_rows_before_a_checkpoint_count_there(number):
    counted = Counted(number, hashlib.sha256(b"".join(LINES[:number])).hexdigest())
    for after in (b"", LINES[0], b"[]\n", b"\xff\n", b'{"torn'):
        assert same(decode_rows(b"".join(LINES[:number]) + after, counted), ROWS[:number])
    changed = [b"".join(LINES[:number])[:-1], b"\n" + b"".join(LINES)] if number else []
    for data in changed:
        with pytest.raises(ValueError, match=f"its first {number} lines are not those that were written"):
            decode_rows(data, counted)


VALUES = {"epoch": ["2", True, None, 2.0, 0, 1, 3], "train_loss": [[]], "seconds": [{}, True], "another": [1.0]}
ODD = {text: text.encode("latin") for text in ("[]", "1", '"x"', "{", "\x00", '{"epoch": 2}', "", "\xff")} | {
    f"{name} {value}": json.dumps(ROWS[1] | {name: value}).encode() for name in VALUES for value in VALUES[name]
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_no_row_is_exit_4(tmp_path, name):
    (tmp_path / METRICS).write_bytes(LINES[0] + ODD[name] + b"\n" + LINES[2])
    with refused(f"{tmp_path / METRICS} is damaged"):
        read_rows(tmp_path)
    (tmp_path / METRICS).write_bytes(LINES[0] + ODD[name] + b"\n")
    if name not in ("", "epoch 1", "epoch 3", "another 1.0"):  # which are rows, but not beside the others
        with refused(f"{tmp_path / METRICS} is damaged"):
            last_row(tmp_path)


@pytest.mark.parametrize("order", [(0, 2), (1, 0, 2), (0, 1, 1), (1, 2)])
def test_lines_that_are_missing_or_twice_or_swapped_are_exit_4(tmp_path, order):
    (tmp_path / METRICS).write_bytes(b"".join(LINES[n] for n in order))
    with refused(r"its rows are not those of epochs 1, 2, \.\.\."):
        read_rows(tmp_path)
