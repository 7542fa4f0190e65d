"""Tables in files: columns by name, sequences, labels, and errors with line and column."""

import json
import shlex

import pyarrow as pa
import pyarrow.parquet
import pytest

from seqjax import Error, Pairs, Series, Spec, Tokens, Values
from seqjax.datasets import CSV
from seqjax.plugin.config import parse

TABLE = "day,a, b,y\nmon,1,2.5,0\nmon,-3,4e2,1\ntue,5,6,1\n"


@pytest.fixture
def file(tmp_path):
    def write(text, **options):
        path = tmp_path / "t.csv"
        path.write_bytes(text.encode(**options))
        return str(path)

    return write


def test_columns_are_taken_by_name_in_the_order_asked_for(file):
    data = CSV(path=file(TABLE), inputs=("b", "a"), targets=("y",)).load()
    assert isinstance(data, Pairs)
    assert data.spec == Spec(Values(2), Values(1))
    assert data.inputs.tolist() == [[2.5, 1], [400, -3], [6, 5]]
    assert data.targets.tolist() == [[0], [1], [1]]
    assert data.mask is None
    assert data.bounds.tolist() == [0, 3]


def test_without_inputs_the_table_is_a_series(file):
    data = CSV(path=file(TABLE), targets=("y", "a")).load()
    assert isinstance(data, Series)
    assert (data.names, data.values.tolist()) == (("y", "a"), [[0, 1], [1, -3], [1, 5]])
    whole = CSV(path=file(TABLE), sequence="day").load()
    assert (whole.names, whole.bounds.tolist()) == (("a", "b", "y"), [0, 2, 3])


def test_a_column_of_ids_divides_sequences_whose_last_row_alone_may_be_scored(file):
    text = "id,x,class\n7,1,\n7,2,cat\n8,3,dog\n9,4,\n9,5,\n9,6,cat\n"
    fields = {"inputs": ("x",), "targets": ("class",), "sequence": "id", "labels": ("dog", "cat")}
    data = CSV(path=file(text), scored="last", **fields).load()
    assert data.spec == Spec(Values(1), Tokens(2))
    assert data.bounds.tolist() == [0, 2, 3, 6]
    assert data.mask.tolist() == [False, True, True, False, False, True]
    assert data.targets[data.mask].tolist() == [1, 0, 1]
    with pytest.raises(
        Error, match=r"line 2, column 'class': found an empty cell, and needs one of the labels dog, cat"
    ):
        CSV(path=file(text), **fields).load()


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("﻿" + TABLE, {}),  # a byte order mark, as spreadsheets write it
        (TABLE.replace("\n", "\r\n"), {}),
        (TABLE.replace(",", ";"), {"delimiter": ";"}),
        (TABLE.replace("2.5", '"2.5"').replace("mon", '"mon, or\nlater"'), {}),
        (TABLE.replace("\n", "\n\n"), {}),
    ],
    ids=["bom", "crlf", "semicolons", "quotes", "blank lines"],
)
def test_other_ways_to_write_the_same_table(file, text, options):
    plain = CSV(path=file(TABLE), inputs=("a",), targets=("b",)).load()
    assert CSV(path=file(text), inputs=("a",), targets=("b",), **options).load() == plain


@pytest.mark.parametrize(
    ("text", "fields", "message"),
    [
        (TABLE, {"inputs": ("a", "zz"), "targets": ("y",)}, r"has no column 'zz' \(columns: day, a, b, y\)"),
        (TABLE, {"inputs": ("day",), "targets": ("y",)}, r"line 2, column 'day': found 'mon', and needs a finite"),
        (TABLE.replace("5,6", ",6"), {"targets": ("a",)}, r"line 4, column 'a': found an empty cell"),
        (TABLE.replace("5,6", "inf,6"), {"targets": ("a",)}, r"line 4, column 'a': found 'inf'"),
        (TABLE + "tue,1\n", {"targets": ("a",)}, r"line 5: it has 2 cells, and the first line 4 names"),
        ("a\ty\n1\t2\n", {"targets": ("y",)}, r"the separator another one\? --dataset.delimiter \$'\\t'"),
        ("1,-2.5e3\n1,2\n", {"targets": ("y",)}, r"Its first line must have the names of the columns, and has numbers"),
        ("a,a\n1,2\n", {}, r"several columns of the name 'a'"),
        ("", {}, r"needs a line of column names"),
        (TABLE + "mon,1,2,3\n", {"sequence": "day", "targets": ("a",)}, r"line 5, column 'day': found 'mon'.*sort the"),
        ("y\n1\n2\n\n4\n", {}, r"line 4, column 'y': found an empty cell"),
        ("y\n1_000\n2\n", {}, r"line 2, column 'y': found '1_000'"),
        ('a\n"1\n', {}, r"line 2: unexpected end of data"),
    ],
)
def test_a_wrong_table_is_an_error_with_line_and_column(file, text, fields, message):
    with pytest.raises(Error, match=message):
        CSV(path=file(text), **fields).load()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inputs": ("a",)}, "inputs need targets"),
        ({"targets": ("a",), "labels": ("x",)}, "labels and scored need inputs"),
        ({"inputs": ("a",), "targets": ("b", "y"), "labels": ("x",)}, "labels need one target column"),
        ({"inputs": ("a",), "targets": ("y",), "labels": ("x", "x")}, "labels need one target column"),
        ({"delimiter": ""}, "must be one character"),
        ({"delimiter": "\n"}, "nor the end of a line"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields, message):
    with pytest.raises(Error, match=message):
        CSV(path="t.csv", **fields)


def test_a_file_that_is_no_utf_8_is_an_error_with_the_line(file):
    with pytest.raises(Error, match=r"line 2: it is not UTF-8"):
        CSV(path=file("a\né\n", encoding="latin-1")).load()


def test_targets_that_are_words_need_labels_which_the_error_names(file):
    """The flag that it names is the one with which the table is read."""
    text = "x,y\n1,dog\n2,big cat\n3,dog\n"
    with pytest.raises(Error, match=r"column 'y': found 'dog'.*\n.*--dataset\.labels 'big cat,dog'") as caught:
        CSV(path=file(text), inputs=("x",), targets=("y",)).load()
    (flag,) = shlex.split(str(caught.value).partition("--dataset.labels ")[2])
    data = CSV(path=file(text), inputs=("x",), targets=("y",), labels=parse(tuple[str, ...], flag)).load()
    assert data.targets.tolist() == [1, 0, 1]
    for other in ("x,y\n1,0\n2,n/a\n", "x,y\n1,\n2,0\n", "x,y\n1,\n"):
        with pytest.raises(Error, match="Fill the gaps"):
            CSV(path=file(other), inputs=("x",), targets=("y",)).load()


def test_a_file_of_which_any_byte_was_changed_is_read_or_is_an_error_with_its_name(tmp_path):
    data, file, messages = TABLE.replace("mon", '"mon"').encode(), tmp_path / "t.csv", []
    for at, byte in enumerate(data):
        for other in {*b'\xff",\n', byte ^ 1} - {byte}:
            file.write_bytes(data[:at] + bytes([other]) + data[at + 1 :])
            try:
                CSV(path=str(file), inputs=("a",), targets=("y",), sequence="day").load()
            except Error as fault:
                messages.append(str(fault))
    assert len(messages) > len(data)
    assert all(str(file) in message for message in messages)


def test_an_unknown_column_of_many_is_an_error_with_the_nearest_and_some_of_them(file):
    names = [f"x{n}" for n in range(2_000)]
    with pytest.raises(Error, match=r"did you mean 'x777'.*\(columns: x0, x1, .*, x11 and 1,988 more\)") as caught:
        CSV(path=file(",".join(names) + "\n" + ",".join("1" * 2_000)), targets=("xx777",)).load()
    assert len(str(caught.value)) < 400


ROWS = {
    "id": ["mon", "mon", "tue"],
    "n": [7, 2**40, -3],
    "x": [0.1, -1e-300, 123456.789],
    "word": ["dog", "a, cat", "dog"],
    "gap": [None, 1, 2],
    "flag": [True, False, True],
}


def write_rows(path, columns):
    """Writes a table in the format of the ending of a path, and returns the path."""
    rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    if path.suffix == ".parquet":
        pa.parquet.write_table(pa.table(columns), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        quoted = [["" if cell is None else json.dumps(cell) for cell in row.values()] for row in rows]
        path.write_text("\n".join(map(",".join, [list(columns), *quoted])))
    return str(path)


@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
@pytest.mark.parametrize(
    "fields",
    [
        {"targets": ("x", "n")},
        {"targets": ("n",), "sequence": "id"},
        {"inputs": ("n", "x"), "targets": ("word",), "labels": ("a, cat", "dog"), "sequence": "id"},
        {"inputs": ("x",), "targets": ("gap",), "sequence": "id", "scored": "last"},
        {"inputs": ("x",), "targets": ("flag",), "labels": ("false", "true")},
    ],
    ids=["series", "sequences", "words", "last", "truth values"],
)
def test_a_table_in_another_format_is_that_in_csv(tmp_path, ending, fields):
    plain, other = (CSV(path=write_rows(tmp_path / f"t{end}", ROWS), **fields).load() for end in (".csv", ending))
    assert type(other) is type(plain)
    assert other == plain


@pytest.mark.parametrize("ending", [".parquet", ".jsonl"])
def test_a_cell_that_is_no_number_is_named_by_its_row(tmp_path, ending):
    path = write_rows(tmp_path / f"t{ending}", ROWS)
    with pytest.raises(Error, match=rf"dataset csv: {path}, row 1, column 'gap': found an empty cell, and needs a"):
        CSV(path=path, targets=("gap",)).load()


@pytest.mark.parametrize("ending", [".jsonl", ".PARQUET"])
def test_a_damaged_or_empty_file_in_another_format_is_an_error_with_its_name(tmp_path, ending):
    whole = write_rows(tmp_path / f"whole{ending.lower()}", ROWS)
    file = tmp_path / f"t{ending}"
    for data in (b"", b"x,y\n1,2\n", (tmp_path / whole).read_bytes()[:-20], b"\x93NUMPY"):
        file.write_bytes(data)
        with pytest.raises(Error, match=rf"{file} is damaged, or no .*\nWrite it again, or give it another ending"):
            CSV(path=str(file)).load()
    file.unlink()
    with pytest.raises(Error, match="cannot be read from the folder"):
        CSV(path=str(file)).load()
    write_rows(tmp_path / "t.parquet", {"x": pa.array([], "float64")})
    with pytest.raises(Error, match=r"t\.parquet has no rows"):
        CSV(path=str(tmp_path / "t.parquet")).load()


def test_a_table_with_very_many_columns_is_read(file):
    """In a time that is quadratic in their number, pytest would end this test: see `faulthandler_timeout`."""
    names = [f"column {n}" for n in range(200_000)]
    row = ",".join(map(str, range(len(names))))
    data = CSV(path=file(f"{','.join(names)}\n{row}\n{row}\n")).load()
    assert (list(data.names), data.values.tolist()) == (names, [list(range(len(names)))] * 2)
