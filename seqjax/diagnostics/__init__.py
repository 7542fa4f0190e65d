"""How biased, how noisy and how expensive a gradient strategy is, measured on any scan body."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
