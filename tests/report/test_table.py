"""Tables as values, as text, as Markdown, LaTeX, CSV and data frames."""

import csv
import html
import io
import math
import re
import sys
from collections import Counter

import jax.numpy as jnp
import numpy as np
import pytest
from markdown_it import MarkdownIt
from rich.cells import cell_len
from rich.console import Console

from seqjax import Error
from seqjax.report import Table, latex
from seqjax.report.table import markdown

TABLE = Table(
    ["variant", "updates", "loss", "note"],
    [["full", 4000, 1.5, None], ["8 steps", 123, float("nan"), "cut|off"], ["語", -1, -216928.3, "a\nb"]],
)


def test_a_table_is_a_value_of_plain_tuples():
    made = Table(iter(["a", "b"]), ([np.int64(n), jnp.float32(0.5)] for n in range(2)))
    assert (made.columns, made.rows) == (("a", "b"), ((0, 0.5), (1, 0.5)))
    assert [type(value) for value in made.rows[0]] == [int, float]
    assert made == Table(["a", "b"], [[0, 0.5], [1, 0.5]])
    assert made != Table(["a", "b"], [[0, 0.5], [1, 0.25]])
    assert hash(made) == hash(Table(["a", "b"], [[0, 0.5], [1, 0.5]]))
    with pytest.raises(AttributeError):
        made.rows = ()


def test_a_column_by_name():
    assert TABLE["variant"] == ["full", "8 steps", "語"]
    assert TABLE["updates"] == [4000, 123, -1]
    with pytest.raises(Error, match=r"no column 'update'; did you mean 'updates'\? \(columns: variant, "):
        TABLE["update"]


@pytest.mark.parametrize(
    "case",
    [
        (["a", "b", "a"], [], "several columns are called a"),
        (["a", "b"], [[1, 2], [1]], "row 1 has 1 values for 2 columns"),
        (["a"], [[np.zeros(2)]], "one value"),
        (["a", "b"], [], "no two columns after it", ["a"]),
        (["a"], [], "'lowest' or 'highest'", [], {"a": "low"}),
    ],
)
def test_rows_and_columns_that_are_not_a_table(case):
    columns, rows, words, *more = case
    with pytest.raises(Error, match=words):
        Table(columns, rows, *more)


def test_text_is_aligned_numbers_to_the_right():
    assert str(TABLE).splitlines() == [
        "variant  updates      loss  note",
        "full       4,000     1.500",
        "8 steps      123       nan  cut|off",
        "語            -1  -216,928  a\\nb",  # a character two cells wide; a line feed written out
    ]
    assert str(Table(["a", "b"], [])) == "a  b"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (1234567, "1,234,567"), (-28, "-28"), (True, "True"), (None, ""), ("x", "x"),
        (0.0, "0.000"), (28.0, "28.00"), (0.05381, "0.05381"), (0.5, "0.5000"), (1234.4, "1234"), (9999.4, "9999"),
        (9999.6, "10,000"), (216928.3, "216,928"), (1e-4, "0.0001000"), (9.876e-5, "9.876e-05"), (-2e-16, "-2.000e-16"),
        (3.5e15, "3.500e+15"), (math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf"),
    ],
)  # fmt: skip
def test_numbers_are_shown_with_four_digits(value, text):
    assert str(Table(["a", "b"], [[value, "|"]])).splitlines()[1].removesuffix("|").strip() == text


def test_every_number_keeps_four_digits():
    """The shown number differs from the value by less than half a unit of the fourth digit, whatever its size."""
    for value in np.random.default_rng(0).normal(size=2000) * 10.0 ** np.random.default_rng(1).integers(-20, 20, 2000):
        shown = float(str(Table(["a"], [[value]])).splitlines()[1].replace(",", ""))
        assert abs(shown - value) <= 0.5001 * 10.0 ** (math.floor(math.log10(abs(value))) - 3), value


def test_csv_keeps_all_digits_and_reads_back():
    table = Table(["a", 'b "x", y'], [[0.1 + 0.2, "one\ntwo"], [math.nan, None], [np.float32(0.1), 10**20]])
    text = table.to_csv()
    assert text.startswith('a,"b ""x"", y"\r\n0.30000000000000004,')
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[0] == list(table.columns)
    assert rows[1] == ["0.30000000000000004", "one\ntwo"]
    assert rows[2] == ["nan", ""]
    assert float(rows[3][0]) == float(np.float32(0.1))
    assert int(rows[3][1]) == 10**20


FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", " =1", "\n=1", "'=1", "'' -x", "\uff1d1", "-", "--x"]
TEXTS = ["a", "a=1", "it's", "'a'", "", "-3.5", "+1e5", "-inf", " 7 ", "1-2", "a\tb"]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_text_is_a_formula_in_a_spreadsheet(text):
    """A spreadsheet reads a cell as a text if it begins with an apostrophe."""
    ((column,), (cell,)) = csv.reader(io.StringIO(Table([text], [[text]]).to_csv(), newline=""))
    assert column == cell == f"'{text}"


@pytest.mark.parametrize("text", TEXTS)
def test_other_texts_and_texts_of_numbers_stay_in_csv(text):
    ((_,), (cell,)) = csv.reader(io.StringIO(Table(["x"], [[text]]).to_csv(), newline=""))
    assert cell == text.replace("\t", "\\t")


def test_numbers_stay_numbers_in_csv():
    table = Table(["a", "b", "c"], [[-1, -0.5, True], [np.float32(-2), -math.inf, None]])
    assert table.to_csv() == "a,b,c\r\n-1,-0.5,True\r\n-2.0,-inf,\r\n"


def test_csv_has_no_control_characters():
    assert Table(["a\x1b"], [["\x9b\u202e\r\x00"]]).to_csv() == "a\\x1b\r\n\\x9b\\u202e\\r\\x00\r\n"


def test_markdown():
    assert TABLE.to_markdown().splitlines() == [
        "| variant | updates | loss | note |",
        "| --- | ---: | ---: | --- |",
        "| full | 4,000 | 1.500 |  |",
        "| 8 steps | 123 | nan | cut\\|off |",
        "| 語 | -1 | -216,928 | a<br>b |",
    ]
    assert TABLE._repr_markdown_() == TABLE.to_markdown()


def test_special_characters_of_markdown_html_and_terminals_are_escaped():
    nasty = Table(["<unk>"], [["*a* `b` \\"], ["\x1b[31m"]])
    assert nasty.to_markdown().splitlines()[::2] == [r"| \<unk> |", r"| \*a\* \`b\` \\ |"]
    assert "\x1b" not in nasty.to_markdown() + str(nasty)


@pytest.mark.parametrize("text", ["a", "<b> & `c` | *d* [e](f) _g_ \\\\ ~~h~~ \\ &lt;", "R&D", "AT & T ~ 5"])
def test_no_character_has_a_meaning_in_markdown(text):
    rendered = MarkdownIt("commonmark", {"html": True}).enable("strikethrough").render(f"# {markdown(text)}")
    assert rendered == f"<h1>{html.escape(text, quote=False)}</h1>\n"


def test_latex():
    assert TABLE.to_latex().splitlines() == [
        r"\begin{tabular}{lrrl}",
        r"\toprule",
        r"variant & updates & loss & note \\",
        r"\midrule",
        r"full & $4{,}000$ & $1.500$ &  \\",
        r"8 steps & $123$ & nan & cut$|$off \\",
        r"語 & $-1$ & $-216{,}928$ & a b \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert r"$9.876 \times 10^{-5}$" in Table(["a"], [[9.876e-5]]).to_latex()


def test_special_characters_of_latex_are_escaped():
    """Those that LaTeX lists as special, those that OT1 lacks, those that are read after `\\\\`, and ligatures."""
    nasty = Table([r"\a{b}_^~"], [["[x] *y*"], ["100% & $1 #2"], ["<unk>|\x1b"], ["--lr ''a'' ?`b ---"]])
    assert nasty.to_latex().splitlines()[2:-2] == [
        r"\textbackslash{}a\{b\}\_\textasciicircum{}\textasciitilde{} \\",
        r"\midrule",
        r"{[}x] {*}y{*} \\",
        r"100\% \& \$1 \#2 \\",
        r"$<$unk$>$$|$\textbackslash{}x1b \\",
        r"-{}-lr '{}'a'{}' ?{}`b -{}-{}- \\",
    ]


WIDE = "語" * 14
MEANS = Table(
    ["a_b", "loss", "loss from", "loss to", "語 of many words", "n"],
    [["full", 0.4219, 0.4152, 0.4311, "one two", 5], ["8 & 9", 0.437, 0.42, 0.4612, None, 5],
     [WIDE, 0.45, None, None, "x" * 40, 1], ["d", math.nan, None, None, "", 0]],
    ["loss"], {"loss": "lowest"},
)  # fmt: skip


def test_a_table_of_a_paper():
    """The first mean is the lowest, and the interval of the second one contains it."""
    chosen = MEANS.choose({"loss": "nats", "a_b": "model"}, 3)
    assert chosen.to_latex("Losses & more", "tab:my_losses").splitlines() == [
        r"\begin{table}", r"\centering", r"\caption{Losses \& more}", r"\label{tab:my_losses}",
        r"\begin{tabular}{rl}", r"\toprule", r"nats & model \\", r"\midrule",
        r"$\mathbf{0.422}\,[0.415, 0.431]$ & full \\", r"$\mathbf{0.437}\,[0.420, 0.461]$ & 8 \& 9 \\",
        rf"$0.450$ & {WIDE} \\", r"nan & d \\", r"\bottomrule", r"\end{tabular}", r"\end{table}",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("cell", "digits", "text"),
    [
        ((-0.004388, -0.1272, 0.1125), 3, "-0.004 [-0.127, 0.113]"),
        ((-0.0000388, -0.1272, 0.1125), 3, "0.000 [-0.127, 0.113]"),
        ((9.96, 9.9, 10.02), 3, "10.0 [9.9, 10.0]"), ((12345.6, 9000.4, 13000.0), 4, "12,346 [9000, 13,000]"),
        ((2e-5, 1e-5, 4e-5), 2, "2.0e-05 [1.0e-05, 4.0e-05]"), ((2, 1.5, 3), 2, "2.0 [1.5, 3.0]"),
        ((2.5, None, None), 2, "2.5"), ((math.inf, math.nan, math.nan), 2, "inf"),
    ],
)  # fmt: skip
def test_the_largest_number_of_an_interval_has_the_digits(cell, digits, text):
    assert str(Table("abc", [cell], "a", digits=digits)).splitlines()[1].strip() == text


@pytest.mark.parametrize(
    ("best", "cells", "bold"),
    [
        ("lowest", [(1, 0, 2), (2, 1, 3), (3, 1.5, 4)], "yyn"), ("highest", [(1, 0, 2), (2, 1, 3), (3, 1.5, 4)], "nyy"),
        ("lowest", [(1, None, None), (1, None, None), (2, None, None)], "yyn"), ("lowest", [(1, 0, 2)], "n"),
        ("highest", [(math.nan, None, None), (1, None, None)], "ny"), ("lowest", [(1, 1.5, 2), (3, 3, 3)], "yn"),
    ],
)  # fmt: skip
def test_bold_is_what_no_other_beats_beyond_its_interval(best, cells, bold):
    lines = Table("abc", cells, "a", {"a": best}).to_latex().splitlines()
    assert ["ny"["bf" in line] for line in lines[4:-2]] == [*bold]
    assert "bf" not in Table("abc", cells, "a").to_latex()


def test_columns_are_chosen_and_renamed_and_keep_all_digits():
    chosen = MEANS.choose({"n": "runs", "loss": "nats"}, digits=2)
    assert chosen.to_csv().splitlines()[:2] == ["runs,nats,nats from,nats to", "5,0.4219,0.4152,0.4311"]
    assert chosen.to_markdown().splitlines()[::2] == ["| runs | nats |", "| 5 | 0.42 [0.42, 0.43] |", "| 1 | 0.45 |"]
    for choice, words in (
        ({"columns": ["los"]}, r"no column 'los'; did you mean 'loss'\? \(columns: a_b, loss, "),
        ({"columns": "loss"}, "list of names"), ({"digits": 0}, "at least 1"),
    ):  # fmt: skip
        with pytest.raises(Error, match=words):
            MEANS.choose(**choice)
    with pytest.raises(Error, match="label = 'a}'"):
        MEANS.to_latex(label="a}")


@pytest.mark.parametrize("width", [20, 47, 100])
def test_a_terminal_shows_every_letter_and_interprets_none(width):
    nasty = Table([*MEANS.columns, "x"], [(*row, "[red]\x1b[31m") for row in MEANS.rows], ["loss"])
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(nasty)
    shown = console.export_text()
    assert max(map(cell_len, shown.splitlines())) <= width
    letters = lambda text: Counter(letter for letter in text if letter not in " \n─━")
    assert letters(shown) == letters(str(nasty))
    assert r"[red]\x1b[31m" in str(nasty)


def test_the_ending_of_a_file_says_how_a_table_is_written(tmp_path):
    for name, text in {"a.md": MEANS.to_markdown(), "a.csv": MEANS.to_csv(), "a.tex": MEANS.to_latex()}.items():
        MEANS.write(tmp_path / name)
        assert (tmp_path / name).read_bytes() == text.encode()
    with pytest.raises(Error, match=r"a\.html: a table is written as \.md, \.csv, \.tex"):
        MEANS.write(tmp_path / "a.html")


def test_a_data_frame_keeps_all_digits():
    table = Table(["name", "n", "x"], [["a", 1, 0.1 + 0.2], ["b, c", 10**12, None]])
    frame = table.to_pandas()
    assert list(frame.columns) == ["name", "n", "x"]
    assert frame["name"].tolist() == ["a", "b, c"]
    assert frame["n"].tolist() == [1, 10**12]
    assert frame["x"][0] == 0.1 + 0.2
    assert math.isnan(frame["x"][1])
    assert Table(["a", "b"], []).to_pandas().shape == (0, 2)


def test_a_data_frame_without_pandas_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(Error, match=r"to_pandas needs pandas, which is not installed: pip install pandas"):
        TABLE.to_pandas()


def test_the_means_of_a_column_have_the_same_decimals_unless_their_sizes_differ_much():
    rows = lambda *means: [[str(mean), mean, mean - 0.1 * mean, mean + 0.1 * mean] for mean in means]
    shown = lambda *means: [
        line.partition(" ")[2].strip() for line in str(Table("nxab", rows(*means), "x", digits=2)).splitlines()[1:]
    ]
    assert shown(0.023, 0.11) == ["0.023 [0.021, 0.025]", "0.110 [0.099, 0.121]"]
    assert shown(0.023, 1100.0) == ["0.023 [0.021, 0.025]", "1100 [990, 1210]"]


def test_greek_letters_and_signs_are_mathematics():
    assert latex.plain("Δ ξ_1 λ → ×") == r"$\Delta$ $\xi$\_1 $\lambda$ $\to$ $\times$"
    assert [sign for sign in latex.GREEK if not re.fullmatch(r"\$\\[A-Za-z]+\$", latex.SIGNS[sign])] == []
