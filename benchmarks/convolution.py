"""`kg.layers.Conv2D` beside Keras's: forward, and forward with both gradients.

    python benchmarks/convolution.py

Convolutions of stride 1 as generators and U-Nets have them, batch 128, float32. Writes
benchmarks/convolution.md.
"""

import argparse
from pathlib import Path

import keras
import tensorflow as tf
from timing import interleaved, median, table

import keras_gen as kg

SHAPES = [(7, 256, 128, 5), (14, 128, 128, 3), (28, 64, 64, 3), (7, 128, 512, 3), (32, 32, 32, 3)]


def functions(side, channels, filters, kernel_size, batch):
    """Two functions for each layer: the value alone, and the value with both gradients."""
    images = tf.random.stateless_normal([batch, side, side, channels], [0, 1])
    made = {}
    for name, layer in (
        ("Keras", keras.layers.Conv2D(filters, kernel_size, padding="same", use_bias=False)),
        ("keras_gen", kg.layers.Conv2D(filters, kernel_size, use_bias=False)),
    ):
        layer.build(images.shape)

        def gradients(layer=layer):
            with tf.GradientTape() as tape:
                tape.watch(images)
                value = layer(images)
            return tape.gradient(value, [images, *layer.trainable_variables])

        made[name, "forward"] = tf.function(lambda layer=layer: layer(images))
        made[name, "gradients"] = tf.function(gradients)
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", default=Path(__file__).with_suffix(".md"))
    args = parser.parse_args()
    rows = []
    for shape in SHAPES:
        seconds = interleaved(functions(*shape, args.batch_size), args.repeats)
        keras_ms, ours_ms = (
            1000 * median(seconds[name, "gradients"]) for name in ("Keras", "keras_gen")
        )
        forward = 1000 * median(seconds["Keras", "forward"])
        side, channels, filters, kernel_size = shape
        rows.append(
            [
                f"{side}×{side}, {channels} → {filters}, kernel {kernel_size}",
                f"{forward:.0f}",
                f"{keras_ms:.0f}",
                f"{ours_ms:.0f}",
                f"{keras_ms / ours_ms:.2f}",
            ]
        )
    text = (
        f"`python benchmarks/convolution.py --batch-size {args.batch_size} "
        f"--repeats {args.repeats}`: milliseconds, median of {args.repeats}, in turn.\n\n"
    )
    text += table(
        ["convolution", "forward", "with gradients, Keras", "with gradients, keras_gen", "ratio"],
        rows,
    )
    print(text)
    Path(args.output).write_text(text + "\n")


if __name__ == "__main__":
    main()
