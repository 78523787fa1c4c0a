"""Trains a diffusion model in the latents of a trained autoencoder.

`python training/vae.py --data mnist --unconditional --network spatial --beta 0.05 --run-dir
runs/spatial`, and then `python training/latent_diffusion.py runs/spatial/model.keras --data mnist
--latent-shape 7 7 4`. Running the same command again continues where it stopped.
"""

import common
import keras

import keras_gen as kg


def arguments():
    parser = common.parser(__doc__)
    parser.add_argument("autoencoder", help=".keras file of a VAE or an Autoencoder")
    common.add_data(parser)

    model = parser.add_argument_group("model")
    shape = {"type": int, "nargs": 3, "help": "as the autoencoder was trained with"}
    model.add_argument("--latent-shape", default=[7, 7, 4], **shape)
    model.add_argument("--width", type=int, default=64, help="channels")
    model.add_argument("--multipliers", type=int, nargs="+", default=[1, 2], help="of each level")
    model.add_argument("--blocks", type=int, default=1, help="at each level")
    model.add_argument("--attention", type=int, nargs="*", default=[1], help="levels that attend")
    model.add_argument("--steps", type=int, default=12, help="of the sampler")
    model.add_argument("--guidance-scale", type=float, default=1.0)

    training = common.add_training(parser, learning_rate=1e-3)
    common.add_schedule(training)
    common.add_output(parser, "runs/latent_diffusion")
    return parser.parse_args()


def build(args, source, num_classes, steps):
    network = kg.networks.unet.denoiser(
        args.latent_shape,
        num_classes,
        width=args.width,
        multipliers=args.multipliers,
        blocks=args.blocks,
        attention=args.attention,
        patch=1,
        seed=args.seed,
    )
    diffusion = kg.models.Diffusion(
        args.latent_shape,
        num_classes,
        network,
        clip=False,
        steps=args.steps,
        guidance_scale=args.guidance_scale,
        seed=args.seed,
        ema=args.ema,
    )
    autoencoder = keras.saving.load_model(args.autoencoder, compile=False)
    model = kg.models.LatentDiffusion.measured(autoencoder, diffusion, source)
    model.compile(common.scheduled(args, steps), **common.compile_settings(args))
    return model


if __name__ == "__main__":
    common.train(arguments(), build)
