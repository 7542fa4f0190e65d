from .gradient_by_lag import Lags as Lags
from .gradient_by_lag import lags as lags
from .measuring import Measures as Measures
from .measuring import WindowSequence as WindowSequence
from .measuring import measure as measure
from .state_jacobians import Jacobians as Jacobians
from .state_jacobians import jacobians as jacobians
