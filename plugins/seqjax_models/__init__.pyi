from .rnn import RNN as RNN
