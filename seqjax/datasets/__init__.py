"""Datasets: the built-in ones, and those of installed packages, by class name.

>>> from seqjax.datasets import IID
>>> IID(num_steps=100).load().inputs.shape
(100,)
"""

from seqjax.plugin.roots import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
