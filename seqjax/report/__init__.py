"""Tables, figures, reports of experiments, and the pages that collect the reports."""

from typing import Any

import lazy_loader

from seqjax.extras import needing

_attribute, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    with needing("plot", "a figure"):  # `plot` imports matplotlib
        return _attribute(name)
