"""Trains a GAN: `python training/gan.py --data mnist --network dcgan`.

Running the same command again continues where it stopped.
"""

import common
import keras

import keras_gen as kg


def arguments():
    parser = common.parser(__doc__)
    common.add_data(parser)

    model = parser.add_argument_group("model")
    model.add_argument("--network", choices=("mlp", "dcgan"), default="dcgan")
    model.add_argument("--latent-dim", type=int, default=100)
    model.add_argument("--hidden", type=int, nargs="+", default=[256, 256], help="mlp: layers")
    model.add_argument("--width", type=int, default=64, help="dcgan: channels")
    model.add_argument("--kernel-size", type=int, default=5, help="dcgan")
    model.add_argument("--dropout", type=float, default=0.3, help="dcgan: discriminator's")
    model.add_argument(
        "--batch-normalization", action="store_true", help="dcgan: in the discriminator too"
    )

    loss = parser.add_argument_group("loss")
    loss.add_argument("--loss", choices=kg.losses.ADVERSARIAL_LOSSES, default="non_saturating")
    loss.add_argument("--r1", type=float, default=0.0, help="weight of the R1 penalty")
    loss.add_argument("--r2", type=float, default=0.0, help="weight of the R2 penalty")
    loss.add_argument("--gradient-penalty", type=float, help="WGAN-GP's weight; None: the loss's")
    loss.add_argument("--discriminator-steps", type=int, default=1)

    training = common.add_training(parser)
    training.add_argument("--discriminator-learning-rate", type=float, help="if another")
    training.add_argument("--beta-1", type=float, default=0.5)
    training.add_argument("--beta-2", type=float, default=0.999)
    common.add_output(parser, "runs/gan")
    return parser.parse_args()


def build(args, source, num_classes, steps):
    if args.network == "mlp":
        shared = {"hidden": args.hidden}
        generator, discriminator = kg.networks.mlp.generator, kg.networks.mlp.discriminator
        own = {}
    else:
        shared = {"width": args.width, "kernel_size": args.kernel_size}
        generator, discriminator = kg.networks.dcgan.generator, kg.networks.dcgan.discriminator
        own = {"dropout": args.dropout, "batch_normalization": args.batch_normalization}
    shared |= {"num_classes": num_classes}
    shape = source.image_shape
    weights = (
        (kg.losses.R1, args.r1),
        (kg.losses.R2, args.r2),
        (kg.losses.GradientPenalty, args.gradient_penalty),
    )
    penalties = [penalty(weight) for penalty, weight in weights if weight]
    model = kg.models.GAN(
        shape,
        num_classes,
        generator=generator(shape, args.latent_dim, seed=2 * args.seed, **shared),
        discriminator=discriminator(shape, seed=2 * args.seed + 1, **shared, **own),
        loss=args.loss,
        penalties=penalties if penalties or args.gradient_penalty == 0 else None,
        discriminator_steps=args.discriminator_steps,
        seed=args.seed,
        ema=args.ema,
    )

    def adam(learning_rate):
        return keras.optimizers.Adam(learning_rate, args.beta_1, args.beta_2)

    model.compile(
        adam(args.learning_rate),
        adam(args.discriminator_learning_rate or args.learning_rate),
        **common.compile_settings(args),
    )
    return model


if __name__ == "__main__":
    common.train(arguments(), build)
