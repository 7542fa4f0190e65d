from .strategies import Reexported as Reexported
