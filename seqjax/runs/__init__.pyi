from .files.folder import inner_folder as inner_folder
from .run import Experiment as Experiment
from .run import Run as Run
from .tracking.tracker import Session as Session
from .tracking.tracker import Tracker as Tracker
