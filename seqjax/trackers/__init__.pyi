from seqjax_trackers import TensorBoard as TensorBoard
from seqjax_trackers import Trackio as Trackio
