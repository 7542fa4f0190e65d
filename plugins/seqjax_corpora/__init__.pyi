from .python_docs import PythonDocs as PythonDocs
from .text_file import TextFile as TextFile
from .time_machine import TimeMachine as TimeMachine
