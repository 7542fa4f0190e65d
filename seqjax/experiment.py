"""`Experiment`: the recipe. What is not part of the result is an argument of `run`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from seqjax import config
from seqjax.contracts import Corpus, Model, Optimizer, Sampler, Text, Tokenizer
from seqjax.errors import Error
from seqjax.gradient import Gradient


def _default(kind: str) -> Any:
    fields = dict(config.DEFAULTS[kind])
    name = fields.pop("plugin")
    return field(default_factory=lambda: config.create(kind, name, **fields))


@dataclass(frozen=True, kw_only=True)
class Experiment(config.Scalars):
    """One recipe with one seed: what is learned, by what, and how.

    Raises:
        Error: a value of the wrong type or out of range; all of them at once.
    """

    kind = "experiment"

    corpus: Corpus = _default("corpus")
    """Where the data comes from."""
    tokenizer: Tokenizer | None = None
    """How text is split; None: into characters."""
    sampler: Sampler = _default("sampler")
    """Which windows make an epoch."""
    model: Model = _default("model")
    """What is trained."""
    gradient: Gradient = _default("gradient")
    """How the gradient goes back through time."""
    optimizer: Optimizer = _default("optimizer")
    """What an update does with the gradient."""

    def run(self, path: str | Path | None = None, *, devices: int | None = None, progress: bool = False) -> Any:
        """Trains, and returns the `Run`. A finished run of the same recipe is opened instead.

        Args:
            path: folder to keep the run in; None: in memory, nothing is written.
            devices: how many to shard each batch over; None: all, or the most that divide the batch.
            progress: whether to print what happens.

        Raises:
            Error: a folder that holds another recipe or an unfinished run; training that diverges (exit code 3).
        """
        from seqjax.run import execute

        return execute(self, path, devices, progress)

    def to_toml(self) -> str:
        """The recipe as TOML: the scalars, then a table for each plugin, with full ids and all fields.

        Raises:
            Error: a plugin that is not registered, or a text in memory.
        """
        if isinstance(self.corpus, Text):
            raise Error("a text in memory cannot be written down: save it, and use the corpus text-file")
        return config.to_toml(config.to_config(self))

    @classmethod
    def from_toml(cls, text: str) -> "Experiment":
        """The recipe whose `to_toml` gave `text`; what is left out is at its default."""
        return cls(**config.resolve(config.from_toml(text)))
