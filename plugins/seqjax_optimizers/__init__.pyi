from .adam import Adam as Adam
from .sgd import SGD as SGD
