from .gradient import check_gradient as check_gradient
from .problems import INFLUENCE as INFLUENCE
from .problems import influence_balancing as influence_balancing
from .unroll import check_unroll as check_unroll
