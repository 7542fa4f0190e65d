from .char import Char as Char
