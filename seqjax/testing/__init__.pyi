from .gradient import check_gradient as check_gradient
from .problems import INFLUENCE as INFLUENCE
from .problems import NEURON as NEURON
from .problems import influence_balancing as influence_balancing
from .problems import spiking_neuron as spiking_neuron
from .unroll import check_unroll as check_unroll
