"""No place is missing from the enumeration of control characters, and it notices a text that is not escaped."""

import sys

import pytest

from faults import escapes
from seqjax.terminal.stream import unescaped


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """The folder of all places, which share some runs."""
    return tmp_path_factory.mktemp("places")


@pytest.mark.parametrize("name", [name for name in escapes.PLACES if name not in escapes.SLOW])
def test_no_control_character_is_printed(name, root):
    assert escapes.problem(name, root) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", escapes.SLOW)
def test_no_control_character_is_printed_where_it_takes_long(name, root):
    assert escapes.problem(name, root) is None


def test_a_print_that_goes_around_the_escaping_is_found(tmp_path, monkeypatch):
    """Planted: one line of one verb is written to the stream that is not escaped."""

    def raw(label, text, file=None):
        unescaped(sys.stdout).write(f"{label:8} {text}\n")

    monkeypatch.setattr("seqjax.cli.new.line", raw)
    found = escapes.problem("folder of a new plugin", tmp_path)
    assert found is not None
    assert found.startswith("folder of a new plugin: printed ")


def test_streams_that_are_not_escaped_are_found(tmp_path, monkeypatch):
    """Planted: the command leaves its streams as they are."""
    monkeypatch.setattr("seqjax.cli.command.escape_streams", lambda: None)
    assert "printed" in (escapes.problem("docstring of a plugin", tmp_path) or "")


def test_a_place_that_shows_nothing_is_found(tmp_path, monkeypatch):
    """A case whose text never gets as far as the terminal proves nothing."""
    monkeypatch.setitem(escapes.PLACES, "nothing", lambda place: place.seqjax("--version"))
    assert "it is not shown" in (escapes.problem("nothing", tmp_path) or "")
