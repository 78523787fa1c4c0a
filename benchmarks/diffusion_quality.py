"""Quality at equal wall-clock: `kg.models.Diffusion` beside diffusers' UNet2DModel.

    python benchmarks/diffusion_quality.py --data-dir <prepared TFDS sets> --python <peer's python>

Both train for the same minutes on the same images without labels, one after the other with nothing
beside, and sample as many images; the features are those of the small classifier trained on the
data. The time of the first step, in which graphs are compiled, is not counted. The peer's
environment: `pip install torch==2.13.0 diffusers==0.42.1`. Writes diffusion_quality.md,
docs/diffusion_<data>.png and, of distillation, docs/consistency_<data>.png; the models and the
peer's samples, to be looked at, into --run-dir. `--results` is a file of what was measured, which
is not measured again; the table's are diffusion_quality.json.
"""

import argparse
import contextlib
import json
import math
import subprocess
import tempfile
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from timing import table

import keras_gen as kg

HERE = Path(__file__).resolve().parent
METHODS = {
    "distillation": "`ConsistencyModel` with a teacher",
    "easy": "`ConsistencyModel` without a teacher",
    "mean_flow": "`MeanFlow`",
}


def train(model, source, minutes, batch_size, seed, optimizer=None):
    """Trains for so many minutes, the rate decaying by the clock.

    `optimizer` is a function that makes one; None: the model's own.

    Returns:
        dict of what is to be told of it.
    """
    model.compile(optimizer() if optimizer else None)
    learning_rate = float(model.optimizer.learning_rate)
    batches = source.batches(batch_size, seed=seed)

    class Clock(keras.callbacks.Callback):
        """Cosine decay over the budget, at whose end training ends."""

        begin, count = None, 0

        def on_train_batch_end(self, batch, logs=None):
            now = time.perf_counter()
            if self.begin is None:
                self.begin = now
                return
            self.count += 1
            progress = (now - self.begin) / (60 * minutes)
            rate = min(1, progress / 0.03) * 0.5 * (1 + math.cos(math.pi * min(1, progress)))
            self.model.optimizer.learning_rate = learning_rate * rate
            if progress >= 1:
                self.seconds = now - self.begin
                raise _Over

    clock = Clock()
    with contextlib.suppress(_Over):
        model.fit(batches, epochs=10_000, callbacks=[clock], verbose=0)
    return {
        "parameters": model.network.count_params(),
        "precision": "float32",
        "training_seconds": clock.seconds,
        "images": clock.count * batch_size,
    }


def draw(model, name, seed):
    """A grid of 100 images in docs/, with its provenance."""
    picture = kg.images.grid(model.generate(100, seed=seed), columns=10, scale=2)
    provenance = kg.images.Provenance(model.name, model.weights_hash(), seed)
    kg.images.write_png(HERE.parent / "docs" / name, picture, provenance)


def tuned(method, model, args):
    """A model of few steps that begins as `model`."""
    if method == "mean_flow":
        return kg.models.MeanFlow.tuned_from(model)
    if method == "easy":
        own = {"teacher": False, "stage_steps": args.stage_steps}
        return kg.models.ConsistencyModel.tuned_from(model, **own)
    return kg.models.ConsistencyModel.tuned_from(model)


class _Over(Exception):
    """The budget is used up."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["mnist", "fashion_mnist"])
    parser.add_argument("--data-dir")
    parser.add_argument("--python", help="of an environment with torch and diffusers")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--tune-minutes", type=float, default=5, help="to few steps; 0: not at all")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["distillation"])
    parser.add_argument("--stage-steps", type=int, default=160, help="of easy tuning")
    parser.add_argument("--run-dir", default="runs/diffusion_quality", help="for the models")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--batch-size", type=int, default=32, help="ours")
    parser.add_argument("--peer-batch-sizes", type=int, nargs="+", default=[128])
    parser.add_argument("--samplers", nargs="+", default=["heun:8", "heun:12", "dpmpp_2m:12"])
    parser.add_argument("--peer-steps", nargs="+", default=["25", "50"], help="of DDIM")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--results", help="JSON file of what is measured already")
    args = parser.parse_args()

    kept = Path(args.results) if args.results else None
    results = json.loads(kept.read_text()) if kept and kept.exists() else {}

    def keep():
        if kept:
            kept.write_text(json.dumps(results))

    for name in args.data:
        labelled = kg.data.load(name, data_dir=args.data_dir)
        pixels, _labels = labelled.take(len(labelled), seed=0)
        source = kg.data.load(pixels)
        extractor = kg.metrics.train_extractor(labelled)
        held_out = kg.data.load(name, "test", data_dir=args.data_dir).take(args.count, seed=0)[0]
        real = kg.metrics.FeatureStatistics.of(extractor(pixels).features)

        def distance(images, real=real, extractor=extractor):
            return kg.metrics.frechet_distance(real, extractor(images).features)

        rows = results.setdefault(name, {})
        rows["floor"] = distance(held_out)

        def measured(model, samplers, distance=distance):
            found = {}
            for sampler in samplers:
                kind, steps = sampler.split(":")
                model.generate(16, sampler=kind, steps=int(steps))  # compiled here
                begin = time.perf_counter()
                images = model.generate(args.count, sampler=kind, steps=int(steps), seed=args.seed)
                seconds = time.perf_counter() - begin
                found[sampler] = [distance(images), args.count / seconds]
                print(sampler, found[sampler], flush=True)
            return found

        budget = args.batch_size, args.seed
        saved = Path(args.run_dir) / f"{name}.keras"
        if "ours" not in rows:
            model = kg.models.Diffusion(source.image_shape, seed=args.seed)
            rows["ours"] = train(model, source, args.minutes, *budget)
            saved.parent.mkdir(parents=True, exist_ok=True)
            model.save(saved)
            draw(model, f"diffusion_{name}.png", args.seed)
            rows["ours"]["samples"] = measured(model, args.samplers)
            keep()
        for method in args.methods if args.tune_minutes else ():
            if method in rows.setdefault("tuned", {}):
                continue
            model = tuned(method, keras.saving.load_model(saved), args)
            rows["tuned"][method] = train(model, source, args.tune_minutes, *budget)
            model.save(saved.with_name(f"{name}_{method}.keras"))
            if method == "distillation":
                draw(model, f"consistency_{name}.png", args.seed)
            sampler = model.sampling["sampler"]
            found = measured(model, [f"{sampler}:{steps}" for steps in (1, 2, 4)])
            rows["tuned"][method]["samples"] = found
            keep()
        for size in args.peer_batch_sizes if args.python else ():
            if str(size) in rows.setdefault("theirs", {}):
                continue
            with tempfile.TemporaryDirectory() as folder:
                data = f"{folder}/data.npz"
                samples = saved.with_name(f"{name}_diffusers_{size}.npz")
                np.savez(data, images=pixels)
                command = [args.python, HERE / "diffusers_baseline.py", data, samples]
                command += ["--minutes", args.minutes, "--count", args.count]
                command += ["--batch-size", size, "--seed", args.seed]
                command += ["--steps", *args.peer_steps]
                subprocess.run(list(map(str, command)), check=True)
                made = np.load(samples)
                record = json.loads(str(made["record"]))
                record["samples"] = {
                    key.replace("_", ":"): [distance(made[key]), args.count / seconds]
                    for key, seconds in record.pop("sampling_seconds").items()
                }
                rows["theirs"][str(size)] = record
                keep()
    text = report(results, args)
    (HERE / "diffusion_quality.md").write_text(text)
    print(text)


def _flags(args):
    """What the report is of, as one would write it."""
    names = "minutes", "samplers", "methods", "peer_batch_sizes", "peer_steps"
    flags = []
    for name in names:
        value = getattr(args, name)
        value = " ".join(map(str, value)) if isinstance(value, list) else f"{value:g}"
        flags.append(f"--{name.replace('_', '-')} {value}")
    return " ".join(flags)


def report(results, args):
    lines = [
        "# Diffusion: quality at equal wall-clock",
        "",
        f"`python benchmarks/diffusion_quality.py {_flags(args)}`: training of the "
        f"same minutes on the same unlabelled images, ours in batches of {args.batch_size}, seed "
        f"{args.seed}; "
        f"Fréchet distance of n = {args.count:,} images to all training images on the features of "
        "the small classifier trained on the data; the floor is that of as many test images. The "
        "peer is diffusers 0.42.1's UNet2DModel. "
        f"TensorFlow {tf.__version__}, Keras {keras.__version__}, 2 processors.",
    ]
    for data, rows in results.items():
        lines += ["", f"## {data}", "", f"Floor: {rows['floor']:.4f}.", ""]
        theirs = rows.get("theirs", {})
        names = {
            "`kg.models.Diffusion`": rows.get("ours"),
            **{
                f"{METHODS[method]}, {args.tune_minutes:g} minutes more": row
                for method, row in rows.get("tuned", {}).items()
                if method in METHODS
            },
            **{f"diffusers, batches of {size}": row for size, row in theirs.items()},
        }
        best = min((v[0] for row in theirs.values() for v in row["samples"].values()), default=None)
        header = ["model", "parameters", "precision", "images trained", "images/s"]
        header += ["sampler", "Fréchet distance", "part of the peer's best", "samples/s"]
        body = []
        for name, row in names.items():
            if row:
                speed = row["images"] / row["training_seconds"]
                for sampler, (value, rate) in row["samples"].items():
                    part = f"1/{best / value:.1f}" if best and row not in theirs.values() else ""
                    body.append(
                        [name, f"{row['parameters']:,}", row["precision"], f"{row['images']:,}"]
                        + [f"{speed:.0f}", sampler, f"{value:.3f}", part, f"{rate:.1f}"]
                    )
        lines.append(table(header, body))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
