"""Trains a CycleGAN: `python training/cyclegan.py apples tomatoes --flip --jitter 8`.

The grids show a picture, its translation, and that translated back. Running the same command again
continues where it stopped.
"""

import common
import pix2pix

import keras_gen as kg


def arguments():
    parser = common.parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument("a", help="a folder, an .npz ...")
    data.add_argument("b", help="the same, of the other kind of pictures")
    pix2pix.add_pictures(data)

    model = parser.add_argument_group("model")
    model.add_argument("--width", type=int, default=64, help="channels")
    model.add_argument("--blocks", type=int, help="residual ones of a generator; None: by size")
    pix2pix.add_discriminator(model)
    model.add_argument("--loss", choices=pix2pix.losses(), help="None: the paper's least squares")
    model.add_argument("--cycle-weight", type=float, default=10.0)
    model.add_argument("--identity-weight", type=float, default=5.0)
    model.add_argument("--history", type=int, default=50, help="earlier translations that are kept")

    training = common.add_training(parser, batch_size=1, epochs=200)
    pix2pix.add_optimizers(training, schedule="linear")
    common.add_output(parser, "runs/cyclegan")
    return parser.parse_args()


def load(args):
    loading, varied = pix2pix.pictures(args)
    return kg.data.unpaired(args.a, args.b, **varied, **loading)


def build(args, source, num_classes, steps):
    shape, seeds = source.image_shape, range(4 * args.seed, 4 * args.seed + 4)
    model = kg.models.CycleGAN(
        shape,
        None,
        *(kg.networks.translation.residual(shape, args.width, args.blocks, s) for s in seeds[:2]),
        *(
            kg.networks.patchgan.discriminator(
                shape, False, args.discriminator_width, args.patches, s
            )
            for s in seeds[2:]
        ),
        loss=args.loss,
        cycle_weight=args.cycle_weight,
        identity_weight=args.identity_weight,
        history=args.history,
        seed=args.seed,
        ema=args.ema,
    )
    model.compile(*pix2pix.optimizers(args, steps), **common.compile_settings(args))
    return model


if __name__ == "__main__":
    common.train(arguments(), build, pix2pix.diagnosis, load=load, draw=pix2pix.draw)
