"""How well the memorization audit finds copies, against its false alarms.

Copies of training images, each kind with four amounts of noise, and fresh real images are examined
by one detector. The share of each called suspicious is the detection rate and the false-alarm rate;
the verdict is that on 1,000 images of which 100 are such copies, over 200 random draws. The tables
go to `memorization.md`, beside, and the 16 closest pairs of one such draw to `docs/`.

    python benchmarks/memorization.py --data-dir <folder with tfds/ and images/fruits>
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import keras_gen as kg
from keras_gen.metrics.extractors import train_extractor
from keras_gen.metrics.memorization import SIGNIFICANCE, CopyDetector, audit, excess_p_value

ROOT = Path(__file__).resolve().parents[1]
SEED = 0
RATE = 0.01
NOISES = (0, 8, 16, 32, 64)
KINDS = {
    "as it is": {},
    "flipped": {"flip": True},
    "shifted by (2, -1)": {"shift": (2, -1)},
    "flipped and shifted": {"flip": True, "shift": (-1, 2)},
}
NUM_COPIES = 400
MIX, MIXED_COPIES, DRAWS = 1000, 100, 200


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="with tfds/ and images/")
    data_dir = parser.parse_args().data_dir
    parts = [HEADER, mnist(data_dir), fruits(data_dir)]
    text = "\n".join(parts)
    print(text)
    Path(__file__).with_suffix(".md").write_text(text)


HEADER = f"""# Detection of copies against false alarms

`python benchmarks/memorization.py --data-dir <folder with tfds/ and images/fruits>`; seed {SEED},
2 processors.

A cell is the share of {NUM_COPIES} copies of training images that the audit calls suspicious, by
the standard deviation of the noise added (grey levels of 0..255). Behind the stroke: how many of
{DRAWS} random sets of {MIX:,} images with {MIXED_COPIES} such copies, the rest fresh, get the
verdict "copies" (p < {SIGNIFICANCE:g}). The false-alarm rate asked for is {RATE:.0%}.
"""


def mnist(data_dir):
    train, labels = kg.data.load("mnist", data_dir=data_dir / "tfds").take(20_000, seed=SEED)
    test_source = kg.data.load("mnist", "test", data_dir=data_dir / "tfds")
    test, test_labels = test_source.take(10_000, seed=SEED)
    extractor = train_extractor((train, labels), held_out=(test, test_labels), seed=SEED)
    sets = {
        "fresh: test images": test[2000:6000],
        "fresh, only the digit 1": test[2000:][test_labels[2000:] == 1],
        "fresh, smoothed": smoothed(test[2000:4000]),
        "fresh, noise 32": copied(test[2000:4000], noise=32),
        "generated: a Gaussian of 40 principal components a class": gaussian(train, labels, 2000),
    }
    text = section("MNIST", train, test[:2000], sets, [None, extractor])
    copies = copied(train[:MIXED_COPIES], noise=16, flip=True, shift=(2, -1))
    fake = np.concatenate([test[2000 : 2000 + MIX - MIXED_COPIES], copies])
    picture = ROOT / "docs" / "memorization_pairs.png"
    result = audit(fake, train, test[:2000])
    provenance = kg.images.Provenance("planted copier of benchmarks/memorization.py", "none", SEED)
    result.write_pairs_png(picture, provenance=provenance)
    print(json.dumps(result.to_dict(), indent=1))
    return text


def fruits(data_dir):
    folder = data_dir / "images" / "fruits"
    source = kg.data.load(folder)
    pixels, labels = source.take(len(source), seed=SEED)
    other, _ = kg.data.load(folder, "test").take(600)
    train, fresh = pixels[:2400], pixels[2400:]
    extractor = train_extractor((train, labels[:2400]), (fresh, labels[2400:]), seed=SEED)
    sets = {
        "fresh: other views of the same fruits": fresh,
        "fresh: other varieties (the test split)": other,
        "fresh views, smoothed": smoothed(fresh),
        "fresh views, noise 32": copied(fresh, noise=32),
    }
    return section("Fruits, 64x64", train, None, sets, [None, extractor])


def section(title, train, held_out, sets, extractors):
    """The tables of one data set: detection and false alarms, with pixels and with features too."""
    lines = [f"\n## {title}\n"]
    generator = np.random.default_rng(SEED)
    originals = train[generator.choice(len(train), NUM_COPIES, replace=False)]
    for extractor in extractors:
        started = time.perf_counter()
        detector = CopyDetector(train, held_out, extractor, false_alarm_rate=RATE, seed=SEED)
        spaces = "pixels" if extractor is None else f"pixels and features of {extractor.name}"
        lines.append(
            f"By {spaces}{accuracy(extractor)}; n_train {len(train):,}, calibrated on "
            f"{detector.num_held_out:,} {detector.calibration}.\n"
        )
        fresh = {name: detector.examine(images).flagged for name, images in sets.items()}
        baseline = next(iter(fresh.values()))
        lines.append("| copies | " + " | ".join(f"noise {noise}" for noise in NOISES) + " |")
        lines.append("| --- |" + " --: |" * len(NOISES))
        count = sum(map(len, sets.values()))
        for kind, options in KINDS.items():
            cells = []
            for noise in NOISES:
                copies = copied(originals, noise=noise, **options)
                flagged = detector.examine(copies).flagged
                count += len(copies)
                cells.append(f"{flagged.mean():.1%} / {verdicts(flagged, baseline, detector)}")
            lines.append(f"| {kind} | " + " | ".join(cells) + " |")
        lines += ["", "| no copies | n | false alarms | verdict p |", "| --- | --: | --: | --: |"]
        for name, flagged in fresh.items():
            p_value = excess_p_value(flagged.sum(), len(flagged), detector.num_held_out, RATE)
            lines.append(f"| {name} | {len(flagged):,} | {flagged.mean():.2%} | {p_value:.2g} |")
        alarms = verdicts(None, baseline, detector)
        size = min(MIX, len(baseline))
        lines.append(
            f"\nOf {DRAWS} random sets of {size:,} fresh images {alarms} get the verdict "
            f'"copies". {count:,} images took {time.perf_counter() - started:.0f} s, calibration '
            "included.\n"
        )
    return "\n".join(lines)


def accuracy(extractor):
    if extractor is None:
        return ""
    return (
        f" (accuracy {extractor.accuracy:.2%} on {extractor.num_held_out:,} images, trained in "
        f"{extractor.seconds:.0f} s on {extractor.num_train:,})"
    )


def verdicts(flagged_copies, flagged_fresh, detector):
    """How many of `DRAWS` mixtures get the verdict "copies"."""
    generator = np.random.default_rng(SEED)
    copies = MIXED_COPIES if flagged_copies is not None else 0
    size = MIX if copies else min(MIX, len(flagged_fresh))
    found = 0
    for _ in range(DRAWS):
        flagged = generator.choice(flagged_fresh, size - copies, replace=size > len(flagged_fresh))
        count = flagged.sum()
        if copies:
            count += generator.choice(flagged_copies, copies, replace=False).sum()
        p_value = excess_p_value(count, size, detector.num_held_out, RATE)
        found += p_value < SIGNIFICANCE
    return found


def copied(images, noise=0, flip=False, shift=(0, 0)):
    """Moved by `shift` (down, right; edges are repeated), then flipped, then Gaussian noise."""
    reach = max(map(abs, shift))
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="edge")
    top, left = reach - shift[0], reach - shift[1]
    moved = padded[:, top : top + height, left : left + width]
    moved = moved[:, :, ::-1] if flip else moved
    added = np.random.default_rng(SEED + noise).normal(0, noise, images.shape)
    return np.clip(np.rint(moved + added), 0, 255).astype(np.uint8)


def smoothed(images):
    """Means over 3x3 pixels: what a blurry generator would make of fresh images."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge").astype(float)
    height, width = images.shape[1:3]
    total = sum(padded[:, y : y + height, x : x + width] for y in range(3) for x in range(3))
    return np.rint(total / 9).astype(np.uint8)


def gaussian(images, labels, count, components=40):
    """An honest generator: each class a Gaussian in its own principal components."""
    generator = np.random.default_rng(SEED)
    parts = []
    for label in np.unique(labels):
        pixels = images[labels == label].reshape(-1, images[0].size).astype(float)
        mean = pixels.mean(0)
        _, values, vectors = np.linalg.svd(pixels - mean, full_matrices=False)
        scales = values[:components] / np.sqrt(len(pixels) - 1)
        draws = generator.normal(size=(count // 10, components)) * scales
        parts.append(mean + draws @ vectors[:components])
    pixels = np.concatenate(parts).reshape(-1, *images.shape[1:])
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
