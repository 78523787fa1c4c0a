"""Trains a PixelCNN: `python training/pixelcnn.py --data mnist --levels 2 --binarization 0.33`.

Prints the likelihood of a split that it did not train on with `--test-split`. Running the same
command again continues where it stopped.
"""

import common

import keras_gen as kg

NETWORKS = {"gated": kg.networks.pixelcnn.gated, "plus_plus": kg.networks.pixelcnn.plus_plus}


def arguments():
    parser = common.parser(__doc__)
    common.add_data(parser)
    common.add_test(parser)

    model = parser.add_argument_group("model")
    model.add_argument("--levels", type=int, default=256, help="2 to 256, of a channel")
    model.add_argument("--likelihood", choices=kg.losses.PIXEL_LIKELIHOODS, default="categorical")
    model.add_argument("--binarization", help="with 2 levels: a threshold in (0, 1) or stochastic")
    model.add_argument("--network", choices=NETWORKS, default="gated", help="plus_plus: PixelCNN++")
    model.add_argument("--width", type=int, default=64, help="channels")
    model.add_argument("--blocks", type=int, help="gated: 6; plus_plus: 2 at each resolution")
    model.add_argument("--resolutions", type=int, default=2, help="of plus_plus")
    model.add_argument("--first-kernel", type=int, default=7)
    model.add_argument("--kernel", type=int, default=3, help="of gated")
    model.add_argument(
        "--dilations", type=int, nargs="+", default=[1, 2, 4], help="of gated, in turn"
    )
    model.add_argument("--dropout", type=float, default=0.0)

    training = common.add_training(parser, batch_size=64, learning_rate=1e-3)
    common.add_schedule(training)
    common.add_output(parser, "runs/pixelcnn")
    args = parser.parse_args()
    args.binarization = common.number(args.binarization)
    return args


def build(args, source, num_classes, steps):
    own = {"dropout": args.dropout, "seed": args.seed}
    if args.blocks:
        own["blocks"] = args.blocks
    if args.network == "gated":
        own |= {"kernel": args.kernel, "dilations": args.dilations}
    else:
        own["resolutions"] = args.resolutions
    network = NETWORKS[args.network](
        source.image_shape,
        args.levels,
        num_classes,
        args.likelihood,
        width=args.width,
        first_kernel=args.first_kernel,
        **own,
    )
    model = kg.models.PixelCNN(
        source.image_shape,
        num_classes,
        args.levels,
        network,
        args.likelihood,
        args.binarization,
        seed=args.seed,
        ema=args.ema,
    )
    model.compile(common.scheduled(args, steps), **common.compile_settings(args))
    return model


if __name__ == "__main__":
    args = arguments()
    if common.train(args, build) and args.test_split:
        common.write_likelihood(args)
