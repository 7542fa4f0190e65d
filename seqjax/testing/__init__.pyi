from .checking import check as check
from .estimator import check_estimator as check_estimator
from .parametrize import parametrize_checks as parametrize_checks
from .problems import INFLUENCE as INFLUENCE
from .problems import NEURON as NEURON
from .problems import influence_balancing as influence_balancing
from .problems import spiking_neuron as spiking_neuron
