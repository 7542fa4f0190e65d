"""Optimizers: the built-in ones, and those of installed packages, by class name.

>>> from seqjax.optimizers import Adam
>>> Adam(learning_rate=0.01).learning_rate
0.01
"""

from seqjax.plugin.roots import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
