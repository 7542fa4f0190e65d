"""Trackers: the built-in ones, and those of installed packages, by class name.

>>> from seqjax.trackers import TensorBoard
>>> TensorBoard()
TensorBoard()
"""

from seqjax.plugin.roots import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
