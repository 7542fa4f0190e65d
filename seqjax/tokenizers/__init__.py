"""Tokenizers: the built-in ones, and those of installed packages, by class name.

>>> import seqjax as sj
>>> from seqjax.tokenizers import Char
>>> Char().fit(sj.Text("ab ba")).encode("ab").tolist()
[1, 2]
"""

from seqjax.plugin.roots import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
