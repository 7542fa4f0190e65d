"""The optimizer lion."""

from dataclasses import dataclass
from typing import Annotated

import optax
from annotated_types import Interval

import seqjax
from seqjax.training import ScheduledOptimizer


@seqjax.register("optimizer", "lion")
@dataclass(frozen=True)
class Lion(ScheduledOptimizer):
    """Steps along the signs of a running mean of the gradient (Chen et al. 2023)."""

    bibtex = """
        @inproceedings{chen2023symbolic,
          author = {Chen, Xiangning and Liang, Chen and Huang, Da and Real, Esteban and Wang, Kaiyuan and Pham, Hieu and
            Dong, Xuanyi and Luong, Thang and Hsieh, Cho-Jui and Lu, Yifeng and Le, Quoc V.},
          title = {Symbolic discovery of optimization algorithms},
          booktitle = {Advances in Neural Information Processing Systems},
          volume = {36},
          year = {2023},
          eprint = {2302.06675},
          archiveprefix = {arXiv}
        }
    """

    learning_rate: Annotated[float, Interval(gt=0)] = 0.001
    b1: Annotated[float, Interval(ge=0, lt=1)] = 0.9
    """The weight of the running mean, where the sign is taken."""
    b2: Annotated[float, Interval(ge=0, lt=1)] = 0.99
    """The decay of the running mean."""

    def build(self, num_updates):
        """Clips the gradient, and then does the step."""
        return self.chain(optax.lion, num_updates, b1=self.b1, b2=self.b2)
