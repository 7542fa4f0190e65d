from . import plot as plot
from .report import Report as Report
from .table import Table as Table
