"""Trains a VQ-VAE, and then the PixelCNN of its codes: `python training/vqvae.py --data mnist`.

The autoencoder comes to RUN_DIR/autoencoder, the model of both stages to RUN_DIR. Running the same
command again continues where it stopped. A prior is of the codes of one autoencoder: once its
training has begun, one that was trained further is refused.
"""

import argparse
from pathlib import Path

import common
import numpy as np

import keras_gen as kg


def arguments():
    parser = common.parser(__doc__)
    common.add_data(parser)

    model = parser.add_argument_group("autoencoder")
    shape = {"type": int, "nargs": 3, "help": "height, width and channels; None: by the images"}
    model.add_argument("--latent-shape", **shape)
    model.add_argument("--codebook-size", type=int, default=512)
    model.add_argument("--commitment-cost", type=float, default=0.25)
    model.add_argument("--decay", type=float, default=0.99, help="of what the codes average")
    model.add_argument("--restart-below", type=float, default=0.03, help="of the mean use; 0: off")
    model.add_argument("--loss", choices=kg.losses.RECONSTRUCTION_LOSSES, default="squared_error")
    model.add_argument("--width", type=int, default=32, help="channels")
    model.add_argument("--blocks", type=int, default=1, help="at each size")

    prior = parser.add_argument_group("prior")
    prior.add_argument("--embedding", type=int, default=64, help="numbers for each code")
    prior.add_argument("--prior-width", type=int, default=64, help="channels")
    prior.add_argument("--prior-blocks", type=int, default=6)
    prior.add_argument("--first-kernel", type=int, default=7)
    prior.add_argument("--kernel", type=int, default=3)
    prior.add_argument("--dilations", type=int, nargs="+", default=[1], help="of blocks, in turn")
    prior.add_argument("--dropout", type=float, default=0.0)

    training = common.add_training(parser, epochs=10, learning_rate=1e-3)
    common.add_schedule(training)
    training.add_argument("--prior-epochs", type=int, default=10)
    training.add_argument("--prior-batch-size", type=int, default=64)
    training.add_argument("--prior-learning-rate", type=float, default=1e-3)
    common.add_output(parser, "runs/vqvae")
    return parser.parse_args()


def build(args, source, num_classes, steps):
    """The model, compiled for the autoencoder."""
    shape = source.image_shape
    latent_shape = args.latent_shape or kg.models.vqvae.default_latent_shape(shape)
    networks, own = kg.networks, {"width": args.width, "blocks": args.blocks}
    model = kg.models.VQVAE(
        shape,
        num_classes,
        networks.autoencoder.spatial_encoder(
            shape, latent_shape, parameters=1, seed=2 * args.seed, **own
        ),
        networks.autoencoder.spatial_decoder(
            shape,
            latent_shape,
            activation=kg.losses.OUTPUTS.get(args.loss),
            seed=2 * args.seed + 1,
            **own,
        ),
        latent_shape,
        args.codebook_size,
        args.commitment_cost,
        args.decay,
        args.restart_below,
        args.loss,
        networks.pixelcnn.gated(
            (*latent_shape[:2], 1),
            args.codebook_size,
            num_classes,
            width=args.prior_width,
            blocks=args.prior_blocks,
            first_kernel=args.first_kernel,
            kernel=args.kernel,
            dilations=args.dilations,
            dropout=args.dropout,
            embedding=args.embedding,
            seed=args.seed,
        ),
        seed=args.seed,
        ema=args.ema,
    )
    model.compile(common.scheduled(args, steps), **common.compile_settings(args))
    return model


def reconstructions(source, rows=4, columns=12):
    """Pictures, and below each row of them what the autoencoder makes of it, for `SampleGrid`."""
    pictures, _ = source.take(min(rows * columns, len(source)), seed=0)
    starts = range(columns, len(pictures), columns)
    parts = np.split(pictures, starts)

    def draw(model):
        halves = [half for row in parts for half in (row, model.reconstruct(row))]
        return np.concatenate(halves), columns

    return draw


def stage(args, **changes):
    """The flags of one stage."""
    return argparse.Namespace(**{**vars(args), **changes})


def main():
    args, trained = arguments(), []

    def build_autoencoder(*settings):
        trained.append(build(*settings))
        return trained[0]

    def build_prior(args, source, num_classes, steps):
        model = trained[0]
        model.stage = "prior"
        model.compile(common.scheduled(args, steps), **common.compile_settings(args))
        return model

    mark = Path(args.run_dir, "autoencoder.sha256")  # of the autoencoder that the prior is of
    first = stage(args, run_dir=f"{args.run_dir}/autoencoder", export_dir=None)
    is_chief = common.train(first, build_autoencoder, draw=reconstructions)
    weights = trained[0].weights_hash()
    begun = mark.exists() and Path(args.run_dir, "checkpoints").exists()
    if begun and mark.read_text() != weights:
        raise SystemExit(
            f"The prior in {args.run_dir} is of the codes of an autoencoder before it was trained "
            f"further. {args.run_dir}/autoencoder is the new one: copy it to another --run-dir."
        )
    if is_chief and not begun:
        mark.write_text(weights)
    second = stage(
        args,
        epochs=args.prior_epochs,
        images=None,
        batch_size=args.prior_batch_size,
        learning_rate=args.prior_learning_rate,
    )
    common.train(second, build_prior)


if __name__ == "__main__":
    main()
