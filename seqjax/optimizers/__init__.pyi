from seqjax_optimizers import SGD as SGD
from seqjax_optimizers import Adam as Adam
from seqjax_optimizers import AdamW as AdamW
