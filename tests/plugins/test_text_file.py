"""The documents of a text file; test_datasets.py tests its characters."""

import hashlib

import pytest

from seqjax import Error
from seqjax_datasets import TextFile


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
        ("a", ["a"], ["a"]),
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
