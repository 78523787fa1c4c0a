"""Adversarial losses: what the discriminator and the generator minimize, given logits.

A loss is one object with two methods. Logits are float32 [batch] (higher means "real"); what is
returned is float32 [batch], one value for each example, to be averaged by the caller.
"""

import keras
import tensorflow as tf

from keras_gen.strategies import Strategy, not_negative, resolve


class AdversarialLoss(Strategy):
    """Base of the adversarial losses.

    `pairs_real` says that the generator's loss looks at the logits of real images too.
    """

    pairs_real = False

    def discriminator(self, real, fake):
        """Loss of the discriminator, [batch], for logits of real and of generated images."""
        raise NotImplementedError

    def generator(self, fake, real=None):
        """Loss of the generator, [batch]; `real` is given where `pairs_real` is set."""
        raise NotImplementedError

    def margins(self, real, fake):
        """How far the discriminator is from being wrong, for real and for generated images.

        Returns:
            two float32 [batch], positive where it takes an image for what it is.
        """
        return real, -fake


@keras.saving.register_keras_serializable("keras_gen")
class Minimax(AdversarialLoss):
    """Goodfellow et al. 2014, eq. 1: both players share one value function.

    D minimizes -log s(real) - log(1 - s(fake)), G minimizes log(1 - s(fake)), s the sigmoid.

    Args:
        real_target: probability in (0.5, 1] that D is to give real images; below 1 it is one-sided
            label smoothing (Salimans et al. 2016, section 3.4, 0.9).

    Raises:
        ValueError: when it is out of range.
    """

    def __init__(self, real_target=1.0):
        if not 0.5 < real_target <= 1:
            raise ValueError(
                f"`real_target` must lie in (0.5, 1]. Received: real_target={real_target!r}"
            )
        self.real_target = real_target

    def discriminator(self, real, fake):
        # cross-entropy with the target t: t softplus(-x) + (1 - t) softplus(x)
        return tf.nn.softplus(-real) + (1 - self.real_target) * real + tf.nn.softplus(fake)

    def generator(self, fake, real=None):
        return -tf.nn.softplus(fake)

    def get_config(self):
        return {"real_target": self.real_target}


@keras.saving.register_keras_serializable("keras_gen")
class NonSaturating(Minimax):
    """Goodfellow et al. 2014, section 3: G minimizes -log s(fake), which does not saturate."""

    def generator(self, fake, real=None):
        return tf.nn.softplus(-fake)


@keras.saving.register_keras_serializable("keras_gen")
class LeastSquares(AdversarialLoss):
    """LSGAN (Mao et al. 2017, eq. 9): targets 1 for real and 0 for fake, squared error.

    Args:
        scale: of the squared errors; 1/2 in that paper, 1 in CycleGAN's (Zhu et al. 2017), which
            weighs its other terms against it.

    Raises:
        ValueError: when the scale is negative.
    """

    def __init__(self, scale=0.5):
        not_negative(scale=scale)
        self.scale = scale

    def discriminator(self, real, fake):
        return self.scale * (tf.square(real - 1) + tf.square(fake))

    def generator(self, fake, real=None):
        return self.scale * tf.square(fake - 1)

    def get_config(self):
        return {"scale": self.scale}

    def margins(self, real, fake):
        return real - 0.5, 0.5 - fake


@keras.saving.register_keras_serializable("keras_gen")
class Hinge(AdversarialLoss):
    """Hinge loss (Lim and Ye 2017; Miyato et al. 2018, eqs. 16 and 17)."""

    def discriminator(self, real, fake):
        return tf.nn.relu(1 - real) + tf.nn.relu(1 + fake)

    def generator(self, fake, real=None):
        return -fake


@keras.saving.register_keras_serializable("keras_gen")
class Wasserstein(AdversarialLoss):
    """Wasserstein distance (Arjovsky et al. 2017); the critic must be kept Lipschitz by a penalty.

    Args:
        drift: weight of real^2, which keeps the critic's values near zero (Karras et al. 2018,
            appendix A.1, 1e-3); 0 switches it off.

    Raises:
        ValueError: when the weight is negative.
    """

    def __init__(self, drift=0.0):
        not_negative(drift=drift)
        self.drift = drift

    def discriminator(self, real, fake):
        return fake - real + self.drift * tf.square(real)

    def generator(self, fake, real=None):
        return -fake

    def margins(self, real, fake):
        return real - fake, real - fake  # only differences of logits count

    def get_config(self):
        return {"drift": self.drift}


@keras.saving.register_keras_serializable("keras_gen")
class Relativistic(AdversarialLoss):
    """Relativistic pairing (Jolicoeur-Martineau 2018, RpGAN; the loss of R3GAN, Huang et al. 2024).

    Each fake is judged against one real image: D minimizes softplus(-(real - fake)), G the mirror.
    """

    pairs_real = True

    def discriminator(self, real, fake):
        return tf.nn.softplus(fake - real)

    def generator(self, fake, real=None):
        return tf.nn.softplus(real - fake)

    def margins(self, real, fake):
        return real - fake, real - fake


ADVERSARIAL_LOSSES = {
    "minimax": Minimax,
    "non_saturating": NonSaturating,
    "least_squares": LeastSquares,
    "hinge": Hinge,
    "wasserstein": Wasserstein,
    "relativistic": Relativistic,
}


def get_adversarial_loss(identifier):
    """An `AdversarialLoss` from its name or from an object, which is returned as it is.

    Raises:
        ValueError: when it is neither.
    """
    return resolve(identifier, ADVERSARIAL_LOSSES, AdversarialLoss, "loss")
