from .flax_cell import FlaxCell as FlaxCell
from .gru import GRU as GRU
from .lstm import LSTM as LSTM
from .mlp import MLP as MLP
from .ngram import NGram as NGram
from .rnn import RNN as RNN
