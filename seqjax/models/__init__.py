"""Sequence models: one step each, `Cell` for recurrent networks, modules and weights of other libraries.

>>> from seqjax.models import GRU
>>> GRU(hidden=8).hidden
8
"""

from seqjax.plugin.roots import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
