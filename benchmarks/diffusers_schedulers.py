"""The peer of `schedulers_agreement.py`: runs diffusers' schedulers. Not for itself.

    python benchmarks/diffusers_schedulers.py given.npz results.npz

PyTorch and diffusers are needed, TensorFlow and keras_gen are not. `given.npz` holds the matrices
of the made-up network, x at the first time and the noise of every step.
"""

import argparse
from unittest import mock

import diffusers
import numpy as np
import torch
from diffusers.schedulers import scheduling_ddpm

DISCRETE = {"num_train_timesteps": 1000}
LINEAR, COSINE = {"beta_schedule": "linear"}, {"beta_schedule": "squaredcos_cap_v2"}
EXACT = {"clip_sample": False}
SOLVER = {"timestep_spacing": "linspace", "final_sigmas_type": "zero", "lower_order_final": False}
# name -> (scheduler, its settings, steps, arguments of each step)
RUNS = {
    "ddpm, 1000 steps": ("DDPMScheduler", LINEAR | EXACT, 1000, {}),
    "ddpm, 50 steps": ("DDPMScheduler", COSINE | EXACT, 50, {}),
    "ddpm, larger variance": (
        "DDPMScheduler",
        LINEAR | EXACT | {"variance_type": "fixed_large"},
        100,
        {},
    ),
    "ddim, eta 0": ("DDIMScheduler", LINEAR | EXACT, 25, {}),
    "ddim, eta 0.5": ("DDIMScheduler", COSINE | EXACT, 50, {"eta": 0.5}),
    "ddim, eta 1": ("DDIMScheduler", LINEAR | EXACT, 50, {"eta": 1.0}),
    "dpmpp_2m, linear": ("DPMSolverMultistepScheduler", LINEAR | SOLVER, 20, {}),
    "dpmpp_2m, cosine": ("DPMSolverMultistepScheduler", COSINE | SOLVER, 20, {}),
    "euler, edm": ("EulerDiscreteScheduler", LINEAR | {"use_karras_sigmas": True}, 20, {}),
    "heun, edm": ("HeunDiscreteScheduler", LINEAR | {"use_karras_sigmas": True}, 20, {}),
    "euler, rectified flow": ("FlowMatchEulerDiscreteScheduler", {}, 20, {}),
    "heun, rectified flow": ("FlowMatchHeunDiscreteScheduler", {}, 20, {}),
}


def run(name, given):
    """(levels of noise that were visited, in the scheduler's own units, and x at the end)."""
    kind, settings, steps, arguments = RUNS[name]
    scheduler = getattr(diffusers, kind)(**DISCRETE, **settings)
    scheduler.set_timesteps(steps)
    v, w, noise = (torch.from_numpy(given[key]) for key in ("v", "w", "noise"))
    x = torch.from_numpy(given["x"])
    levels = scheduler.timesteps.numpy().astype(np.float64)
    if hasattr(scheduler, "sigmas") and "DPM" not in kind:
        levels = scheduler.sigmas.numpy().astype(np.float64)
    if "edm" in name:
        x = x * float(levels[0])
    drawn = iter(noise)
    with mock.patch.object(scheduling_ddpm, "randn_tensor", lambda *args, **kwargs: next(drawn)):
        for i, t in enumerate(scheduler.timesteps):
            level = float(levels[i])
            at = level if "flow" in name else level / 1000 if "edm" not in name else 1 / (1 + level)
            if hasattr(scheduler, "scale_model_input"):
                scheduler.scale_model_input(x, t)  # it wants to be called; the network takes x
            output = torch.tanh(x @ v + at) @ w
            extra = {"variance_noise": next(drawn)} if arguments else {}
            x = scheduler.step(output, t, x, **arguments, **extra).prev_sample
    return levels, x.numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("given")
    parser.add_argument("results")
    parser.add_argument("--float64", action="store_true", help="coefficients in float64")
    args = parser.parse_args()
    if args.float64:
        torch.float32, np.float32 = torch.float64, np.float64  # they name their tables' type
    given = np.load(args.given)
    results = {}
    for name in RUNS:
        results[f"{name}/levels"], results[f"{name}/x"] = run(name, given)
    np.savez(args.results, **results)


if __name__ == "__main__":
    main()
