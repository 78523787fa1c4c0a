"""How many classes networks know, and that models refuse those of others."""

import pytest

from keras_gen import losses, models
from keras_gen.networks import autoencoder, convlstm, inputs, mlp, pixelcnn, resnet, sequence

SHAPE = (8, 8, 1)


def small(make, *args, **kwargs):
    return lambda num_classes: make(SHAPE, *args, num_classes=num_classes, **kwargs)


NETWORKS = {
    "resnet.generator": small(resnet.generator, 6, width=4),
    "resnet.discriminator": small(resnet.discriminator, width=4),
    "mlp.generator": small(mlp.generator, 6),
    "encoder": small(autoencoder.encoder, width=4, hidden=8),
    "dense_decoder": small(autoencoder.dense_decoder, hidden=(8,)),
    "gated": small(pixelcnn.gated, 4, width=4, blocks=1),
    "plus_plus": small(pixelcnn.plus_plus, 4, width=4, blocks=1),
    "predictor": small(convlstm.predictor, 2, width=4),
    "motion_discriminator": small(sequence.motion_discriminator, 3, width=4),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_of_other_classes_is_refused(name):
    inputs.check_classes("network", NETWORKS[name](5), 5)
    with pytest.raises(ValueError, match=r"the 10 classes.*Received: a network of 5 classes"):
        inputs.check_classes("network", NETWORKS[name](5), 10)
    inputs.check_classes("network", NETWORKS[name](None), None)


def test_indices_that_a_network_embeds_are_no_classes():
    inputs.check_classes("network", pixelcnn.gated((8, 8, 1), 6, width=4, embedding=3), None)


@pytest.mark.parametrize(
    "make",
    [
        lambda: models.PixelCNN(SHAPE, 10, 4, NETWORKS["gated"](5)),
        lambda: models.FramePredictor(SHAPE, 10, 2, network=NETWORKS["predictor"](5)),
        lambda: models.GAN(SHAPE, 10, discriminator=NETWORKS["resnet.discriminator"](5)),
        lambda: models.VAE(SHAPE, 10, decoder=NETWORKS["dense_decoder"](5)),
        lambda: models.SequenceGAN(
            SHAPE, 10, 3, motion_discriminator=NETWORKS["motion_discriminator"](5)
        ),
    ],
)
def test_models_check_their_networks(make):
    with pytest.raises(ValueError, match=r"must know the 10 classes of the model.*of 5 classes"):
        make()


def test_a_mixture_takes_no_channels_from_a_head_that_has_seen_them():
    """Both are of 30 numbers a pixel, and only one of them is a distribution."""
    shape, mixture = (8, 8, 3), losses.LogisticMixture(3)
    network = pixelcnn.gated(shape, 10, likelihood="categorical", width=4, blocks=1)
    assert network.outputs[0].shape[-1] == mixture.parameters(10, 3)
    with pytest.raises(ValueError, match=r"own channels are seen. Received: a network whose head"):
        models.PixelCNN(shape, levels=10, network=network, likelihood=mixture)
