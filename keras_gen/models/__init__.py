"""The models: one family a file."""

from keras_gen.models.autoencoder import Autoencoder
from keras_gen.models.autoregressive import PixelCNN
from keras_gen.models.consistency import ConsistencyModel
from keras_gen.models.diffusion import Diffusion
from keras_gen.models.frames import FramePredictor
from keras_gen.models.gan import GAN
from keras_gen.models.latent import LatentDiffusion
from keras_gen.models.mean_flow import MeanFlow
from keras_gen.models.sequence_gan import SequenceGAN
from keras_gen.models.translation import CycleGAN, Pix2Pix
from keras_gen.models.vae import VAE
from keras_gen.models.vqvae import VQVAE
