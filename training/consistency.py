"""Tunes a trained diffusion model to one to four steps.

`python training/consistency.py runs/flow/model.keras --data mnist`: the model itself teaches. With
`--method easy` the data do; with `--method mean_flow` a rectified flow becomes a mean flow. Running
the same command again continues where it stopped.
"""

import common
import keras

import keras_gen as kg


def arguments():
    parser = common.parser(__doc__)
    parser.add_argument("model", help=".keras file of a Diffusion")
    common.add_data(parser)
    methods = ("distillation", "easy", "mean_flow")
    parser.add_argument("--method", choices=methods, default="distillation")
    parser.add_argument("--intervals", type=int, default=8, help="of distillation")
    parser.add_argument("--stages", type=int, default=8, help="of easy: halvings of the distance")
    parser.add_argument("--steps", type=int, help="of the sampler; None: 2, of mean_flow 1")
    training = common.add_training(parser, learning_rate=5e-4, epochs=3)
    common.add_schedule(training)
    common.add_output(parser, None)
    args = parser.parse_args()
    args.run_dir = args.run_dir or f"runs/{args.method}"
    return args


def build(args, source, num_classes, steps):
    trained = keras.saving.load_model(args.model, compile=False)
    own = {"seed": args.seed, "ema": args.ema}
    if args.steps:
        own["steps"] = args.steps
    if args.method == "mean_flow":
        model = kg.models.MeanFlow.tuned_from(trained, **own)
    elif args.method == "distillation":
        model = kg.models.ConsistencyModel.tuned_from(trained, intervals=args.intervals, **own)
    else:
        stages = {"stages": args.stages, "stage_steps": max(1, steps // (args.stages + 1))}
        model = kg.models.ConsistencyModel.tuned_from(trained, teacher=False, **stages, **own)
    model.compile(common.scheduled(args, steps), **common.compile_settings(args))
    return model


if __name__ == "__main__":
    common.train(arguments(), build)
