from .jacobians import Jacobians as Jacobians
from .jacobians import jacobians as jacobians
from .lags import Lags as Lags
from .lags import lags as lags
from .measure import HasWindows as HasWindows
from .measure import Measures as Measures
from .measure import WindowSequence as WindowSequence
from .measure import measure as measure
