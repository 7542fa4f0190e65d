"""The documents of a text file; test_datasets.py tests its characters."""

import hashlib

import pytest

from seqjax import Error
from seqjax.datasets import TextFile


def load(tmp_path, text, documents):
    file = tmp_path / "book.txt"
    file.write_bytes(text.encode())
    return TextFile(path=str(file), documents=documents).load()


TEXT = "\ufeffone\r\ntwo \n\n\r\n \t\n three\u2028 3\rfour\n\n\nfive"


@pytest.mark.parametrize(
    ("text", "lines", "paragraphs"),
    [
        (
            TEXT,
            ["\ufeffone\r\n", "two \n", " three\u2028 3\r", "four\n", "five"],
            ["\ufeffone\r\ntwo \n", " three\u2028 3\rfour\n", "five"],
        ),
        ("nul \0 and \x1b[31m😀", ["nul \0 and \x1b[31m😀"], ["nul \0 and \x1b[31m😀"]),
        ("a\n", ["a\n"], ["a\n"]),
        ("\n\na\r\rb\r", ["a\r", "b\r"], ["a\r", "b\r"]),
        ("a\r\n\r\nb\r\n", ["a\r\n", "b\r\n"], ["a\r\n", "b\r\n"]),
        ("x" * 1_000_000 + "\ny", ["x" * 1_000_000 + "\n", "y"], ["x" * 1_000_000 + "\ny"]),
    ],
)
def test_documents_keep_their_line_ends_without_blank_lines(tmp_path, text, lines, paragraphs):
    assert load(tmp_path, text, "one").documents == [text]
    assert load(tmp_path, text, "lines").documents == lines
    assert load(tmp_path, text, "paragraphs").documents == paragraphs


def test_one_document_is_the_default_and_the_file_itself(tmp_path):
    text = load(tmp_path, TEXT, "one")
    assert text.sha256 == hashlib.sha256(TEXT.encode()).hexdigest()
    assert TextFile(path=text.source).load().sha256 == text.sha256
    assert len({load(tmp_path, TEXT, by).sha256 for by in ("one", "lines", "paragraphs")}) == 3


@pytest.mark.parametrize("documents", ["lines", "paragraphs"])
def test_a_file_of_blank_lines_has_no_documents(tmp_path, documents):
    with pytest.raises(Error, match="is empty but for blank lines"):
        load(tmp_path, "\n \r\n\t", documents)
    with pytest.raises(Error, match=r"is empty$"):
        load(tmp_path, "", documents)
    assert load(tmp_path, "\n \r\n\t", "one").text == "\n \r\n\t"


@pytest.fixture
def folder(tmp_path):
    for name, text in {"b.txt": "bee", "a.txt": "ay\n", "deep/c.txt": "", "deep/d.md": "dee"}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "documents"),
    [
        (".", ["ay\n", "bee", ""]),
        ("*.txt", ["ay\n", "bee"]),
        ("[b]*", ["bee"]),
        ("**/*.*", ["ay\n", "bee", "", "dee"]),
        ("a.txt", ["ay\n"]),
    ],
)
def test_each_file_of_a_folder_or_pattern_is_a_document(folder, path, documents):
    assert TextFile(path=str(folder / path)).load().documents == documents


def test_files_are_cut_apart(folder):
    (folder / "a.txt").write_text("one\ntwo")
    assert TextFile(path=str(folder), documents="lines").load().documents == ["one\n", "two", "bee"]


def test_a_file_whose_name_looks_like_a_pattern_is_read(folder):
    (folder / "[x].txt").write_text("x")
    assert TextFile(path=str(folder / "[x].txt")).load().documents == ["x"]


def test_a_file_that_is_not_utf_8_is_named(folder):
    (folder / "b.txt").write_bytes(b"\xff")
    with pytest.raises(Error, match=r"b\.txt is not UTF-8: byte 0xff at offset 0"):
        TextFile(path=str(folder)).load()
