"""Trains a predictor of moving digits: `python training/frame_predictor.py --data mnist`.

The digits of `--data` move over a canvas of `--canvas` pixels; `--image-size` makes the digits
themselves smaller. At the end test digits are continued from their first frames, as strips and as
an animation, and their likelihood is written. Running the same command again continues where it
stopped.
"""

import common
import keras

import keras_gen as kg


def arguments():
    parser = common.parser(__doc__)
    common.add_data(parser)
    sequences = common.add_sequences(parser)
    sequences.add_argument(
        "--test-sequences", type=common.positive, default=200, help="for the likelihood"
    )

    model = parser.add_argument_group("model")
    model.add_argument("--context", type=int, default=4, help="frames that the next depends on")
    model.add_argument(
        "--likelihood",
        choices=kg.losses.LIKELIHOODS,
        help="None: bernoulli of grey images, discretized_logistic of coloured ones",
    )
    model.add_argument(
        "--binarization",
        help="bernoulli: stochastic (the default), or a threshold in (0, 1)",
    )
    model.add_argument(
        "--context-noise", type=float, default=0.0, help="added to the frames before, in training"
    )
    model.add_argument("--width", type=int, default=64, help="channels")
    model.add_argument("--memories", type=int, default=1, help="layers of ConvLSTM")
    model.add_argument("--kernel", type=int, default=3, help="side of their kernels")
    model.add_argument("--blocks", type=int, default=2)
    model.add_argument("--reach", type=int, default=4, help="pixels that move so far")

    training = common.add_training(parser, batch_size=16, learning_rate=1e-3, epochs=10)
    common.add_schedule(training)
    common.add_output(parser, "runs/frame_predictor")
    return parser.parse_args()


def build(args, source, num_classes, steps):
    grey = source.image_shape[-1] == 1
    name = args.likelihood or ("bernoulli" if grey else "discretized_logistic")
    likelihood = kg.losses.get_likelihood(name)
    if args.binarization and name != "bernoulli":
        raise SystemExit(f"--binarization is Bernoulli's. Received: the likelihood {name}")
    if name == "bernoulli":
        likelihood = kg.losses.Bernoulli(common.number(args.binarization or "stochastic"))
    network = kg.networks.convlstm.predictor(
        source.image_shape,
        args.context,
        num_classes,
        width=args.width,
        memories=args.memories,
        kernel=args.kernel,
        blocks=args.blocks,
        reach=args.reach,
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
        args.context_noise,
        seed=args.seed,
        ema=args.ema,
    )
    model.compile(common.scheduled(args, steps), **common.compile_settings(args))
    return model


def report(args):
    """The likelihood of sequences of test digits, and how some of them go on, twice as long."""
    model = keras.saving.load_model(f"{args.run_dir}/model.keras", compile=False)
    test = common.moving_test(args, count=args.test_sequences)
    result = kg.metrics.likelihood(model, test, split=args.test_split)
    result.save(f"{args.run_dir}/likelihood.json")
    sequences, labels = test.take(len(test), seed=0)
    terms = model.log_prob(sequences, labels if model.num_classes else None)["frame_log_prob"]
    by_frame = ", ".join(f"{-nats:.2f}" for nats in terms.mean(0))
    print(f"{result}\nframe by frame: {by_frame} nats")
    common.write_continued(args, model)


if __name__ == "__main__":
    args = arguments()
    if common.train(args, build, load=common.moving):
        report(args)
