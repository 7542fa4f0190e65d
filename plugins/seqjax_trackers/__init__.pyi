from .tensorboard import TensorBoard as TensorBoard
from .trackio import Trackio as Trackio
