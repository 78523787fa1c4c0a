"""Peak resident memory and speed of one epoch, against the number of images.

Each row is a process of its own. Folders and TFDS sets are made of 32x32 RGB PNG noise in a
temporary folder, and streamed (`memory_limit=0`). The table goes to `data_memory.md`, beside.

    python benchmarks/data_memory.py --data-dir <folder of prepared TFDS sets, with mnist>
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BATCH_SIZE = 128
COUNTS = (2_000, 20_000, 200_000)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", help="folder of prepared TFDS sets, for the rows on mnist")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for count in arguments.counts:
            for make in (make_folder, make_tfds):
                name, options = make(Path(folder), count)
                options["memory_limit"] = 0
                rows.append(measure(name, options))
            one_arena = {"MALLOC_ARENA_MAX": "1"}
            rows.append(measure(f"{name}, MALLOC_ARENA_MAX=1", options, one_arena))
    if arguments.data_dir:
        mnist = {"source": "mnist", "data_dir": arguments.data_dir}
        rows.append(measure("mnist, in memory", mnist))
        rows.append(measure("mnist, streamed", {**mnist, "memory_limit": 0}))
    table = markdown(rows)
    print(table)
    Path(__file__).with_suffix(".md").write_text(table)


def measure(name, options, environment=None):
    """Runs one row in a new process."""
    code = f"import data_memory; data_memory.child({json.dumps(json.dumps(options))})"
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **(environment or {})}
    folder = Path(__file__).resolve().parent
    environment["PYTHONPATH"] = os.pathsep.join([str(folder), str(folder.parent)])
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    row = {"name": name, **json.loads(result.stdout.splitlines()[-1])}
    print(row, file=sys.stderr)
    return row


def child(options):
    """Loads a source, goes through one epoch and prints what they took."""
    import tensorflow_datasets  # noqa: F401  (in every row, so that the memory compares)

    from keras_gen import data

    row = {"start_mb": peak_megabytes()}
    begin = time.perf_counter()
    source = data.load(**json.loads(options))
    row["load_s"] = time.perf_counter() - begin
    row["load_mb"] = peak_megabytes()
    batches = source.batches(BATCH_SIZE)
    begin = time.perf_counter()
    row["n"] = sum(int(images.shape[0]) for images, _ in batches)
    row["epoch_s"] = time.perf_counter() - begin
    row["epoch_mb"] = peak_megabytes()
    print(json.dumps(row))


def peak_megabytes():
    """The most memory this process has had resident (Linux)."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def noise_files(count=256):
    """The bytes of some PNG files."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    for _ in range(count):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(file, "PNG")
        yield file.getvalue()


def make_folder(root, count):
    files = list(noise_files())
    folder = root / f"folder_{count}"
    for label in range(10):
        (folder / str(label)).mkdir(parents=True)
    for index in range(count):
        path = folder / str(index % 10) / f"{index:06}.png"
        path.write_bytes(files[index % len(files)])
    return f"folder, {count:,} images", {"source": str(folder)}


def make_tfds(root, count):
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    files = list(noise_files())
    with registered.skip_registration():

        class NoiseSet(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")
            pkg_dir_path = None

            def _info(self):
                features = {
                    "image": tfds.features.Image(shape=(32, 32, 3)),
                    "label": tfds.features.ClassLabel(num_classes=10),
                }
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(features),
                    disable_shuffling=True,
                )

            def _split_generators(self, dl_manager):
                return {"train": self._generate_examples()}

            def _generate_examples(self):
                for index in range(count):
                    image = io.BytesIO(files[index % len(files)])
                    yield index, {"image": image, "label": index % 10}

    tfds.disable_progress_bar()
    NoiseSet.name = "noise_set"
    folder = root / f"tfds_{count}"
    NoiseSet(data_dir=str(folder)).download_and_prepare()
    return f"TFDS, {count:,} images", {"source": "noise_set", "data_dir": str(folder)}


def markdown(rows):
    lines = [
        "# Memory and speed of the data sources",
        "",
        "`python benchmarks/data_memory.py --data-dir <prepared TFDS sets>`; every row is a process"
        f" of its own, {os.cpu_count()} processors, batches of {BATCH_SIZE}.",
        "Folders and TFDS sets hold 32x32 RGB PNG noise and are streamed (`memory_limit=0`).",
        "Memory is the peak resident set (VmHWM) once imports are done, after `load`, and after"
        " one shuffled epoch.",
        "Loading a folder decodes every file once, to find broken ones. A streamed TFDS set fills"
        " a shuffle buffer of 10,000 encoded images (30 MB here), which 2,000 images do not fill;"
        " what it grows beyond that, glibc's many arenas do not give back, as the rows with"
        " `MALLOC_ARENA_MAX=1` show.",
        "",
        "| source | imports MB | load s | load MB | epoch s | images/s | epoch MB |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    for row in rows:
        lines.append(
            f"| {row['name']} | {row['start_mb']:.0f} | {row['load_s']:.1f} | "
            f"{row['load_mb']:.0f} | {row['epoch_s']:.1f} | {row['n'] / row['epoch_s']:,.0f} | "
            f"{row['epoch_mb']:.0f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
