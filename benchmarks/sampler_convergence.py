"""Error against evaluations of every sampler, where the exact answer is known.

    python benchmarks/sampler_convergence.py

The data are a mixture of two normal distributions on a line, whose E[x_0 | x_t] is a formula. The
error is the root mean square distance from the solution of 4,096 steps of Heun's method, for 256
starting points. Writes sampler_convergence.md and docs/sampler_convergence.png.
"""

import math
from pathlib import Path

import matplotlib
import numpy as np
import tensorflow as tf
from timing import table

from keras_gen import diffusion

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
MEANS, DEVIATION = (-0.6, 0.5), 0.2
STEPS = (4, 8, 16, 32, 64, 128, 256)
CASES = (
    ("rectified_flow", "uniform"),
    ("rectified_flow", "logsnr"),
    ("cosine", "logsnr"),
    ("edm", "karras"),
)


def exact(path):
    """E[x_0 | x_t] of the mixture."""

    def denoise(x, t):
        alpha, sigma = path.alpha(t)[:, None], path.sigma(t)[:, None]
        variance = (alpha * DEVIATION) ** 2 + sigma**2
        means = tf.constant(MEANS, x.dtype)
        shares = tf.nn.softmax(-((x - alpha * means) ** 2) / (2 * variance))
        gain = alpha * DEVIATION**2 / variance
        return tf.reduce_sum(shares * (means + gain * (x - alpha * means)), 1, keepdims=True)

    return denoise


def errors(path, grid):
    """dict from sampler to the errors for STEPS."""
    quantiles = (np.arange(256) + 0.5) / 256
    noise = math.sqrt(2) * tf.math.erfinv(tf.constant(2 * quantiles - 1)[:, None])

    def solution(sampler, steps):
        return sampler(exact(path), path, path.prior(noise), grid(path, steps))

    best = solution(diffusion.heun, 4096)
    return {
        name: [
            float(tf.sqrt(tf.reduce_mean((solution(sampler, steps) - best) ** 2)))
            for steps in STEPS
        ]
        for name, sampler in diffusion.SAMPLERS.items()
        if name in ("euler", "heun", "dpmpp_2m")  # DDIM without noise is Euler's method
    }


def main():
    figure, axes = plt.subplots(1, len(CASES), figsize=(14, 3.6), sharey=True)
    rows = []
    for axis, (path, grid) in zip(axes, CASES):
        found = errors(diffusion.get_path(path), diffusion.get_grid(grid))
        for name, values in found.items():
            evaluations = np.array(STEPS) * (2 if name == "heun" else 1)
            axis.loglog(evaluations, values, marker="o", label=name)
            order = math.log(values[3] / values[5], 4)
            rows.append([f"{path}, {grid}", name, *(f"{v:.1e}" for v in values), f"{order:.2f}"])
        axis.set(title=f"{path}, {grid} grid", xlabel="evaluations of the network")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("root mean square error")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(HERE.parent / "docs" / "sampler_convergence.png", dpi=80)
    header = ["path and grid", "sampler", *(f"{s} steps" for s in STEPS), "order, 32 to 128"]
    text = (
        "# Convergence of the samplers\n\n`python benchmarks/sampler_convergence.py`: a mixture "
        f"of two normal distributions (means {MEANS}, deviation {DEVIATION}) on a line, root mean "
        "square error over 256 starting points against 4,096 steps of Heun's method, float64.\n\n"
        f"{table(header, rows)}\n\n![Error against evaluations](../docs/sampler_convergence.png)\n"
    )
    (HERE / "sampler_convergence.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
