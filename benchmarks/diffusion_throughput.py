"""Training throughput of the U-Net beside diffusers' UNet2DModel of the same widths.

    python benchmarks/diffusion_throughput.py --python <an environment with torch and diffusers>

28×28×1, channels 32-64-96, attention at 7×7, batch 128, random images; every repeat of a precision
is a process of its own, ours and theirs in turn. Theirs is the best of eager and compiled, float32
and bfloat16 autocast, both memory formats: all are timed once, and the best in every repeat. Their
way up has one block a level more than their way down, ours as many: blocks of ours are added until
it has their parameters. Writes diffusion_throughput.md.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from timing import median, table

HERE = Path(__file__).resolve().parent
SHAPE = (28, 28, 1)
SAME = {"width": 32, "multipliers": (1, 2, 3), "blocks": 2, "attention": (2,), "patch": 1}
OURS = {
    "same widths, dense blocks, as many parameters": {**SAME, "block": "dense", "blocks": 3},
    "same widths, dense blocks": {**SAME, "block": "dense"},
    "same widths, separable blocks": {**SAME, "block": "separable"},
    "one block a level, width 64": {"width": 64, "blocks": 1},
    "the default": {},
}
PRECISIONS = "float32", "mixed_bfloat16"


def ours(batch_size, precision, steps=4):
    """images/s of every variant of the U-Net, and its parameters."""
    import keras
    import tensorflow as tf

    import keras_gen as kg

    keras.config.set_dtype_policy(precision)

    images = tf.random.uniform([batch_size, *SHAPE], -1, 1)
    found = {}
    for name, arguments in OURS.items():
        network = kg.networks.unet.denoiser(SHAPE, **arguments)
        model = kg.models.Diffusion(SHAPE, network=network)
        model.compile()
        step = tf.function(model.train_step, autograph=False)
        step(images)
        begin = time.perf_counter()
        for _ in range(steps):
            step(images)
        speed = steps * batch_size / (time.perf_counter() - begin)
        found[f"{name}, {precision}"] = [speed, network.count_params()]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", help="of the environment with torch and diffusers")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(ours(args.batch_size, args.child)))
        return
    if not args.python:
        parser.error("--python is needed")
    mine, theirs, best = [], [], None
    with tempfile.TemporaryDirectory() as folder:
        data = f"{folder}/data.npz"
        random = np.random.default_rng(0)
        np.savez(data, images=random.integers(0, 256, (1024, *SHAPE), dtype=np.uint8))
        size = ["--batch-size", str(args.batch_size)]
        for _ in range(args.repeats):
            found = {}
            for precision in PRECISIONS:
                found |= _answer([sys.executable, __file__, "--child", precision, *size])
            mine.append(found)
            script = str(HERE / "diffusers_baseline.py")
            only = ["--variant", best] if best else []
            theirs.append(_answer([args.python, script, data, "--speed", *size, *only]))
            best = max(theirs[0]["speeds"], key=theirs[0]["speeds"].get)

    speeds = {
        name: [found["speeds"][name] for found in theirs if name in found["speeds"]]
        for name in theirs[0]["speeds"]
    }
    peer = median(speeds[best])
    rows = [
        [f"diffusers, {name}", f"{theirs[0]['parameters']:,}", *_cells(values, peer)]
        for name, values in speeds.items()
    ]
    for name in mine[0]:
        values = [found[name][0] for found in mine]
        rows.append([f"`unet`, {name}", f"{mine[0][name][1]:,}", *_cells(values, peer)])
    header = ["variant", "parameters", "images/s", "ratio to their best", "all repeats"]
    text = (
        "# Diffusion: training throughput\n\n`python benchmarks/diffusion_throughput.py`: 28×28×1, "
        f"batch {args.batch_size}, median of {args.repeats}. Their best: {best}.\n\n"
        f"{table(header, rows)}\n"
    )
    (HERE / "diffusion_throughput.md").write_text(text)
    print(text)


def _answer(command):
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def _cells(values, peer):
    middle = median(values)
    return [f"{middle:.0f}", f"{middle / peer:.2f}", ", ".join(f"{v:.0f}" for v in values)]


if __name__ == "__main__":
    main()
