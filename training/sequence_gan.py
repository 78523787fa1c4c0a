"""Trains a GAN of moving digits: `python training/sequence_gan.py --data mnist --image-size 16`.

The digits of `--data` move over a canvas of `--canvas` pixels; `--image-size` makes the digits
themselves smaller. First a GAN learns single frames (`--first-images`), whose generator then draws
the first frame of each sequence, and learns no more. At the end test digits are continued from
their first frames, as strips and as an animation, and it is written how much sequences change from
frame to frame, beside test sequences. Running the same command again continues where it stopped.
"""

import argparse
import json
from pathlib import Path

import common
import keras
import numpy as np

import keras_gen as kg


def arguments():
    parser = common.parser(__doc__)
    common.add_data(parser)
    sequences = common.add_sequences(parser, digits=1, canvas=32, frames=10)
    sequences.add_argument("--test-sequences", type=int, default=256, help="to compare with")

    model = parser.add_argument_group("model")
    model.add_argument("--content-dim", type=int, default=64, help="latent of a sequence")
    model.add_argument("--noise-dim", type=int, default=16, help="latent of each frame")
    model.add_argument("--width", type=int, default=48, help="channels of all networks")
    model.add_argument("--blocks", type=int, default=1)
    model.add_argument(
        "--drawing", type=float, default=0.0, help="share of what is drawn and does not move"
    )
    model.add_argument("--max-given", type=int, help="first frames in training; None: half")
    model.add_argument(
        "--continuation-weight",
        type=float,
        default=20.0,
        help="of the true frames to come",
    )
    model.add_argument("--loss", choices=kg.losses.ADVERSARIAL_LOSSES, default="relativistic")
    weight = {
        "type": float,
        "help": "first weight of the penalty; None: 10, or the loss's own",
    }
    model.add_argument("--r1", **weight)
    model.add_argument("--r2", **weight)
    model.add_argument("--last-penalty", type=float, default=0.1, help="in units of the first")

    training = common.add_training(parser, batch_size=16, learning_rate=1e-3, epochs=10)
    training.add_argument(
        "--first-images", type=int, default=100_000, help="to learn single frames from; 0: none"
    )
    training.add_argument("--first-batch-size", type=int, default=32)
    common.add_schedule(training)
    parser.set_defaults(clip_norm=None)
    common.add_output(parser, "runs/sequence_gan")
    args = parser.parse_args()
    if args.strategy == "multiworker" and args.first_images:
        parser.error(
            "Workers would read the GAN of single frames while it is written: train it "
            "alone first, or use --first-images 0. Received: --strategy multiworker"
        )
    if not 1 <= args.first_frames < args.frames:
        parser.error(f"--first-frames must be fewer than --frames. Received: {args.first_frames}")
    return args


def diagnosis(source):
    return common.diagnosis(source, 32)


def single_frames(args):
    """All frames of the sequences as images."""
    source = common.moving(args)
    sequences, labels = source.take(len(source), seed=0)
    frames = sequences.reshape(-1, *source.image_shape)
    return kg.data.load((frames, np.repeat(labels, args.frames)) if source.num_classes else frames)


def build_first(args, source, num_classes, steps):
    """The GAN of single frames."""
    shape, seed, resnet = source.image_shape, 4 * args.seed, kg.networks.resnet
    shared = {"num_classes": num_classes, "width": args.width, "blocks": args.blocks}
    latent_dim = args.content_dim + args.noise_dim
    model = kg.models.GAN(
        shape,
        num_classes,
        generator=resnet.generator(shape, latent_dim, seed=seed + 1, **shared),
        discriminator=resnet.discriminator(shape, seed=seed + 2, **shared),
        burn_in=steps * args.batch_size,
        seed=args.seed,
    )
    model.compile(**common.compile_settings(args))
    return model


def first_generator(args):
    """The generator of the GAN of single frames, which learns no more; None: without such a GAN."""
    if not args.first_images:
        return None
    model = keras.saving.load_model(f"{args.run_dir}/first/model.keras", compile=False)
    model.generator.set_weights(model.averaged_generator.get_weights())
    model.generator.trainable = False
    return model.generator


def penalties(args, images):
    """R1 and R2, whose weights fall while so many images are seen; None: the loss's own."""
    weights = args.r1, args.r2
    if weights == (None, None) and args.loss == "wasserstein":
        return None
    return [
        penalty(kg.schedules.CosineSchedule(weight, weight * args.last_penalty, images))
        for penalty, weight in zip(
            (kg.losses.R1, kg.losses.R2), (10.0 if w is None else w for w in weights)
        )
        if weight
    ]


def build(args, source, num_classes, steps):
    shape, seed, parts = source.image_shape, 4 * args.seed, kg.networks
    images = steps * args.batch_size
    shared = {"num_classes": num_classes, "width": args.width, "blocks": args.blocks}
    model = kg.models.SequenceGAN(
        shape,
        num_classes,
        args.frames,
        args.max_given,
        parts.sequence.generator(
            shape, args.content_dim, args.noise_dim, drawing=args.drawing, seed=seed, **shared
        ),
        first_generator(args),
        parts.resnet.discriminator(shape, seed=seed + 2, **shared),
        parts.sequence.motion_discriminator(shape, args.frames, seed=seed + 3, **shared),
        loss=args.loss,
        penalties=penalties(args, images),
        continuation_weight=args.continuation_weight,
        seed=args.seed,
        ema=args.ema,
    )
    optimizers = [common.scheduled(args, steps, beta_1=0.0, beta_2=0.99) for _ in range(2)]
    model.compile(*optimizers, **common.compile_settings(args))
    return model


def test_sequences(args):
    """Test sequences, twice as long as those of training, their labels, and how alike two halves of
    them move."""
    count = args.test_sequences
    real, labels = common.moving_test(args, count=count, num_frames=2 * args.frames).take(count)
    return real, labels, continuity(*_halves(real))


def report(args):
    """How much frames change, drawn from nothing or continued, up to the trained length and from
    there on to twice as much; and pictures of both."""
    model = keras.saving.load_model(f"{args.run_dir}/model.keras", compile=False)
    given, frames = args.first_frames, 2 * args.frames
    real, labels, floor = test_sequences(args)
    labels = labels if model.num_classes else None
    settings = {"n": len(real), "labels": labels, "num_frames": frames}
    made = {
        "drawn": model.generate(**settings),
        "continued": model.generate(**settings, first_frames=real[:, :given]),
    }
    found = {"split": args.test_split, "n": len(real), "floor": floor}
    for name, fake in made.items():
        # the last given frame is where the first step that was made begins
        first = given - 1 if name == "continued" else 0
        parts = {"trained": slice(first, args.frames), "beyond": slice(args.frames, None)}
        for part, times in parts.items():
            found[f"{name}_{part}"] = continuity(real[:, times], fake[:, times])
    Path(args.run_dir, "continuity.json").write_text(json.dumps(found, indent=1))
    print(json.dumps(found, indent=1))
    common.write_continued(args, model)


def continuity(real, fake):
    found = kg.metrics.temporal_continuity(real, fake)
    return {name: round(value, 4) for name, value in found.items()}


def _halves(sequences):
    return sequences[::2], sequences[1::2]


if __name__ == "__main__":
    args = arguments()
    test_sequences(args)  # what is wrong with them is found before the training
    if args.first_images:
        changes = {
            "run_dir": f"{args.run_dir}/first",
            "export_dir": None,
            "images": args.first_images,
            "batch_size": args.first_batch_size,
        }
        first = argparse.Namespace(**{**vars(args), **changes})
        common.train(first, build_first, diagnosis, load=single_frames)
    if common.train(args, build, diagnosis, load=common.moving):
        report(args)
