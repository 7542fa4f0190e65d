"""Launchers: the built-in ones, and those of installed packages, by class name.

>>> from seqjax.launchers import Local
>>> Local(jobs=2)
Local(jobs=2)
"""

from seqjax.plugin.roots import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
