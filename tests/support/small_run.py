"""The small run on which verbs of the command line are tried."""

from pathlib import Path

TEXT = ("the quick brown fox jumps over the lazy dog, und 🎉 für Élise. " * 20)[:1200]
"""Three parts of one length, so that one program evaluates all of them."""

EXPERIMENT = [
    *("--dataset", "text-file", "--dataset.path", "text.txt", "--train", 400, "--heldout", 400),
    *("--sampler.batch-size", 4, "--sampler.num-steps", 8, "--model.hidden", 8, "--epochs", 3),
]
NGRAM = [*EXPERIMENT[:8], "--model", "ngram", "--model.order", 2]
"""The same with a model that is counted, which takes less time."""


TOKENIZER = '''
from dataclasses import dataclass

import seqjax


@seqjax.register("tokenizer", "mine")
@dataclass(frozen=True)
class Mine(seqjax.Tokenizer):
    """Characters."""

    def split(self, text):
        return list(text)

    def join(self, tokens):
        return "".join(tokens)
'''
"""A file with a plugin that changes nothing."""


def damage(run_, name, data):
    """A copy of the run in which one file is changed or missing."""
    copy = Path(f"damaged-{name}-{abs(hash(data)) % 10**8}")
    copy.mkdir()
    for file in run_.iterdir():
        if file.is_file():
            (copy / file.name).write_bytes(file.read_bytes())
    (copy / name).unlink()
    if data is not None:
        (copy / name).write_bytes(data)
    return copy
