"""Optimizers: plugins that build an optax transformation."""

from typing import ClassVar

import optax

from seqjax.plugin.base import Plugin


class Optimizer(Plugin):
    """Turns gradients into updates."""

    kind: ClassVar[str] = "optimizer"

    def build(self, num_updates: int) -> optax.GradientTransformation:
        """The optax transformation for a training of about `num_updates` updates.

        Numeric fields go through `optax.inject_hyperparams`, so that the learning rate can be read.
        """
        raise NotImplementedError
