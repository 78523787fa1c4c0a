"""Trains a variational autoencoder: `python training/vae.py --data mnist`.

A beta-VAE is `--beta 4`; binary MNIST, whose likelihood can be compared with published ones, is
`--data mnist --binarization stochastic --test-split test`, which ends with the importance-weighted
bound. Running the same command again continues where it stopped.
"""

import common
from autoencoder import add_networks, networks

import keras_gen as kg


def arguments():
    parser = common.parser(__doc__)
    common.add_data(parser)

    model = add_networks(parser)
    model.add_argument("--likelihood", choices=kg.losses.LIKELIHOODS, default="bernoulli")
    model.add_argument("--binarization", help="bernoulli: stochastic, or a threshold in (0, 1)")
    model.add_argument("--deviation", help="gaussian: shared (the default), predicted, number")
    model.add_argument("--beta", type=float, default=1.0, help="weight of the KL divergence")
    model.add_argument("--free-bits", type=float, default=0.0, help="nats of each latent unit")
    model.add_argument(
        "--hierarchy", type=int, nargs="+", default=[], help="units of latents above the latent"
    )
    model.add_argument("--warm-up", type=int, default=0, help="steps until beta is reached")

    test = common.add_test(parser)
    test.add_argument(
        "--samples", type=common.positive, default=500, help="of the importance-weighted bound"
    )

    training = common.add_training(parser, learning_rate=1e-3)
    common.add_schedule(training)
    common.add_output(parser, "runs/vae")
    args = parser.parse_args()
    if args.binarization and args.likelihood != "bernoulli":
        parser.error(f"--binarization is Bernoulli's. Received: --likelihood {args.likelihood}")
    if args.deviation and args.likelihood != "gaussian":
        parser.error(f"--deviation is the Gaussian's. Received: --likelihood {args.likelihood}")
    return args


def likelihood(args):
    if args.likelihood == "bernoulli":
        return kg.losses.Bernoulli(common.number(args.binarization))
    if args.likelihood == "gaussian":
        return kg.losses.Gaussian(common.number(args.deviation or "shared"))
    return kg.losses.get_likelihood(args.likelihood)


def build(args, source, num_classes, steps):
    observed = likelihood(args)
    output = {"parameters": observed.parameters, "shared": observed.shared}
    shape = source.image_shape
    model = kg.models.VAE(
        shape,
        num_classes,
        *networks(args, shape, num_classes, 2, output),
        likelihood=observed,
        beta=args.beta,
        free_bits=args.free_bits,
        warm_up=args.warm_up,
        hierarchy=args.hierarchy,
        seed=args.seed,
        ema=args.ema,
    )
    model.compile(common.scheduled(args, steps), **common.compile_settings(args))
    return model


def active_units(source):
    return [kg.callbacks.ActiveUnits(*source.take(min(500, len(source)), seed=0))]


def main():
    args = arguments()
    if common.train(args, build, active_units) and args.test_split:
        common.write_likelihood(args, samples=args.samples)


if __name__ == "__main__":
    main()
