"""Callbacks: sample grids, exact resume, exports, learning rates."""

from keras_gen.callbacks.active_units import ActiveUnits
from keras_gen.callbacks.chief import is_chief
from keras_gen.callbacks.export_saved_model import ExportSavedModel
from keras_gen.callbacks.gan_diagnosis import GANDiagnosis
from keras_gen.callbacks.generative_metrics import GenerativeMetrics
from keras_gen.callbacks.learning_rates import LearningRates
from keras_gen.callbacks.resume import Resume
from keras_gen.callbacks.sample_grid import SampleGrid
