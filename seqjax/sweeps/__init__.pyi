from .launching.launcher import Job as Job
from .launching.launcher import Launcher as Launcher
from .runs import Runs as Runs
from .sweeping import sweep as sweep
