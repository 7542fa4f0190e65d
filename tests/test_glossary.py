"""The words that the glossary of CONTRIBUTING.md replaces are used nowhere."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
REPLACED = re.compile(r"(?<![a-z])(corpus|corpora|fresh|recipes?|arms?|gates|symbols?)(?![a-z])", re.IGNORECASE)
# What the chapter calls the gates of an LSTM or a GRU, here the beginnings of paths.
GATES = [
    "plugins/seqjax_models/lstm.py",
    "plugins/seqjax_models/gru.py",
    "plugins/seqjax_models/min_",
    "plugins/seqjax_models/README.md",
    "tests/models",
]


def files():
    for folder in ("seqjax", "plugins", "experiments", "benchmarks", "tests", "docs", ".ci"):
        yield from (path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".pyi", ".md", ""))
    yield from (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile", "pyproject.toml"))


def replaced_words(path, text):
    """The lines of a file that use a replaced word; the glossary itself lists them in a table."""
    name = path.relative_to(ROOT).as_posix()
    for number, line in enumerate(text.splitlines(), 1):
        if name == "CONTRIBUTING.md" and line.startswith("|"):
            continue
        for word in REPLACED.findall(line):
            if not (word.lower() == "gates" and any(name.startswith(allowed) for allowed in GATES)):
                yield f"{name}:{number}: {word}"


def test_the_replaced_words_are_used_nowhere():
    texts = {path: path.read_text() for path in files() if path.is_file() and path != Path(__file__)}
    assert len(texts) > 200
    assert [found for path, text in texts.items() for found in replaced_words(path, text)] == []


def test_a_replaced_word_is_found():
    path = ROOT / "seqjax" / "runs" / "run.py"
    assert [*replaced_words(path, "the\nRECIPE = read_corpus(armed)\n")] == [
        "seqjax/runs/run.py:2: RECIPE",
        "seqjax/runs/run.py:2: corpus",
    ]
