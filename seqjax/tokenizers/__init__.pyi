from seqjax_tokenizers import BPE as BPE
from seqjax_tokenizers import Char as Char
from seqjax_tokenizers import Standardize as Standardize
from seqjax_tokenizers import Word as Word
