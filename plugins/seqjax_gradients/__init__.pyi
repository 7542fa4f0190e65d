from .full import Full as Full
from .randomized import Randomized as Randomized
from .rtrl import RTRL as RTRL
from .truncated import Truncated as Truncated
