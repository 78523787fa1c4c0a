"""Sampling speed of PixelCNN: the naive loop against the cached one.

    python benchmarks/pixelcnn_sampling.py

The naive loop runs the network on the whole image for each pixel, the cached one feeds each layer
what it has not seen. Both draw the same number of images at a time, from the same seeds; that the
images are equal is checked. Each model is a process of its own: one run of the naive loop, traced
before, and the median of `--repeats` of the cached one, after a first that does not count.
Writes pixelcnn_sampling.md.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from timing import median, table

HERE = Path(__file__).resolve().parent
GREY = {"image_shape": (28, 28, 1), "levels": 2, "likelihood": "categorical"}
RGB = {"image_shape": (32, 32, 3), "levels": 256, "likelihood": "logistic_mixture"}
MODELS = {  # the network's function and what it and the model are told
    "gated, 28×28, 2 levels": ("gated", GREY),
    "gated, 32×32×3, 256 levels, logistic mixture": ("gated", RGB),
    "plus_plus, 28×28, 2 levels": ("plus_plus", GREY),
    "plus_plus, 32×32×3, 256 levels, logistic mixture": ("plus_plus", RGB),
}


def child(name, rows, repeats):
    """Seconds of `rows` images: dict of "cached", a list, "naive", "equal" and "parameters"."""
    import tensorflow as tf

    import keras_gen as kg

    network, settings = MODELS[name]
    network = getattr(kg.networks.pixelcnn, network)(**settings)
    model = kg.models.PixelCNN(**settings, network=network)
    model.generation_rows = rows
    random = np.random.default_rng(0)
    for average, _ in model.averages.pairs:  # untrained, but without the zeros of the head
        average.assign(average + 0.02 * tf.constant(random.normal(size=average.shape), tf.float32))

    def timed(cached):
        begin = time.perf_counter()
        images = model.generate(rows, seed=1, cached=cached)
        return images, time.perf_counter() - begin

    model.generate(rows, seed=0)
    cached = [timed(True) for _ in range(repeats)]
    compiled = model.compiled_function(
        ("generate", False),
        lambda seed: model.generate_images(seed, cached=False),
        kg.export.row_signature(None),
    )
    compiled.get_concrete_function()  # traced before it is timed
    images, seconds = timed(False)
    found = {
        "cached": [seconds for _, seconds in cached],
        "naive": seconds,
        "equal": bool((images == cached[0][0]).all()),
        "parameters": model.network.count_params(),
    }
    print(json.dumps(found))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=16, help="images at a time")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.rows, args.repeats)
        return
    rows = []
    for name in MODELS:
        command = [sys.executable, __file__, "--child", name]
        command += ["--rows", str(args.rows), "--repeats", str(args.repeats)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found = json.loads(output.splitlines()[-1])
        cached = median(found["cached"])
        rows.append(
            [
                name,
                f"{found['parameters']:,}",
                f"{found['naive']:.1f}",
                f"{cached:.2f}",
                f"{found['naive'] / cached:.0f}",
                "yes" if found["equal"] else "no",
            ]
        )
    header = ["model", "parameters", "naive, s", "cached, s", "ratio", "same images"]
    text = (
        "# PixelCNN: sampling\n\n`python benchmarks/pixelcnn_sampling.py "
        f"--rows {args.rows}`: seconds of {args.rows} images at a time, one run of the naive loop, "
        f"median of {args.repeats} of the cached one.\n\n{table(header, rows)}\n"
    )
    (HERE / "pixelcnn_sampling.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
