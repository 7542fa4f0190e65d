"""Training, and what a trained model is used for: evaluating, generating, forecasting."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
