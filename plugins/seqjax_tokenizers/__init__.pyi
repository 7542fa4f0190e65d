from .bpe import BPE as BPE
from .char import Char as Char
from .standardize import Standardize as Standardize
from .word import Word as Word
