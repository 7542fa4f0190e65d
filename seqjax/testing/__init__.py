"""The conformance suite: checks that a plugin does what its contract asks.

>>> import seqjax as sj
>>> from seqjax.samplers import InOrder
>>> table = sj.testing.check(InOrder(num_steps=4))
>>> set(table["passed"])
{'yes'}
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
