from . import linear as linear
from . import markov as markov
from .ngram_frequencies import Frequencies as Frequencies
from .ngram_frequencies import frequencies as frequencies
from .ngram_frequencies import zipf_figure as zipf_figure
from .ngrams import count_ngrams as count_ngrams
from .sampler_coverage import Coverage as Coverage
from .sampler_coverage import coverage as coverage
