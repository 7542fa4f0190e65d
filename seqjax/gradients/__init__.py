"""Ways to differentiate many steps. Usable alone, on any scan body.

>>> from seqjax.gradients import Truncated
>>> Truncated(steps=5)
Truncated(steps=5)
"""

from seqjax.plugin.roots import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
