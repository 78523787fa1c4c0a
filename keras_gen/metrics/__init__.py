"""How good generated images are, whether the number can be trusted, and whether they are copies.

    report = keras_gen.metrics.evaluate(model, source, num_images=10_000)
    report.save("runs/report")     # report.json and one self-contained report.html

Nothing here imports SciPy, scikit-learn or matplotlib before it is needed.
"""

from keras_gen.metrics.anomaly import anomaly, auroc, likelihood_score, reconstruction_error
from keras_gen.metrics.continuity import frame_distances, temporal_continuity
from keras_gen.metrics.diversity import mean_pairwise_distance, vendi_score
from keras_gen.metrics.extractors import (
    Extractor,
    InceptionV3,
    KerasExtractor,
    extract,
    train_extractor,
)
from keras_gen.metrics.frechet import (
    frechet_distance,
    frechet_distance_infinity,
    frechet_distance_interval,
)
from keras_gen.metrics.inception_score import inception_score
from keras_gen.metrics.kernel import kernel_distance, kernel_distance_all_pairs
from keras_gen.metrics.likelihood import LikelihoodResult, likelihood
from keras_gen.metrics.memorization import CopyDetector, audit
from keras_gen.metrics.precision_recall import density_coverage, precision_recall
from keras_gen.metrics.resampling import half_sampling_interval, real_floor
from keras_gen.metrics.result import MetricResult, MetricWarning, measure
from keras_gen.metrics.sliced_wasserstein import sliced_wasserstein_distance
from keras_gen.metrics.statistics import FeatureStatistics

from keras_gen.metrics.evaluate import compare, evaluate, evaluate_checkpoints  # isort: skip
from keras_gen.metrics.report import Comparison, Report  # isort: skip
