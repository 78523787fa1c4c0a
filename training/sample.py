"""Draws a grid from an exported SavedModel: `python training/sample.py saved_models/digits`."""

import argparse
import json
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_gen import images


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path, help="its highest version is taken")
    parser.add_argument("--output", type=Path, default=Path("grid.png"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--columns", type=int, default=10)
    args = parser.parse_args()

    version = max(
        (p for p in args.directory.iterdir() if p.name.isdigit()), key=lambda p: int(p.name)
    )
    info = json.loads((version / "assets.extra" / "keras_gen.json").read_text())
    rows = info["num_classes"] or args.columns
    count = rows * args.columns
    inputs = {"seed": tf.constant((args.seed << 32) + np.arange(count), tf.int64)}
    if info["num_classes"]:
        inputs["label"] = tf.constant(np.repeat(np.arange(rows), args.columns), tf.int32)
    generate = tf.saved_model.load(version).signatures["serving_default"]
    pictures = generate(**inputs)["images"].numpy()

    scale = max(1, 64 // pictures.shape[1])
    provenance = images.Provenance(info["model"], info["weights"], args.seed)
    images.write_png(
        args.output, images.grid(pictures, columns=args.columns, scale=scale), provenance
    )
    print(f"{count} images of {version} are in {args.output}")


if __name__ == "__main__":
    main()
