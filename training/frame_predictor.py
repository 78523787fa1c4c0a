"""Trains a predictor of moving digits: `python training/frame_predictor.py --data mnist`.

The digits of `--data` move over a canvas of `--canvas` pixels; `--image-size` makes the digits
themselves smaller. At the end test digits are continued from their first frames, as strips and as
an animation, and their likelihood is written. Running the same command again continues where it
stopped.
"""

import json
from pathlib import Path

import common
import keras
import numpy as np

import keras_gen as kg


def arguments():
    parser = common.parser(__doc__)
    common.add_data(parser)
    data = parser.add_argument_group("sequences")
    data.add_argument("--test-split", default="test", help="of the digits")
    data.add_argument(
        "--digits", type=int, default=2, help="how many move; of one, the label counts"
    )
    data.add_argument(
        "--canvas", type=int, nargs="+", default=[64], help="side, or height and width"
    )
    data.add_argument("--frames", type=int, default=20)
    data.add_argument("--sequences", type=int, default=10_000)
    data.add_argument("--speed", type=float, help="pixels a frame; None: a tenth of the room")

    model = parser.add_argument_group("model")
    model.add_argument("--context", type=int, default=4, help="frames that the next depends on")
    model.add_argument("--likelihood", choices=kg.losses.LIKELIHOODS, default="bernoulli")
    model.add_argument(
        "--binarization",
        type=binarization,
        default="stochastic",
        help="bernoulli: stochastic, or a threshold in (0, 1)",
    )
    model.add_argument("--width", type=int, default=64, help="channels")
    model.add_argument("--memories", type=int, default=1, help="layers of ConvLSTM")
    model.add_argument("--kernel", type=int, default=3, help="side of their kernels")
    model.add_argument("--blocks", type=int, default=2)

    test = parser.add_argument_group("test")
    test.add_argument("--test-sequences", type=int, default=200, help="for the likelihood")
    test.add_argument("--first-frames", type=int, default=5, help="given; the rest is drawn")
    test.add_argument("--rows", type=int, default=8, help="sequences that are continued")

    training = common.add_training(parser, batch_size=16, learning_rate=1e-3, epochs=10)
    common.add_schedule(training)
    common.add_output(parser, "runs/frame_predictor")
    return parser.parse_args()


def binarization(text):
    return text if text == "stochastic" else float(text)


def moving(args, **kwargs):
    canvas = args.canvas[0], args.canvas[-1]
    settings = {"num_frames": args.frames, "count": args.sequences, "speed": args.speed, **kwargs}
    return kg.data.moving_digits(common.load(args), args.digits, canvas, **settings)


def build(args, source, num_classes, steps):
    likelihood = kg.losses.get_likelihood(args.likelihood)
    if args.likelihood == "bernoulli":
        likelihood = kg.losses.Bernoulli(args.binarization)
    network = kg.networks.convlstm.predictor(
        source.image_shape,
        args.context,
        num_classes,
        width=args.width,
        memories=args.memories,
        kernel=args.kernel,
        blocks=args.blocks,
        parameters=likelihood.parameters,
        shared=likelihood.shared,
        seed=args.seed,
    )
    model = kg.models.FramePredictor(
        source.image_shape,
        num_classes,
        args.context,
        args.frames,
        network,
        likelihood,
        seed=args.seed,
        ema=args.ema,
    )
    model.compile(common.scheduled_adam(args, steps), **common.compile_settings(args))
    return model


def report(args):
    """The likelihood of sequences of test digits, and how some of them go on, twice as long."""
    model = keras.saving.load_model(f"{args.run_dir}/model.keras", compile=False)
    args.split = args.test_split
    frames = 2 * args.frames
    source = moving(args, seed=1, count=max(args.test_sequences, args.rows), num_frames=frames)
    sequences, labels = source.take(len(source))
    labels = labels if model.num_classes else None

    terms = model.log_prob(sequences[:, : args.frames], labels)["frame_log_prob"]
    found = {
        "split": args.split,
        "sequences": len(sequences),
        "likelihood": {"name": args.likelihood, **model.likelihood.get_config()},
        "nats_per_frame": -float(terms.mean()),
        "nats_by_frame": [round(-float(nats), 2) for nats in terms.mean(0)],
    }
    Path(args.run_dir, "likelihood.json").write_text(json.dumps(found, indent=1))
    print(json.dumps(found))

    true = sequences[: args.rows]
    labels = None if labels is None else labels[: args.rows]
    drawn = model.generate(
        args.rows, labels, num_frames=frames, first_frames=true[:, : args.first_frames]
    )
    pairs = np.stack([true, drawn], 1).reshape(-1, *true.shape[1:])  # each above its continuation
    provenance = kg.images.Provenance(model.name, model.weights_hash(), 0)
    strips = kg.images.grid(pairs.reshape(-1, *pairs.shape[2:]), columns=frames)
    kg.images.write_png(Path(args.run_dir, "continued.png"), strips, provenance)
    motion = [kg.images.grid(pairs[:, t], columns=8, scale=2) for t in range(frames)]
    kg.images.write_gif(Path(args.run_dir, "continued.gif"), motion, 10, provenance)


if __name__ == "__main__":
    args = arguments()
    if common.train(args, build, load=moving):
        report(args)
