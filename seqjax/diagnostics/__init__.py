"""What a gradient strategy costs and how wrong it is: `lags`, `measure`, `jacobians`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
