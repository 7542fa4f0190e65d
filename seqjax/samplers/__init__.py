"""Samplers: the built-in ones, and those of installed packages, by class name.

>>> from seqjax.samplers import InOrder
>>> InOrder(num_steps=4)
InOrder(batch_size=1, num_steps=4)
"""

from seqjax.plugin.roots import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
