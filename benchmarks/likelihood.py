"""Likelihoods of the VAE and of PixelCNNs on test images, each trained by a script's command.

    python benchmarks/likelihood.py --data-dir <prepared TFDS sets>

Runs each of COMMANDS in training/ (where it was interrupted, again with the same `--work-dir`: it
goes on) and reads what it wrote: likelihood.json and the curve of metrics.json. `--results` is a
file of what was measured, which is not measured again; two runs with `--only` may share the
processors, each with a file of its own, which `--merge` joins. Writes likelihood.md, and
docs/likelihood.png of the curves.
"""

import argparse
import datetime
import json
import math
import shlex
import subprocess
import sys
import time
from pathlib import Path

import matplotlib
import tensorflow as tf
from timing import table

HERE = Path(__file__).resolve().parent
VAE = (
    "vae.py --data mnist --binarization stochastic --network convolutional --latent-dim 40 "
    "--learning-rate 2e-3 --epochs 16 --test-images 1000 --samples 5000"
)
PIXELCNN = "pixelcnn.py --width 32 --blocks 4 --learning-rate 2e-3 --data mnist --levels 2 "
MIXTURE = "--network plus_plus --likelihood logistic_mixture --width 32 --learning-rate 2e-3 "
COMMANDS = {
    "VAE, MNIST, stochastic binarization": VAE,
    "VAE of two stochastic layers, MNIST, stochastic binarization": VAE + " --hierarchy 24",
    "PixelCNN, MNIST, binarized at 0.33": PIXELCNN
    + "--dilations 1 2 --binarization 0.33 --epochs 8",
    "PixelCNN, MNIST, stochastic binarization": PIXELCNN
    + "--dilations 1 2 --binarization stochastic --epochs 8",
    "PixelCNN that sees 18 rows, MNIST, stochastic binarization": PIXELCNN
    + "--dilations 1 2 4 8 --binarization stochastic --epochs 24",
    "PixelCNN++, MNIST, 256 levels": "pixelcnn.py " + MIXTURE + "--data mnist --epochs 3",
    "PixelCNN++, cifar10 (JPEG copy)": "pixelcnn.py " + MIXTURE + "--data cifar10 --epochs 2",
}


def measured(name, args):
    """Trains by a command, and what it found: dict."""
    script, *flags = shlex.split(COMMANDS[name])
    run = Path(args.work_dir, "".join(c if c.isalnum() else "_" for c in name))
    command = [script, *flags, "--unconditional", "--precision", args.precision]
    command += ["--test-split", "test"]
    own = ["--run-dir", run, *(["--data-dir", args.data_dir] if args.data_dir else [])]
    begin = time.perf_counter()
    whole = [sys.executable, HERE.parent / "training" / command[0], *command[1:], *own]
    subprocess.run(list(map(str, whole)), check=True)
    seconds = time.perf_counter() - begin
    curves = json.loads((run / "metrics.json").read_text())
    return {
        "command": " ".join(command),
        "parameters": _parameters(run),
        "seconds": seconds,
        "found": json.loads((run / "likelihood.json").read_text()),
        "curve": _nats(curves),
        "day": datetime.date.today().isoformat(),
    }


def _nats(curves):
    """Nats an image of each epoch of training; the loss of a VAE is of a pixel."""
    if "kl" in curves:
        return [sum(terms) for terms in zip(curves["reconstruction"], curves["kl"])]
    return curves["loss"]


def _parameters(run):
    import keras

    import keras_gen  # noqa: F401 registers the models

    model = keras.saving.load_model(run / "model.keras", compile=False)
    return sum(math.prod(weight.shape) for weight in model.trainable_variables)


def report(results):
    rows = [
        [
            name,
            f"{row['parameters']:,}",
            len(row["curve"]),
            f"{row['seconds'] / 60:.0f}",
            f"{row['found']['nats']:.2f} ± {row['found']['standard_error']:.2f}",
            f"{row['found']['bits_per_dimension']:.4f}",
            f"{row['found']['n']:,}",
            f"{row['found']['estimator']}; {row['found']['data']}",
        ]
        for name, row in results.items()
    ]
    header = ["model", "parameters", "epochs", "minutes", "-log p, nats", "bits/dim", "n", "what"]
    commands = "\n".join(f"- `python training/{row['command']}`" for row in results.values())
    return f"""# Likelihoods of test images

`python benchmarks/likelihood.py`: no labels, seed 0, one training each; the minutes are those of
the last run of the command, the test and pauses for other work included, on one processor of two
(`taskset`). TensorFlow {tf.__version__}. Curves of training:
[docs/likelihood.png](../docs/likelihood.png).

{table(header, rows)}

Published: a VAE's importance-weighted bound 86 to 90 nats on binarized MNIST; PixelCNN 81.3 nats on
stochastically binarized MNIST, Keras's example 65.1 nats binarized at 0.33 with 532,673 parameters.
The images of cifar10 are a JPEG copy: not comparable with published figures.

{commands}
"""


def draw(results, path):
    """The curves, an axis each."""
    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(results), figsize=(3 * len(results), 2.6), squeeze=False)
    for axis, (name, row) in zip(axes[0], results.items()):
        epochs = range(1, 1 + len(row["curve"]))
        axis.plot(epochs, row["curve"], marker=".", label="train")
        axis.axhline(row["found"]["nats"], color="grey", linestyle=":", label="test, averaged")
        axis.set_title(name.replace(", ", "\n", 1), fontsize=8)
        axis.set_xlabel("epoch", fontsize=8)
        axis.tick_params(labelsize=7)
    axes[0][0].set_ylabel("nats an image", fontsize=8)
    axes[0][0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir")
    parser.add_argument("--only", nargs="+", choices=COMMANDS, help="None: all")
    parser.add_argument("--precision", default="mixed_bfloat16")
    parser.add_argument("--work-dir", default="runs/likelihood")
    parser.add_argument("--results", type=Path, default=HERE / "likelihood.json")
    parser.add_argument("--merge", nargs="*", type=Path, default=[], help="other results")
    args = parser.parse_args()
    results = {}
    for path in (args.results, *args.merge):
        results |= json.loads(path.read_text()) if path.exists() else {}
    for name in args.only or COMMANDS:
        if name not in results:
            results[name] = measured(name, args)
            args.results.write_text(json.dumps(results, indent=1))
    results = {name: results[name] for name in COMMANDS if name in results}
    args.results.write_text(json.dumps(results, indent=1))
    text = report(results)
    (HERE / "likelihood.md").write_text(text)
    draw(results, HERE.parent / "docs" / "likelihood.png")
    print(text)


if __name__ == "__main__":
    main()
