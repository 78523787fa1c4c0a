"""The samplers of `keras_gen.diffusion` beside diffusers' schedulers, on the same predictions.

    python benchmarks/schedulers_agreement.py --python <python of an environment with diffusers>

A made-up smooth network predicts the noise (on the rectified flow the velocity); both sides get the
same network, x at the first time, levels of noise, and noise of every step. The peer's environment:
`pip install torch==2.13.0 diffusers==0.42.1`. Writes schedulers_agreement.md.
"""

import argparse
import subprocess
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import tensorflow as tf
from timing import table

from keras_gen import diffusion as d

HERE = Path(__file__).resolve().parent
STEPS, BATCH, SIZE = 1000, 16, 8
BOUND = 1e-9  # of the largest number in x, with their tables in float64

EDM, FLOW = d.EDM(sigma_min=1e-3, sigma_max=200), d.RectifiedFlow()
# name, as the peer has it -> (sampler, path)
RUNS = {
    "ddpm, 1000 steps": (d.ddpm, d.Linear()),
    "ddpm, 50 steps": (d.ddpm, d.Cosine()),
    "ddpm, larger variance": (partial(d.ddpm, variance="forward"), d.Linear()),
    "ddim, eta 0": (d.ddim, d.Linear()),
    "ddim, eta 0.5": (partial(d.ddim, eta=0.5), d.Cosine()),
    "ddim, eta 1": (partial(d.ddim, eta=1.0), d.Linear()),
    "dpmpp_2m, linear": (d.dpmpp_2m, d.Linear()),
    "dpmpp_2m, cosine": (d.dpmpp_2m, d.Cosine()),
    "euler, edm": (d.euler, EDM),
    "heun, edm": (d.heun, EDM),
    "euler, rectified flow": (d.euler, FLOW),
    "heun, rectified flow": (d.heun, FLOW),
}


def ours(name, levels, given):
    """x at the end, from the peer's levels of noise."""
    sampler, path = RUNS[name]
    x, v, w = (tf.constant(given[key]) for key in ("x", "v", "w"))
    if path in (EDM, FLOW):
        times = np.append(np.unique(levels[levels > 0])[::-1], 0)  # theirs repeat each for Heun
        x = x * times[0] if path is EDM else x
    else:
        times = np.append((levels + 1) / path.timesteps, 0)

    def denoise(x, t):
        t = t[:, None]
        at = 1 / (1 + t) if path is EDM else t if path is FLOW else t - 1 / path.timesteps
        output = tf.tanh(x @ v + at) @ w
        if path is FLOW:
            return x - t * output
        return (x - path.sigma(t) * output) / path.alpha(t)

    return sampler(denoise, path, x, times, draw=partial(tf.gather, given["noise"])).numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", required=True, help="of an environment with diffusers")
    args = parser.parse_args()
    random = np.random.default_rng(0)
    given = {
        "x": random.normal(size=(BATCH, SIZE)),
        "v": random.normal(size=(SIZE, SIZE)) / SIZE**0.5,
        "w": random.normal(size=(SIZE, SIZE)) / SIZE**0.5,
        "noise": random.normal(size=(STEPS, BATCH, SIZE)),
    }
    theirs = {}
    with tempfile.TemporaryDirectory() as folder:
        np.savez(f"{folder}/given.npz", **given)
        for flags in ((), ("--float64",)):
            command = [args.python, HERE / "diffusers_schedulers.py"]
            command += [f"{folder}/given.npz", f"{folder}/results.npz", *flags]
            subprocess.run(list(map(str, command)), check=True)
            theirs[flags] = dict(np.load(f"{folder}/results.npz"))
    rows, worst = [], 0
    for name in RUNS:
        differences = []
        for results in theirs.values():
            levels, expected = results[f"{name}/levels"], results[f"{name}/x"]
            found = ours(name, levels, given)
            differences.append(np.abs(found - expected).max() / np.abs(expected).max())
        worst = max(worst, differences[1])
        rows.append([name, *(f"{difference:.1e}" for difference in differences)])
    text = "\n".join(
        [
            "# Samplers beside diffusers' schedulers",
            "",
            "`python benchmarks/schedulers_agreement.py --python <peer's python>`: largest "
            f"difference of x at the end, {BATCH} rows of {SIZE} numbers, relative to the largest "
            "number in it, on the same made-up predictions, levels of noise and noise. "
            "diffusers 0.42.1 keeps its tables in float32; the second column has them in float64. "
            f"TensorFlow {tf.__version__}.",
            "",
            table(["sampler", "diffusers as it is", "its tables in float64"], rows),
            "",
        ]
    )
    (HERE / "schedulers_agreement.md").write_text(text)
    print(text)
    if not worst <= BOUND:
        raise SystemExit(f"The largest difference is {worst:.1e}, more than {BOUND:.0e}.")


if __name__ == "__main__":
    main()
