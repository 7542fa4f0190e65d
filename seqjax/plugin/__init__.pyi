from .base import Plugin as Plugin
from .base import fields_of as fields_of
from .config import create as create
from .config import describe as describe
from .registry import entries as entries
from .registry import get as get
from .registry import names as names
from .registry import register as register
