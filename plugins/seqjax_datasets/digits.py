"""Handwritten digits, read pixel by pixel."""

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Interval

from seqjax import Dataset, Pairs, register
from seqjax.extras import needing


@register("dataset", "digits")
@dataclass(frozen=True)
class Digits(Dataset):
    """1,797 handwritten digits of 8 by 8 pixels, which are read one after the other (Alpaydin & Kaynak 1998).

    A sequence has 64 steps. The input is the grey level of a pixel, between 0 and 1, and the target after the last step
    is the digit. The images come from scikit-learn (`pip install 'seqjax[digits]'`), in a random order, so that `train`
    and `heldout` are random parts of them. A model that knows nothing has an accuracy of 10 %, and the loss ln 10. The
    floor is not known.
    """

    cites = ("alpaydin1998cascading",)
    extra = "digits"
    sampler_fields: ClassVar = {"num_steps": 64}
    chance: ClassVar = math.log(10)

    permuted: bool = False
    """Whether the pixels are in a random order, which is the same in all images, and not in rows from top left."""
    seed: Annotated[int, Interval(ge=0)] = 0
    """Seed of the order of the images, and of the order of the pixels."""

    def load(self):
        """Pairs with one target for each image."""
        with needing(self.extra, "dataset digits"):
            from sklearn.datasets import load_digits
        images, digits = load_digits(return_X_y=True)
        order = np.random.default_rng([self.seed, 0]).permutation(len(images))
        if self.permuted:
            images = images[:, np.random.default_rng([self.seed, 1]).permutation(images.shape[1])]
        pixels = (images[order, :, None] / 16).astype(np.float32)
        return Pairs.from_sequences(pixels, digits[order].astype(np.int32), source="digits")
