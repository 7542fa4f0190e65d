from . import linear as linear
from . import markov as markov
from .coverage import Coverage as Coverage
from .coverage import coverage as coverage
from .frequencies import Frequencies as Frequencies
from .frequencies import frequencies as frequencies
from .frequencies import zipf_figure as zipf_figure
from .ngrams import count_ngrams as count_ngrams
