"""Losses and likelihoods: small objects and functions that know nothing of networks."""

from keras_gen.losses.adversarial import (
    ADVERSARIAL_LOSSES,
    AdversarialLoss,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    Relativistic,
    Wasserstein,
    get_adversarial_loss,
)
from keras_gen.losses.codes import Codes
from keras_gen.losses.levels import BIN, bits_per_dimension
from keras_gen.losses.likelihoods import (
    LIKELIHOODS,
    Bernoulli,
    DiscretizedLogistic,
    Gaussian,
    Likelihood,
    get_likelihood,
)
from keras_gen.losses.penalties import (
    R1,
    R2,
    GradientPenalty,
    Judged,
    Penalty,
    checked_penalties,
)
from keras_gen.losses.pixel_likelihoods import (
    PIXEL_LIKELIHOODS,
    Categorical,
    LogisticMixture,
    PixelLikelihood,
    get_pixel_likelihood,
)
from keras_gen.losses.reconstruction import (
    OUTPUTS,
    RECONSTRUCTION_LOSSES,
    absolute_error,
    cross_entropy,
    get_reconstruction_loss,
    squared_error,
)
