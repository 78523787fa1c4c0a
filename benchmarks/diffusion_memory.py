"""Peak resident memory of training a diffusion model at 64×64, and what lowers it.

    python benchmarks/diffusion_memory.py

Each variant is a process of its own that takes four steps of 64 images each, after one batch that
is not timed: whole batches, batches of 16 with gradients accumulated over four of them, and
recomputed activations: of whole blocks (`recompute`), and of single layers by Keras's `RematScope`.
The peak is that of the process, TensorFlow's own part (a process that has only built the model)
beside. What fails is told. Writes diffusion_memory.md.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from timing import table

HERE = Path(__file__).resolve().parent
SHAPE = (64, 64, 3)
VARIANTS = {
    "the model alone": {"steps": 0},
    "batch 64": {},
    "batch 16, gradients of 4 accumulated": {"accumulate": 4},
    "batch 64, blocks recomputed": {"recompute": True},
    "batch 16, accumulated, blocks recomputed": {"accumulate": 4, "recompute": True},
    "batch 64, `RematScope(mode='activations')`": {"remat": "activations"},
    "batch 64, `RematScope(mode='full')`": {"remat": "full"},
}


def child(accumulate=1, remat=None, recompute=False, steps=4):
    import contextlib

    import keras
    import tensorflow as tf

    import keras_gen as kg

    with keras.RematScope(remat) if remat else contextlib.nullcontext():
        network = kg.networks.unet.denoiser(SHAPE, width=64, blocks=1, recompute=recompute)
    model = kg.models.Diffusion(SHAPE, network=network)
    rows = 64 // accumulate
    options = {"gradient_accumulation_steps": accumulate} if accumulate > 1 else {}
    model.compile(kg.optimizers.Adam(1e-4, **options))
    step = tf.function(model.train_step, autograph=False)
    images = tf.random.uniform([rows, *SHAPE], -1, 1)
    if steps:
        step(images)
    begin = time.perf_counter()
    for _ in range(steps * accumulate):
        step(images)
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    speed = 64 * steps / seconds if steps else 0
    print(json.dumps({"megabytes": peak, "speed": speed}))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(**VARIANTS[args.child])
        return
    rows = []
    for name in VARIANTS:
        command = [sys.executable, __file__, "--child", name]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            lines = done.stderr.splitlines()
            said = [line for line in lines if "\x1b[1m" in line or "Error" in line]
            reason = said[-1].replace("\x1b[1m", "").replace("\x1b[0m", "")
            rows.append([name, "fails", reason])
            continue
        found = json.loads(done.stdout.splitlines()[-1])
        rows.append([name, f"{found['megabytes']:,.0f}", f"{found['speed']:.1f}"])
    header = ["variant", "peak, MB", "images/s"]
    text = (
        "# Diffusion: memory of training at 64×64×3\n\n`python benchmarks/diffusion_memory.py`: "
        "a U-Net of one block a level, width 64, updates of 64 images, one run.\n\n"
        f"{table(header, rows)}\n"
    )
    (HERE / "diffusion_memory.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
