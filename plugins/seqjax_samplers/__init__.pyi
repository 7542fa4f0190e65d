from .in_order import InOrder as InOrder
from .random import Random as Random
from .sentences import Sentences as Sentences
from .sequential import Sequential as Sequential
from .uniform import Uniform as Uniform
from .windows import Windows as Windows
