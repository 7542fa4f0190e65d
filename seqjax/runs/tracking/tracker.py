"""`Tracker`: a plugin that shows runs in a viewer or a service, such as TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from seqjax.plugin.author import Mistake, mistakes_of
from seqjax.plugin.base import Plugin
from seqjax.plugin.registry import name_of


class Session:
    """What a tracker opens for one run. The author writes all four methods.

    Everything that is sent is also in the folder of the run, which is authoritative.
    """

    def row(self, epoch: int, values: Mapping[str, float]) -> None:
        """Takes the metrics after an epoch.

        Args:
            epoch: the number of epochs that are trained, from 1.
            values: column -> value; a column without a value, such as the held-out loss of an epoch that was not
                evaluated, is left out.
        """
        raise NotImplementedError

    def text(self, name: str, text: str, epoch: int) -> None:
        """Takes a text, such as `config` or `samples`."""
        raise NotImplementedError

    def figure(self, name: str, file: Path, epoch: int) -> None:
        """Takes a figure, such as `history`, which is a PNG file."""
        raise NotImplementedError

    def close(self) -> None:
        """Ends the session. When it returns, everything that was sent is kept."""
        raise NotImplementedError


class Tracker(Plugin):
    """Shows runs in a viewer or a service. The author writes `open`.

    It is not part of an experiment: it does not change a result, and the config of a run does not name it.

    >>> import tempfile
    >>> from dataclasses import dataclass
    >>> import seqjax as sj
    >>> from seqjax.runs import Session
    >>> from seqjax.models import NGram
    >>> class Printing(Session):
    ...     def row(self, epoch, values):
    ...         print("epoch", epoch, "loss", round(values["train_loss"], 1))
    ...     def text(self, name, text, epoch): ...
    ...     def figure(self, name, file, epoch): ...
    ...     def close(self): ...
    >>> @dataclass(frozen=True)
    ... class Printer(sj.Tracker):
    ...     def open(self, run, config, epochs):
    ...         return Printing()
    >>> experiment = sj.Experiment(dataset=sj.Text("abc" * 100), model=NGram(order=2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run = experiment.run(folder, tracker=Printer())
    epoch 1 loss 0.0
    """

    kind: ClassVar[str] = "tracker"

    def open(self, run: Path, config: Mapping[str, Any], epochs: int) -> Session:
        """A session for a run, a new one or one that this tracker knows.

        Args:
            run: the folder of the run.
            config: the fields of its experiment, such as `model.hidden`.
            epochs: the number of epochs whose rows were sent before. Those after it are sent now; some of them again,
                if the run was killed and trains them a second time.
        """
        raise NotImplementedError


METHODS = ("row", "text", "figure", "close")
"""The methods of a session."""


def open_session(tracker: Tracker, run: Path, config: Mapping[str, Any], epochs: int) -> Session:
    """The session that a tracker opens.

    Args:
        tracker: the tracker.
        run: the folder of the run.
        config: the fields of its experiment.
        epochs: the number of epochs that were sent before.

    Raises:
        Error: what `open` raises; a `Mistake` if it is no `Error`, or if it returns no session.
    """
    with mistakes_of(tracker):
        session: Any = tracker.open(run, config, epochs)
    missing = [
        name
        for name in METHODS
        if not callable(getattr(session, name, None)) or getattr(type(session), name, None) is getattr(Session, name)
    ]
    if missing:
        raise Mistake(
            f"tracker {name_of(tracker)}: open returned {type(session).__name__} without {', '.join(missing)}; it must "
            f"return a session with the methods {', '.join(METHODS)}"
        )
    return session
