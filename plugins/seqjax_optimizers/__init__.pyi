from .adam import Adam as Adam
from .adamw import AdamW as AdamW
from .sgd import SGD as SGD
