"""The peer of `diffusion_quality.py`: trains and samples diffusers' UNet2DModel. Not for itself.

    python benchmarks/diffusers_baseline.py data.npz samples.npz --minutes 10

PyTorch and diffusers are needed, TensorFlow and keras_gen are not. DDPM noise prediction, cosine
noise schedule, AdamW 5e-4 with a cosine decay over the budget, EMA, whichever of bfloat16 autocast
and float32 and of the memory formats is fastest, DDIM sampling.
"""

import argparse
import itertools
import json
import math
import time

import diffusers
import numpy as np
import torch
from diffusers.training_utils import EMAModel

WIDTHS = (32, 64, 96)


def network(image_shape, attention=True):
    down = ["DownBlock2D", "DownBlock2D", "AttnDownBlock2D" if attention else "DownBlock2D"]
    up = ["AttnUpBlock2D" if attention else "UpBlock2D", "UpBlock2D", "UpBlock2D"]
    height, width, channels = image_shape
    return diffusers.UNet2DModel(
        sample_size=(height, width),
        in_channels=channels,
        out_channels=channels,
        layers_per_block=2,
        block_out_channels=WIDTHS,
        down_block_types=down,
        up_block_types=up,
    )


def parameters(module):
    return sum(weight.numel() for weight in module.parameters())


class Trainer:
    """One training step after another."""

    def __init__(self, images, batch_size, bfloat16, seed=0, channels_last=False, compiled=False):
        torch.manual_seed(seed)
        self.images = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        self.batch_size, self.bfloat16 = batch_size, bfloat16
        self.network = network(images.shape[1:])
        if channels_last:
            self.network = self.network.to(memory_format=torch.channels_last)
        if compiled:
            self.network.compile()
        self.optimizer = torch.optim.AdamW(self.network.parameters(), 5e-4)
        self.average = EMAModel(self.network.parameters(), decay=0.999, use_ema_warmup=True)
        self.schedule = diffusers.DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2")

    def step(self, progress):
        rate = min(1, progress / 0.03) * 0.5 * (1 + math.cos(math.pi * min(1, progress)))
        for group in self.optimizer.param_groups:
            group["lr"] = 5e-4 * rate
        rows = torch.randint(len(self.images), (self.batch_size,))
        x = self.images[rows].float() / 127.5 - 1
        noise, t = torch.randn_like(x), torch.randint(1000, (self.batch_size,))
        noisy = self.schedule.add_noise(x, noise, t)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            output = self.network(noisy, t).sample
        loss = torch.nn.functional.mse_loss(output.float(), noise)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimizer.step()
        self.average.step(self.network.parameters())
        return float(loss)


def seconds_a_step(images, batch_size, bfloat16, steps=4, **kwargs):
    trainer = Trainer(images, batch_size, bfloat16, **kwargs)
    trainer.step(0.5)
    begin = time.perf_counter()
    for _ in range(steps):
        trainer.step(0.5)
    return (time.perf_counter() - begin) / steps


@torch.no_grad()
def sampled(trainer, count, steps, batch_size=100):
    """uint8 images, and the seconds that they take at the pace of the fastest batch."""
    ddim = diffusers.DDIMScheduler(
        1000, beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing"
    )
    ddim.set_timesteps(steps)
    made, seconds = [], []
    shape = (batch_size, *trainer.images.shape[1:])
    for _ in range(count // batch_size):
        begin = time.perf_counter()
        x = torch.randn(shape)
        for t in ddim.timesteps:
            with torch.autocast("cpu", torch.bfloat16, enabled=trainer.bfloat16):
                output = trainer.network(x, t).sample
            x = ddim.step(output.float(), t, x).prev_sample
        made.append(((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
        seconds.append(time.perf_counter() - begin)
    return np.concatenate(made), min(seconds) * len(seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help=".npz with uint8 `images`")
    parser.add_argument("samples", nargs="?", help=".npz to write")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--steps", type=int, nargs="+", default=[25, 50])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--speed", action="store_true", help="only time a step of every variant")
    parser.add_argument("--variant", help="the only one that `--speed` times")
    args = parser.parse_args()

    images = np.load(args.data)["images"]
    if args.speed:
        names = ("bfloat16", "channels_last", "compiled")
        variants = [dict(zip(names, flags)) for flags in itertools.product((False, True), repeat=3)]
        found = {}
        for variant in variants:
            label = ", ".join(name for name, on in variant.items() if on) or "eager float32"
            if args.variant not in (None, label):
                continue
            seconds = seconds_a_step(images, args.batch_size, **variant)
            found[label] = args.batch_size / seconds
        print(json.dumps({"parameters": parameters(network(images.shape[1:])), "speeds": found}))
        return
    speeds = {
        flags: seconds_a_step(images, args.batch_size, flags[0], channels_last=flags[1])
        for flags in itertools.product((False, True), repeat=2)
    }
    bfloat16, channels_last = min(speeds, key=speeds.get)
    print(f"seconds a step by (bfloat16, channels_last): {speeds}", flush=True)
    trainer = Trainer(images, args.batch_size, bfloat16, args.seed, channels_last)
    trainer.step(0.0)
    begin, budget, count = time.perf_counter(), 60 * args.minutes, 0
    while (elapsed := time.perf_counter() - begin) < budget:
        loss = trainer.step(elapsed / budget)
        count += 1
        if count % 100 == 0:
            print(f"step {count}, {elapsed:.0f} s, loss {loss:.4f}", flush=True)
    trainer.average.copy_to(trainer.network.parameters())
    trainer.network.eval()
    record = {
        "parameters": parameters(trainer.network),
        "precision": "bfloat16" if bfloat16 else "float32",
        "training_seconds": elapsed,
        "images": count * args.batch_size,
        "sampling_seconds": {},
    }
    arrays = {}
    for steps in args.steps:
        arrays[f"ddim_{steps}"], seconds = sampled(trainer, args.count, steps)
        record["sampling_seconds"][f"ddim_{steps}"] = seconds
    np.savez(args.samples, record=json.dumps(record), **arrays)


if __name__ == "__main__":
    main()
