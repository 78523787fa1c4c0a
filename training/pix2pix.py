"""Trains Pix2Pix: `python training/pix2pix.py --pairs facades --flip --jitter 30`.

`--pairs` takes a folder of pictures that hold input and target side by side, or two folders.
`--complete mnist` learns to fill holes in the pictures of any source instead. Running the same
command again continues where it stopped.
"""

import common

import keras_gen as kg


def arguments():
    parser = common.parser(__doc__)
    data = parser.add_argument_group("data")
    kind = data.add_mutually_exclusive_group(required=True)
    kind.add_argument("--pairs", nargs="+", metavar="FOLDER", help="side by side, or two folders")
    kind.add_argument("--complete", metavar="SOURCE", help="digits, a TFDS name, a folder ...")
    data.add_argument("--swap", action="store_true", help="pairs: from right to left")
    data.add_argument("--hole", type=float, help="complete: its share of each side; None: half")
    data.add_argument("--data-dir", help="complete: folder of the prepared TFDS data sets")
    add_pictures(data)

    model = parser.add_argument_group("model")
    model.add_argument("--width", type=int, default=64, help="channels")
    model.add_argument("--depth", type=int, help="halvings of the generator; None: all")
    model.add_argument("--dropout", type=float, default=0.5, help="generator's, the noise")
    add_discriminator(model)
    model.add_argument("--loss", default="non_saturating", choices=losses())
    model.add_argument("--l1-weight", type=float, default=100.0)

    training = common.add_training(parser, batch_size=1, epochs=200)
    add_optimizers(training, schedule="constant")
    common.add_output(parser, "runs/pix2pix")
    args = parser.parse_args()
    if args.pairs and len(args.pairs) > 2:
        parser.error(f"--pairs takes one folder or two. Received: {args.pairs}")
    if (args.pairs and args.hole) or (args.complete and args.swap):
        parser.error("--hole is for --complete, --swap for --pairs.")
    return args


def add_pictures(data):
    """Flags of `pictures`."""
    data.add_argument("--split", default="train")
    data.add_argument("--image-size", type=int, nargs="+", help="one side, or height and width")
    data.add_argument("--channels", type=int, choices=(1, 3))
    data.add_argument("--flip", action="store_true", help="mirror at random")
    data.add_argument("--jitter", type=int, default=0, help="pixels to enlarge by before a crop")
    data.set_defaults(unconditional=True)


def pictures(args):
    """How to load and to vary the pictures, as arguments of `pairs` and `unpaired`."""
    loading = {"split": args.split, "image_size": common.image_size(args)}
    return loading | {"channels": args.channels}, {"flip": args.flip, "jitter": args.jitter}


def add_discriminator(model):
    model.add_argument("--discriminator-width", type=int, default=64, help="channels")
    model.add_argument("--patches", type=int, default=3, help="3 judges 70 x 70 pixels, 2 34 x 34")


def losses():
    return [name for name in kg.losses.ADVERSARIAL_LOSSES if name != "wasserstein"]


def add_optimizers(training, schedule):
    """Flags of `optimizers`."""
    training.add_argument("--schedule", choices=("constant", "linear"), default=schedule)
    training.add_argument("--constant", type=float, default=0.5, help="linear: share before it")
    training.add_argument("--beta-1", type=float, default=0.5)
    training.add_argument("--beta-2", type=float, default=0.999)


def optimizers(args, steps):
    """Adam for the generators, and for the discriminators."""
    rate = args.learning_rate
    if args.schedule == "linear":
        rate = kg.schedules.LinearDecay(rate, steps, args.constant)
    return [kg.optimizers.Adam(rate, args.beta_1, args.beta_2) for _ in range(2)]


def load(args):
    loading, varied = pictures(args)
    if args.pairs:
        return kg.data.pairs(*args.pairs, swap=args.swap, **varied, **loading)
    source = kg.data.load(args.complete, data_dir=args.data_dir, **loading)
    return kg.data.masked(source, args.hole or 0.5, seed=args.seed, **varied)


def draw(source):
    """Grids of two strips of three pictures in a row."""
    shown = source.take(min(12, len(source)), seed=0)
    return lambda model: (model.strips(*shown), 6)


def diagnosis(source):
    return common.diagnosis(source, 32)


def build(args, source, num_classes, steps):
    shape = source.image_shape
    seeds = 2 * args.seed, 2 * args.seed + 1
    model = kg.models.Pix2Pix(
        shape,
        generator=kg.networks.translation.unet(
            shape, args.width, args.depth, args.dropout, seeds[0]
        ),
        discriminator=kg.networks.patchgan.discriminator(
            shape, True, args.discriminator_width, args.patches, seeds[1]
        ),
        loss=args.loss,
        l1_weight=args.l1_weight,
        seed=args.seed,
        ema=args.ema,
    )
    model.compile(*optimizers(args, steps), **common.compile_settings(args))
    return model


if __name__ == "__main__":
    common.train(arguments(), build, diagnosis, load=load, draw=draw)
