from .experiment import Experiment as Experiment
from .launching.launcher import Job as Job
from .launching.launcher import Launcher as Launcher
from .run import Run as Run
from .sweep import Runs as Runs
from .sweep import sweep as sweep
from .tracking.tracker import Session as Session
from .tracking.tracker import Tracker as Tracker
