from .random import Random as Random
from .sequential import Sequential as Sequential
