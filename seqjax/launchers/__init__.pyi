from seqjax_launchers import Local as Local
from seqjax_launchers import Slurm as Slurm
