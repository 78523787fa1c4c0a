"""Trains an autoencoder: `python training/autoencoder.py --data mnist --network dense`.

Running the same command again continues where it stopped.
"""

import common

import keras_gen as kg


def arguments():
    parser = common.parser(__doc__)
    common.add_data(parser)

    model = add_networks(parser)
    model.add_argument("--loss", choices=kg.losses.RECONSTRUCTION_LOSSES, default="squared_error")

    training = common.add_training(parser, learning_rate=1e-3)
    common.add_schedule(training)
    common.add_output(parser, "runs/autoencoder")
    return parser.parse_args()


def add_networks(parser):
    """Flags of `networks`; returns the group for more of them."""
    model = parser.add_argument_group("model")
    kinds = ("dense", "convolutional", "spatial")
    model.add_argument("--network", choices=kinds, default="convolutional")
    model.add_argument("--latent-dim", type=int, default=32, help="dense, convolutional")
    shape = {"type": int, "nargs": 3, "help": "spatial: height, width and channels; no labels"}
    model.add_argument("--latent-shape", default=[7, 7, 4], **shape)
    model.add_argument("--hidden", type=int, nargs="+", default=[512, 256, 128, 64], help="dense")
    model.add_argument("--width", type=int, default=32, help="of convolutions: channels")
    model.add_argument("--blocks", type=int, default=1, help="of convolutions, at each size")
    return model


def networks(args, shape, num_classes, parameters, output):
    """An encoder of so many parameters for each latent unit, and a decoder of this output."""
    module = kg.networks.autoencoder
    shared = {"latent_dim": args.latent_dim, "num_classes": num_classes}
    there = back = {"width": args.width, "blocks": args.blocks}
    if args.network == "dense":
        encoder, decoder = module.dense_encoder, module.dense_decoder
        there, back = {"hidden": args.hidden}, {"hidden": args.hidden[::-1]}
    elif args.network == "spatial":
        encoder, decoder = module.spatial_encoder, module.spatial_decoder
        shared = {"latent_shape": args.latent_shape}
    else:
        encoder, decoder = module.encoder, module.decoder
    return (
        encoder(shape, parameters=parameters, seed=2 * args.seed, **there, **shared),
        decoder(shape, seed=2 * args.seed + 1, **back, **shared, **output),
    )


def build(args, source, num_classes, steps):
    shape = source.image_shape
    model = kg.models.Autoencoder(
        shape,
        num_classes,
        *networks(args, shape, num_classes, 1, {"activation": kg.losses.OUTPUTS.get(args.loss)}),
        loss=args.loss,
        seed=args.seed,
        ema=args.ema,
    )
    model.compile(common.scheduled(args, steps), **common.compile_settings(args))
    return model


if __name__ == "__main__":
    common.train(arguments(), build)
