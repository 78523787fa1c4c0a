"""Trains a GAN: `python training/gan.py --data mnist`.

The default is R3GAN; `--network dcgan` is DCGAN, `--network mlp` the first GAN, `--recipe sngan`
SNGAN. Settings that are not given are those of the recipe. Running the same command again continues
where it stopped.
"""

import common

import keras_gen as kg


def arguments():
    parser = common.parser(__doc__)
    common.add_data(parser)

    model = parser.add_argument_group("model")
    model.add_argument("--network", choices=("resnet", "dcgan", "mlp"), default="resnet")
    model.add_argument(
        "--recipe", choices=("r3gan", "sngan"), help="of the network resnet; None: r3gan"
    )
    model.add_argument("--latent-dim", type=int, help="None: 64, of resnet; else 100")
    model.add_argument("--hidden", type=int, nargs="+", default=[256, 256], help="mlp: layers")
    model.add_argument("--width", type=int, default=64, help="dcgan, resnet: channels")
    model.add_argument("--blocks", type=int, default=1, help="resnet: at each level")
    model.add_argument("--attention", type=int, nargs="*", default=[], help="resnet: sides, pixels")
    model.add_argument(
        "--normalization",
        choices=("spectral", "equalized"),
        help="resnet: of the discriminator's kernels",
    )
    model.add_argument("--minibatch-std", type=int, default=0, help="resnet: images in a group")
    model.add_argument("--kernel-size", type=int, default=5, help="dcgan")
    model.add_argument("--dropout", type=float, default=0.3, help="dcgan: discriminator's")
    model.add_argument(
        "--batch-normalization", action="store_true", help="dcgan: in the discriminator too"
    )

    loss = parser.add_argument_group("loss")
    loss.add_argument("--loss", choices=kg.losses.ADVERSARIAL_LOSSES, help="None: the recipe's")
    loss.add_argument(
        "--real-target", type=float, help="minimax, non_saturating: smoothed labels, such as 0.9"
    )
    loss.add_argument("--r1", type=float, help="weight of the R1 penalty")
    loss.add_argument("--r2", type=float, help="weight of the R2 penalty")
    loss.add_argument("--gradient-penalty", type=float, help="WGAN-GP's weight; None: the loss's")
    loss.add_argument("--discriminator-steps", type=int, help="None: the recipe's")
    loss.add_argument("--augmentation", choices=kg.data.augmentation.AUGMENTATIONS)
    loss.add_argument("--weight-clip", type=float, help="bound of the discriminator's weights")
    loss.add_argument("--classification-weight", type=float, help="resnet: of ACGAN's classifier")
    loss.add_argument(
        "--categorical-codes", type=int, nargs="+", default=[], help="InfoGAN: values"
    )
    loss.add_argument("--continuous-codes", type=int, default=0, help="resnet: InfoGAN's, how many")
    loss.add_argument("--history", type=int, default=0, help="earlier fakes kept")

    training = common.add_training(parser, batch_size=None, learning_rate=None, ema=None)
    training.add_argument("--discriminator-learning-rate", type=float, help="if another")
    training.add_argument("--beta-1", type=float, help="None: the recipe's")
    training.add_argument("--beta-2", type=float, help="None: the recipe's")
    training.add_argument("--burn-in", type=int, help="images of the schedules; None: all")
    common.add_output(parser, "runs/gan")
    args = parser.parse_args()
    if args.recipe and args.network != "resnet":
        parser.error(f"--recipe is for --network resnet. Received: --network {args.network}")
    if args.recipe == "sngan" and args.normalization == "equalized":
        parser.error("SNGAN's normalization is spectral. Received: --normalization equalized")
    own = {"resnet": args.recipe or "r3gan", "dcgan": "dcgan", "mlp": "gan"}
    args.recipe = own[args.network]
    if args.recipe == "sngan":
        args.normalization = args.normalization or "spectral"
    args.batch_size = args.batch_size or (64 if args.network == "resnet" else 128)
    return args


def networks(args, shape, num_classes, codes):
    module = getattr(kg.networks, args.network)
    shared, own = {"num_classes": num_classes}, {}
    if args.network == "mlp":
        shared["hidden"] = args.hidden
    elif args.network == "dcgan":
        shared |= {"width": args.width, "kernel_size": args.kernel_size}
        own = {"dropout": args.dropout, "batch_normalization": args.batch_normalization}
    else:
        shared |= {"width": args.width, "blocks": args.blocks, "attention": args.attention}
        own = {
            "normalization": args.normalization,
            "minibatch_std": args.minibatch_std,
            "classifier": args.classification_weight is not None,
            "code_parameters": codes.dim if codes else 0,
        }
    latent_dim = args.latent_dim or (64 if args.network == "resnet" else 100)
    latent_dim += codes.dim if codes else 0
    return (
        module.generator(shape, latent_dim, seed=2 * args.seed, **shared),
        module.discriminator(shape, seed=2 * args.seed + 1, **shared, **own),
    )


def loss_of(args):
    if args.real_target is None:
        return args.loss
    smoothed = {"minimax": kg.losses.Minimax, "non_saturating": kg.losses.NonSaturating}
    if args.loss not in smoothed:
        raise SystemExit(f"--real-target needs --loss {' or '.join(smoothed)}. Got: {args.loss}")
    return smoothed[args.loss](args.real_target)


def build(args, source, num_classes, steps):
    shape = source.image_shape
    weights = (
        (kg.losses.R1, args.r1),
        (kg.losses.R2, args.r2),
        (kg.losses.GradientPenalty, args.gradient_penalty),
    )
    penalties = [penalty(weight) for penalty, weight in weights if weight]
    given = any(weight is not None for _, weight in weights)
    codes = None
    if args.categorical_codes or args.continuous_codes:
        codes = kg.losses.Codes(args.categorical_codes, args.continuous_codes)
    model = kg.models.GAN(
        shape,
        num_classes,
        *networks(args, shape, num_classes, codes),
        loss=loss_of(args),
        penalties=penalties if given else None,
        discriminator_steps=args.discriminator_steps,
        recipe=args.recipe,
        burn_in=args.burn_in or steps * args.batch_size,
        classification_weight=args.classification_weight,
        codes=codes,
        augmentation=args.augmentation,
        weight_clip=args.weight_clip,
        history=args.history,
        seed=args.seed,
        ema=args.ema,
    )

    def optimizer(learning_rate):
        recipe = model.default_optimizer()
        given = {"learning_rate": learning_rate, "beta_1": args.beta_1, "beta_2": args.beta_2}
        given = {name: value for name, value in given.items() if value is not None}
        return type(recipe).from_config({**recipe.get_config(), **given})

    model.compile(
        optimizer(args.learning_rate),
        optimizer(args.discriminator_learning_rate or args.learning_rate),
        **common.compile_settings(args),
    )
    return model


if __name__ == "__main__":
    common.train(arguments(), build, common.diagnosis)
