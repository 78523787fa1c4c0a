"""Training throughput of GAN, VAE and PixelCNN beside the same networks in PyTorch.

    python benchmarks/pytorch_throughput.py --python <an environment with torch>

The default models for 28×28×1 images without classes, on random images; every repeat is a process
of its own, ours and theirs in turn. Theirs is the best of eager and compiled, float32 and bfloat16
autocast, both memory formats; a variant that raises, or whose loss is not finite, does not count.
Nothing else may run: PyTorch's threads wait for one another without sleep, and beside other work a
step takes several times as long. All of PyTorch's variants run in one process, float32 first, which
suits them: glibc then keeps large blocks of memory, where a fresh process gives them back after
every step. Writes pytorch_throughput.md, with the load at the start.
"""

import argparse
import itertools
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

from timing import median, table

HERE = Path(__file__).resolve().parent
SHAPE = (28, 28, 1)
WARM_UP = 3  # steps
OPTIONS = ("bfloat16", "channels_last", "compiled")
VARIANTS = {
    ", ".join(name for name, on in zip(OPTIONS, flags) if on) or "eager float32": flags
    for flags in itertools.product((False, True), repeat=len(OPTIONS))
}
POLICIES = ("float32", "mixed_bfloat16")
MODELS = {  # our class, its arguments, its networks
    "gan": ("GAN", {}, ("generator", "discriminator")),
    "vae": ("VAE", {}, ("encoder", "decoder")),
    "pixelcnn": ("PixelCNN", {"levels": 2, "binarization": 0.33}, ("network",)),
}


def speed(step, batch_size, steps):
    """images/s of a function that makes a training step and returns its loss.

    Raises:
        FloatingPointError: when the last loss is not finite.
    """
    for _ in range(WARM_UP):
        step()
    begin = time.perf_counter()
    for _ in range(steps):
        loss = step()
    seconds = time.perf_counter() - begin
    if not math.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss}")
    return steps * batch_size / seconds


def ours(name, policy, batch_size, steps):
    """The speed of a model of the project, and the parameters of each of its networks."""
    import keras
    import tensorflow as tf

    import keras_gen as kg

    keras.config.set_dtype_policy(policy)
    kind, arguments, networks = MODELS[name]
    model = getattr(kg.models, kind)(SHAPE, **arguments)
    model.compile()
    images = tf.random.uniform([batch_size, *SHAPE], -1, 1)
    step = tf.function(model.train_step, autograph=False)
    found = speed(lambda: float(step(images)["loss"]), batch_size, steps)
    counts = [getattr(model, network).count_params() for network in networks]
    return {"speeds": {policy: found}, "parameters": counts}


def theirs(name, variants, batch_size, steps):
    """The speed of each variant, None where it fails, and the parameters of each network."""
    speeds, counts = {}, []
    for label in variants:
        try:
            speeds[label], counts = _of_variant(name, label, batch_size, steps)
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            print(f"{name}, {label}: {type(error).__name__}: {lines[0]}", file=sys.stderr)
            speeds[label] = None
    return {"speeds": speeds, "parameters": counts}


def _of_variant(name, label, batch_size, steps):
    import pytorch_networks
    import torch

    torch.manual_seed(0)
    torch.compiler.reset()
    variant = pytorch_networks.Variant(*VARIANTS[label])
    networks, step = getattr(pytorch_networks, name)(variant)
    height, width, channels = SHAPE
    images = variant.laid_out(2 * torch.rand(batch_size, channels, height, width) - 1)
    found = speed(lambda: step(images), batch_size, steps)
    return found, [pytorch_networks.parameters(network) for network in networks]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", help="of the environment with torch")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument(
        "--steps", type=int, default=30, help=f"timed, after {WARM_UP} that are not"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="of PyTorch"
    )
    parser.add_argument(
        "--variants-once",
        action="store_true",
        help="measure once what takes more than twice as long as the best",
    )
    parser.add_argument("--output", default=Path(__file__).with_suffix(".md"))
    parser.add_argument("--child", choices=("ours", "theirs"), help=argparse.SUPPRESS)
    parser.add_argument("--policy", choices=POLICIES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        function, which = (ours, args.policy) if args.child == "ours" else (theirs, args.variants)
        print(json.dumps(function(args.models[0], which, args.batch_size, args.steps)))
        return
    if not args.python:
        parser.error("--python is needed")
    load = os.getloadavg()[0]
    text = report(args, load, {name: measured(name, args) for name in args.models})
    Path(args.output).write_text(text)
    print(text)


def measured(name, args):
    """All repeats of a model.

    Returns:
        dict of "ours" and "theirs", (speeds, parameters) each: a dict from the variant to images/s
        of its repeats, None where it failed, and a list of the parameters of the networks.
    """
    speeds = {"ours": {}, "theirs": {}}
    parameters, variants = {}, list(args.variants)
    for _ in range(args.repeats):
        children = [
            ("ours", sys.executable, ["--policy", POLICIES[0]]),
            ("theirs", args.python, ["--variants", *variants]),
            ("ours", sys.executable, ["--policy", POLICIES[1]]),
        ]
        for side, python, chosen in children:
            found = _answer(python, side, name, chosen, args)
            for label, value in found["speeds"].items():
                speeds[side].setdefault(label, []).append(value)
            parameters[side] = found["parameters"]
        variants = _worth_repeating(speeds["theirs"], variants, args.variants_once)
    return {side: (speeds[side], parameters[side]) for side in speeds}


def _answer(python, side, name, chosen, args):
    """What a child found, in a process of its own."""
    command = [python, __file__, "--child", side, "--models", name, *chosen]
    command += ["--batch-size", str(args.batch_size), "--steps", str(args.steps)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(output.splitlines()[-1])


def _worth_repeating(speeds, variants, drops_slow):
    """Variants that did not fail, and if asked are not far behind."""
    variants = [label for label in variants if None not in speeds[label]]
    if not variants:
        raise SystemExit("All variants of PyTorch fail; see above.")
    if not drops_slow:
        return variants
    best = max(median(speeds[label]) for label in variants)
    return [label for label in variants if median(speeds[label]) > best / 2]


def report(args, load, found):
    """The Markdown text of the results of `measured`, a dict by model."""
    command = (
        f"python benchmarks/pytorch_throughput.py --models {' '.join(args.models)} "
        f"--batch-size {args.batch_size} --steps {args.steps} --repeats {args.repeats}"
    )
    command += " --variants-once" if args.variants_once else ""
    text = (
        f"# Training throughput beside PyTorch\n\n`{command}`: 28×28×1, float32 unless told "
        f"otherwise, n = {args.steps * args.batch_size} images a repeat, median of {args.repeats} "
        "repeats, each in a process of its own; the ratio is to the best of PyTorch's variants. "
        f"Load average at the start {load:.2f}, of {os.cpu_count()} cores.\n"
    )
    return text + "".join(_section(name, **sides) for name, sides in found.items())


def _section(name, ours, theirs):
    peer = max(median(v) for v in theirs[0].values() if None not in v)
    rows = []
    for owner, (speeds, parameters) in (("PyTorch", theirs), ("ours", ours)):
        counts = " + ".join(f"{count:,}" for count in parameters)
        rows += [[f"{owner}, {k}", counts, *_cells(v, peer)] for k, v in speeds.items()]
    same = "are the same" if ours[1] == theirs[1] else "DIFFER"
    header = ["variant", "parameters", "images/s", "ratio to their best", "all repeats"]
    kind, _, networks = MODELS[name]
    return (
        f"\n## `{kind}`\n\nThe parameters ({', '.join(networks)}) {same}.\n\n"
        f"{table(header, rows)}\n"
    )


def _cells(values, peer):
    if None in values:
        return ["fails", "", ""]
    middle = median(values)
    return [f"{middle:.0f}", f"{middle / peer:.2f}", ", ".join(f"{v:.0f}" for v in values)]


if __name__ == "__main__":
    main()
