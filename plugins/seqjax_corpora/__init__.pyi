from .add import Add as Add
from .copy import Copy as Copy
from .hf_dataset import HFDataset as HFDataset
from .noisy_sine import NoisySine as NoisySine
from .python_docs import PythonDocs as PythonDocs
from .stocks import Stocks as Stocks
from .text_file import TextFile as TextFile
from .time_machine import TimeMachine as TimeMachine
