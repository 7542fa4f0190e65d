from .local import Local as Local
from .slurm import Slurm as Slurm
