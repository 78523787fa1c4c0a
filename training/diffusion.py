"""Trains a diffusion or flow model: `python training/diffusion.py --data mnist`.

The default is a rectified flow. DDPM is `--path linear --prediction noise --timesteps 1000`, and
samples as they did with `--sampler ddpm --steps 1000`. Running the same command again continues
where it stopped.
"""

import common

import keras_gen as kg


def arguments():
    parser = common.parser(__doc__)
    common.add_data(parser)

    model = parser.add_argument_group("model")
    model.add_argument("--path", choices=kg.diffusion.PATHS, default="rectified_flow")
    model.add_argument("--timesteps", type=int, help="steps of the linear or the cosine path")
    model.add_argument("--prediction", choices=kg.diffusion.PREDICTIONS, help="None: the path's")
    model.add_argument(
        "--sigma-data", type=float, help="of the edm prediction; None: that of 2,000 images"
    )
    model.add_argument("--weighting", choices=kg.diffusion.WEIGHTINGS, default="uniform")
    model.add_argument("--times", choices=kg.diffusion.TIME_SAMPLERS, help="None: the path's")
    model.add_argument("--upscale", type=int, help="enlarge pictures by this factor instead")
    model.add_argument("--label-dropout", type=float, default=0.1)
    model.add_argument("--width", type=int, default=48, help="channels")
    model.add_argument("--multipliers", type=int, nargs="+", default=[1, 2], help="of each level")
    model.add_argument("--blocks", type=int, default=2, help="at each level")
    model.add_argument("--attention", type=int, nargs="*", default=[], help="levels that attend")
    model.add_argument("--patch", type=int, help="pixels to a position; None: by the image's size")
    model.add_argument("--block", choices=("dense", "separable"), default="separable")
    model.add_argument("--dropout", type=float, default=0.0)
    model.add_argument("--recompute", action="store_true", help="less memory, more time")

    sampling = parser.add_argument_group("sampling")
    samplers = sorted(set(kg.diffusion.SAMPLERS) - {"consistency"})
    sampling.add_argument("--sampler", choices=samplers, default="heun")
    sampling.add_argument("--steps", type=int, default=12, help="of the sampler")
    sampling.add_argument("--guidance-scale", type=float, default=1.0)

    training = common.add_training(parser, batch_size=64, learning_rate=None)
    training.add_argument("--optimizer", choices=("muon", "adam"), default="muon")
    common.add_schedule(training)
    common.add_output(parser, "runs/diffusion")
    args = parser.parse_args()
    if args.learning_rate is None:
        args.learning_rate = 5e-3 if args.optimizer == "muon" else 1e-3
    if args.timesteps and args.path not in ("linear", "cosine"):
        parser.error(f"--timesteps is for --path linear and cosine. Received: --path {args.path}")
    if args.prediction is None and args.path == "edm":
        args.prediction = "edm"
    if args.sigma_data and args.prediction != "edm":
        parser.error(f"--sigma-data is for --prediction edm. Received: {args.prediction}")
    return args


def prediction(args, source):
    """What the network predicts; EDM's for the deviation of the data."""
    if args.prediction != "edm":
        return args.prediction
    pixels = source.take(min(2000, len(source)), seed=0)[0] / 127.5 - 1
    return kg.diffusion.PreconditionedPrediction(args.sigma_data or float(pixels.std()))


def build(args, source, num_classes, steps):
    path = kg.diffusion.get_path(args.path)
    if args.timesteps:
        path = type(path)(timesteps=args.timesteps)
    network = kg.networks.unet.denoiser(
        source.image_shape,
        num_classes,
        width=args.width,
        multipliers=args.multipliers,
        blocks=args.blocks,
        attention=args.attention,
        patch=args.patch,
        block=args.block,
        dropout=args.dropout,
        recompute=args.recompute,
        condition_channels=source.image_shape[2] if args.upscale else 0,
        seed=args.seed,
    )
    model = kg.models.Diffusion(
        source.image_shape,
        num_classes,
        network,
        path=path,
        prediction=prediction(args, source),
        weighting=args.weighting,
        times=args.times,
        upscale=args.upscale,
        label_dropout=args.label_dropout,
        sampler=args.sampler,
        steps=args.steps,
        guidance_scale=args.guidance_scale,
        seed=args.seed,
        ema=args.ema,
    )
    if args.optimizer == "muon":
        left = kg.models.diffusion.LEFT_TO_ADAM
        optimizer = common.scheduled(args, steps, kg.optimizers.Muon, exclude=left)
    else:
        optimizer = common.scheduled(args, steps)
    model.compile(optimizer, **common.compile_settings(args))
    return model


if __name__ == "__main__":
    common.train(arguments(), build)
