"""What a diffusion model learns in a few minutes: optimizers, batches, networks, paths.

    python benchmarks/diffusion_settings.py --data-dir <prepared TFDS sets>

Every variant trains on unlabelled MNIST for the same seconds, its rate following half a cosine by
the clock, then draws images; the Fréchet distance is that to all training images on the features of
the small classifier trained on the data. TensorFlow has one thread, so that two variants may run
side by side on two cores (with `--results` of their own, to be merged). What was measured is kept
in `--results`, with its day, so that running the command again goes on. Writes
diffusion_settings.md. Only rows of one day can be compared: machines differ.
"""

import argparse
import datetime
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import keras
import magnitude_preserving
from diffusion_quality import train
from timing import table

import keras_gen as kg

HERE = Path(__file__).resolve().parent


def adam(rate):
    return lambda: kg.optimizers.Adam(rate, global_clipnorm=1.0)


def variant(batch_size, optimizer=None, model=None, make=kg.networks.unet.denoiser, **network):
    """A variant; `optimizer` is a function that makes one, None the model's own."""
    policy = network.pop("policy", "float32")
    if make is kg.networks.unet.denoiser:
        network = {"width": 64, "blocks": 1, **network}
    return batch_size, optimizer, model or {}, make, network, policy


ATTENDS = {"attention": (1,)}
VARIANTS = {
    "Adam 1e-3, batch 64, attention at 7×7": variant(64, adam(1e-3), **ATTENDS),
    "Adam 1e-3, batch 32, attention at 7×7": variant(32, adam(1e-3), **ATTENDS),
    "Adam 1.5e-3, batch 32, attention at 7×7, width 48": variant(
        32, adam(1.5e-3), **ATTENDS, width=48
    ),
    "Adam 1.5e-3, batch 32, no attention": variant(32, adam(1.5e-3), attention=()),
    "Adam 1.5e-3, batch 32, attention at 7×7, EDM": variant(
        32, adam(1.5e-3), {"path": "edm"}, **ATTENDS
    ),
    "Muon 5e-3, batch 32, no attention": variant(32, attention=()),
    "Muon, one block a level, width 64": variant(32),
    "Muon, leaky ReLU": variant(32, activation="leaky_relu"),
    "Muon, mixed_bfloat16": variant(32, policy="mixed_bfloat16"),
    "Muon, mixed_bfloat16, leaky ReLU": variant(
        32, activation="leaky_relu", policy="mixed_bfloat16"
    ),
    "Muon, no patches": variant(32, patch=1),
    "Muon, dense blocks": variant(32, block="dense"),
    "Muon, two blocks a level, width 48": variant(32, blocks=2, width=48),
    "Muon, three blocks a level, width 40": variant(32, blocks=3, width=40),
    "Muon, one level of width 96": variant(32, multipliers=(1,), width=96),
    "Muon, magnitude-preserving (EDM2)": variant(32, make=magnitude_preserving.denoiser),
    "Adam 1e-2, magnitude-preserving (EDM2)": variant(
        32, adam(1e-2), make=magnitude_preserving.denoiser
    ),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir")
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, help="variants; None: all")
    parser.add_argument("--results", type=Path, default=HERE / "diffusion_settings.json")
    parser.add_argument("--merge", nargs="*", type=Path, default=[], help="other results")
    args = parser.parse_args()
    found = {}
    for path in (args.results, *args.merge):
        found |= json.loads(path.read_text()) if path.exists() else {}

    def key(name):
        return f"{name}, {args.seconds:g} s"

    if {key(name) for name in args.only or VARIANTS} - set(found):
        labelled = kg.data.load("mnist", data_dir=args.data_dir)
        pixels, _labels = labelled.take(len(labelled), seed=0)
        source, extractor = kg.data.load(pixels), kg.metrics.train_extractor(labelled)
        real = kg.metrics.FeatureStatistics.of(extractor(pixels).features)
    for name in [name for name in args.only or VARIANTS if key(name) not in found]:
        batch_size, optimizer, settings, make, arguments, policy = VARIANTS[name]
        keras.config.set_dtype_policy(policy)
        network = make(source.image_shape, **arguments, seed=args.seed)
        model = kg.models.Diffusion(source.image_shape, network=network, seed=args.seed, **settings)
        row = train(model, source, args.seconds / 60, batch_size, args.seed, optimizer)
        drawing = {"sampler": "dpmpp_2m", "steps": 8}
        model.generate(16, **drawing)  # compiled here
        begin = time.perf_counter()
        made = model.generate(args.count, seed=1, **drawing)
        row["drawn_a_second"] = args.count / (time.perf_counter() - begin)
        row["distance"] = kg.metrics.frechet_distance(real, extractor(made).features)
        row |= {"variant": name, "seconds": args.seconds, "count": args.count}
        row["day"] = datetime.date.today().isoformat()
        found[key(name)] = row
        args.results.parent.mkdir(parents=True, exist_ok=True)
        args.results.write_text(json.dumps(found, indent=1))
    text = report(found, args)
    (HERE / "diffusion_settings.md").write_text(text)
    print(text)


def report(found, args):
    body = [
        [
            row["variant"],
            f"{row['parameters']:,}",
            f"{row['images'] / row['training_seconds']:.0f}",
            f"{row['images'] / VARIANTS[row['variant']][0]:,.0f}",
            f"{row['drawn_a_second']:.0f}",
            f"{row['distance']:.2f}",
            f"{row['count']:,}",
            f"{row['seconds']:g}",
            row["day"],
        ]
        for row in found.values()
    ]
    body.sort(key=lambda cells: (cells[-1], float(cells[-2]), -float(cells[-4])))
    header = ["variant", "parameters", "images/s", "steps", "drawn/s", "Fréchet distance"]
    header += ["n", "seconds", "day"]
    return (
        "# Diffusion: what is learned in a few minutes\n\n"
        "`python benchmarks/diffusion_settings.py`: some seconds of training of each on one core, "
        f"MNIST without labels, seed {args.seed}, one run; n drawn in 8 steps of DPM-Solver++(2M). "
        "Separable blocks, one a level, rectified flow, width 64, patches of 2 pixels, SiLU and, "
        "in the rows from Muon on, no attention, where nothing else is said. The default is two "
        "blocks a level, width 48. Rows of other days or seconds are not to be compared: the "
        "machine of 2026-11-25 was a third as fast."
        f"\n\n{table(header, body)}\n"
    )


if __name__ == "__main__":
    main()
