"""Trains a GAN: `python training/gan.py --data mnist --network dcgan`.

Running the same command again continues where it stopped.
"""

import argparse
import contextlib
import json
from pathlib import Path

import keras
import tensorflow as tf

import keras_gen as kg


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    data = parser.add_argument_group("data")
    data.add_argument("--data", default="digits", help="digits, a TFDS name, a folder or an .npz")
    data.add_argument("--data-dir", help="folder of the prepared TFDS data sets")
    data.add_argument("--split", default="train")
    data.add_argument("--image-size", type=int, nargs="+", help="one side, or height and width")
    data.add_argument("--channels", type=int, choices=(1, 3))
    data.add_argument("--unconditional", action="store_true", help="leave the labels out")

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
    model.add_argument("--ema", type=float, default=0.999, help="decay of the weight average")

    loss = parser.add_argument_group("loss")
    loss.add_argument("--loss", choices=kg.losses.ADVERSARIAL_LOSSES, default="non_saturating")
    loss.add_argument("--r1", type=float, default=0.0, help="weight of the R1 penalty")
    loss.add_argument("--r2", type=float, default=0.0, help="weight of the R2 penalty")
    loss.add_argument("--gradient-penalty", type=float, help="WGAN-GP's weight")
    loss.add_argument("--discriminator-steps", type=int, default=1)

    training = parser.add_argument_group("training")
    training.add_argument("--batch-size", type=int, default=128)
    training.add_argument("--epochs", type=int, default=20)
    training.add_argument("--images", type=int, help="train on so many images; sets --epochs")
    training.add_argument("--steps-per-epoch", type=int, help="batches an epoch; None: all data")
    training.add_argument("--learning-rate", type=float, default=2e-4)
    training.add_argument("--discriminator-learning-rate", type=float, help="if another")
    training.add_argument("--beta-1", type=float, default=0.5)
    training.add_argument("--beta-2", type=float, default=0.999)
    training.add_argument("--seed", type=int, default=0)
    training.add_argument(
        "--precision", choices=("float32", "mixed_bfloat16", "mixed_float16"), default="float32"
    )
    training.add_argument("--steps-per-execution", type=int, default=1)
    training.add_argument("--jit-compile", action="store_true")
    training.add_argument("--strategy", choices=("none", "mirrored", "multiworker"), default="none")

    output = parser.add_argument_group("output")
    output.add_argument("--run-dir", default="runs/gan", help="grids, logs, checkpoints, model")
    output.add_argument("--export-dir", help="such as saved_models/mnist; SavedModel versions")
    output.add_argument("--gif", action="store_true", help="an animation of the training")
    return parser.parse_args()


def build(args, image_shape, num_classes):
    if args.network == "mlp":
        shared = {"hidden": args.hidden}
        generator, discriminator = kg.networks.mlp.generator, kg.networks.mlp.discriminator
        own = {}
    else:
        shared = {"width": args.width, "kernel_size": args.kernel_size}
        generator, discriminator = kg.networks.dcgan.generator, kg.networks.dcgan.discriminator
        own = {"dropout": args.dropout, "batch_normalization": args.batch_normalization}
    shared |= {"num_classes": num_classes}
    weights = (
        (kg.losses.R1, args.r1),
        (kg.losses.R2, args.r2),
        (kg.losses.GradientPenalty, args.gradient_penalty),
    )
    penalties = [penalty(weight) for penalty, weight in weights if weight]
    model = kg.models.GAN(
        image_shape,
        num_classes,
        generator=generator(image_shape, args.latent_dim, seed=2 * args.seed, **shared),
        discriminator=discriminator(image_shape, seed=2 * args.seed + 1, **shared, **own),
        loss=args.loss,
        penalties=penalties or None,
        discriminator_steps=args.discriminator_steps,
        seed=args.seed,
        ema=args.ema,
    )

    def adam(learning_rate):
        return keras.optimizers.Adam(learning_rate, args.beta_1, args.beta_2)

    model.compile(
        adam(args.learning_rate),
        adam(args.discriminator_learning_rate or args.learning_rate),
        steps_per_execution=args.steps_per_execution,
        jit_compile=args.jit_compile or "auto",
    )
    return model


def main():
    args = arguments()
    strategy = {
        "none": contextlib.nullcontext,
        "mirrored": lambda: tf.distribute.MirroredStrategy().scope(),
        "multiworker": lambda: tf.distribute.MultiWorkerMirroredStrategy().scope(),
    }[args.strategy]()  # before anything else starts TensorFlow
    keras.config.set_dtype_policy(args.precision)

    size = args.image_size and (args.image_size[0], args.image_size[-1])
    source = kg.data.load(
        args.data, args.split, image_size=size, channels=args.channels, data_dir=args.data_dir
    )
    batches = source.batches(args.batch_size, seed=args.seed)
    with strategy:
        model = build(args, source.image_shape, None if args.unconditional else source.num_classes)

    callbacks = [
        kg.callbacks.SampleGrid(args.run_dir, gif=args.gif),
        kg.callbacks.LearningRates(args.run_dir),
        keras.callbacks.TerminateOnNaN(),
        kg.callbacks.Resume(args.run_dir),
    ]
    if kg.callbacks.is_chief(model):
        callbacks.insert(0, keras.callbacks.TensorBoard(f"{args.run_dir}/logs"))
    if args.export_dir:
        callbacks.append(kg.callbacks.ExportSavedModel(args.export_dir))
    steps = args.steps_per_epoch or len(batches)
    epochs = -(-args.images // (steps * args.batch_size)) if args.images else args.epochs
    history = model.fit(
        batches, epochs=epochs, steps_per_epoch=args.steps_per_epoch, callbacks=callbacks
    )
    if not kg.callbacks.is_chief(model):
        return
    model.save(f"{args.run_dir}/model.keras")
    Path(args.run_dir, "metrics.json").write_text(json.dumps(history.history, indent=1))
    print(f"Sample grids, TensorBoard logs, metrics and the model are in {args.run_dir}")


if __name__ == "__main__":
    main()
