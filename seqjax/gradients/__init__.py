"""Ways to differentiate many steps: strategies, their bases, and `value_and_grad`. Usable alone."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
