from .reading import Loop as Loop
from .reading import Part as Part
from .reading import faults as faults
from .reading import innermost as innermost
from .reading import known as known
from .reading import read as read
from .targets import Target as Target
from .targets import target as target
