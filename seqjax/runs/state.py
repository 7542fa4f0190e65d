"""`RunState`: what a run has done so far."""

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal

from seqjax.errors import Error, counted
from seqjax.gradients.contract.problem import Params
from seqjax.runs.environment import Environment
from seqjax.runs.files.codec import encode_codec
from seqjax.runs.trained import Trained


@dataclasses.dataclass(eq=False, repr=False)
class RunState(Trained):
    """A trained model with the metrics of its training, the folder of the run, and how training ended."""

    metrics: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """One row per epoch; see `seqjax.columns`."""
    path: Path | None = None
    """The folder of the run, if it has one."""
    diverged: bool = False
    """Whether training ended early because a loss or gradient was not finite."""
    stopped_at: int | None = None
    """The epoch after which the callback ended training, if it did."""
    which: Literal["last", "best"] = "last"
    """The epoch of the parameters: the last one, or the one with the lowest held-out loss."""
    environment: Environment | None = None
    """What the run depended on when it was begun; None: it is in memory."""
    kept_best: Params = None
    """The parameters of the best epoch, if the experiment keeps them; see `Run.best_params`."""

    @property
    def codec_text(self) -> str:
        """Codec and spec as the folder keeps them."""
        return encode_codec(self.codec, self.spec)

    @property
    def finished(self) -> bool:
        """Whether training has come to its end: after all epochs, or earlier, as `ending` says."""
        return len(self.metrics) == self.experiment.epochs or bool(self.ending)

    @property
    def ending(self) -> str:
        """Why training ended before all epochs were trained; empty if it did not."""
        last = len(self.metrics)
        patience = self.experiment.stop_after
        if last == 0 or last == self.experiment.epochs:
            return ""
        if last == self.stopped_at:
            return f"the callback ended training after epoch {last}"
        if patience is not None and (best := self.best_epoch) is not None and last - best >= patience:
            later = counted(patience, "epoch")
            return f"the held-out loss was lowest after epoch {best}, and training ended {later} later"
        return ""

    @property
    def best_epoch(self) -> int | None:
        """The epoch with the lowest held-out loss, the first of them; None if no epoch was evaluated."""
        losses = {row["epoch"]: row["heldout_loss"] for row in self.metrics if not math.isnan(row["heldout_loss"])}
        return min(losses, key=losses.__getitem__) if losses else None

    @property
    def best_params(self) -> Params:
        """The parameters of `best_epoch`.

        Raises:
            Error: the experiment does not keep them.
        """
        name = "this run" if self.path is None else f"the run {self.path}"
        if self.best_epoch is None:
            raise Error(f"{name} has no best epoch: training ended before the held-out part was evaluated")
        if self.experiment.keep != "best":
            raise Error(
                f"{name} keeps the parameters of the last epoch alone: train it with keep = 'best' (--keep best), in "
                "another folder"
            )
        return self.kept_best
