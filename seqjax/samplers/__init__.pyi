from seqjax_samplers import InOrder as InOrder
from seqjax_samplers import Random as Random
from seqjax_samplers import Sentences as Sentences
from seqjax_samplers import Sequential as Sequential
from seqjax_samplers import Uniform as Uniform
from seqjax_samplers import Windows as Windows
