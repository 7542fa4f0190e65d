from .experiment import Experiment as Experiment
from .run import Run as Run
from .sweep import Runs as Runs
from .sweep import sweep as sweep
