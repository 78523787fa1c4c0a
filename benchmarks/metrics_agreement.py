"""The same features through `torch-fidelity`, `clean-fid` and `keras_gen.metrics`.

Their numeric functions alone are called, on the same seeded features: what is compared is the
arithmetic, not networks or resizing. Neither torchvision nor TensorFlow is needed; torchvision is
replaced by an empty module, and `keras_gen.metrics` is imported without the rest of the package.

    python -m venv /tmp/venv-bench
    /tmp/venv-bench/bin/pip install torch==2.13.0 "scipy<1.18" numpy pillow requests tqdm
    /tmp/venv-bench/bin/pip install --no-deps torch-fidelity==0.4.0 clean-fid==0.1.35
    /tmp/venv-bench/bin/python benchmarks/metrics_agreement.py

Each metric runs in a process of its own, theirs and ours in turn. Seconds are medians of three
repeats; memory is how far the peak resident set rises above that before the call. The tables go to
`metrics_agreement.md`, beside. A part can be measured alone: `--only fid --results parts.json`
keeps what it measured, and the tables are made of all that is kept.
"""

import argparse
import importlib
import importlib.machinery
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import types
import warnings
from pathlib import Path
from unittest import mock

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
METRICS = ("fid", "fid-statistics", "kid", "is", "prc")
TITLES = {
    "fid": "Fréchet distance, from features",
    "fid-statistics": "Fréchet distance, from mean and covariance",
    "kid": "Kernel distance, 100 subsets of 1,000",
    "is": "Inception score, 1,008 classes",
    "prc": "Precision and recall, k = 3",
}
BOUNDS = {"fid": 1e-6, "fid-statistics": 1e-6, "kid": 1e-4, "is": 1e-10, "prc": 0}


# ---------------------------------------------------------------------------------------------
# Features
# ---------------------------------------------------------------------------------------------


def gaussian(n, d, seed):
    """Equal spread in all directions; real and fake differ in mean and scale."""
    random = np.random.default_rng(seed)
    real = random.normal(size=(n, d))
    fake = 0.95 * random.normal(size=(n, d)) + 0.05
    return real.astype(np.float32), fake.astype(np.float32)


def pooled(n, d, seed):
    """Like pooled activations of a network: positive, dependent, with a steep spectrum."""
    random = np.random.default_rng(seed)
    scales = np.arange(1, d + 1) ** -0.75
    mixing = scales[:, None] * random.normal(size=(d, d))

    def features(shift, scale):
        hidden = scale * random.normal(size=(n, d)) + shift
        return np.maximum(hidden @ mixing + 0.3, 0).astype(np.float32)

    return features(0, 1), features(0.05, 0.9)


CASES = {
    "d = 64, n = 2,000": (gaussian, 2_000, 64),
    "d = 2,048, n = 10,000": (gaussian, 10_000, 2048),
    "d = 2,048, n = 10,000, like pooled activations": (pooled, 10_000, 2048),
    "d = 2,048, n = 1,000, fewer images than features": (gaussian, 1_000, 2048),
}


def logits(n):
    return np.random.default_rng(0).normal(scale=3, size=(n, 1008)).astype(np.float32)


# ---------------------------------------------------------------------------------------------
# The implementations: each entry takes no arguments and returns the numbers to compare
# ---------------------------------------------------------------------------------------------


def fid_calls(real, fake):
    ours = metrics_module("frechet")
    theirs = torch_fidelity("metric_fid")
    clean = clean_fid()
    torch = importlib.import_module("torch")
    real_tensor, fake_tensor = torch.from_numpy(real), torch.from_numpy(fake)

    def call_theirs():
        known = [theirs.fid_features_to_statistics(part) for part in (fake_tensor, real_tensor)]
        return list(theirs.fid_statistics_to_metric(*known, verbose=False).values())

    def call_clean():
        known = [(np.mean(part, axis=0), np.cov(part, rowvar=False)) for part in (fake, real)]
        return [clean.frechet_distance(*known[0], *known[1])]

    return {
        "ours": lambda: [ours.frechet_distance(real, fake)],
        "torch-fidelity": call_theirs,
        "clean-fid": call_clean,
    }


def fid_statistics_calls(real, fake):
    ours = metrics_module("frechet")
    theirs = torch_fidelity("metric_fid")
    clean = clean_fid()
    known = [metrics_module("statistics").FeatureStatistics.of(part) for part in (real, fake)]
    pairs = [(part.mean, part.covariance) for part in known]
    named = [{"mu": mean, "sigma": covariance} for mean, covariance in pairs]

    return {
        "ours": lambda: [ours.frechet_distance(*known)],
        "torch-fidelity": lambda: list(
            theirs.fid_statistics_to_metric(*named, verbose=False).values()
        ),
        "clean-fid": lambda: [clean.frechet_distance(*pairs[0], *pairs[1])],
    }


def kid_calls(real, fake):
    ours = metrics_module("kernel")
    theirs = torch_fidelity("metric_kid")
    clean = clean_fid()
    torch = importlib.import_module("torch")
    options = {"kid_subsets": 100, "kid_subset_size": 1000, "rng_seed": 0, "verbose": False}

    def call_theirs():
        tensors = torch.from_numpy(fake), torch.from_numpy(real)
        result = theirs.kid_features_to_metric(*tensors, **options)
        return [result["kernel_inception_distance_mean"], result["kernel_inception_distance_std"]]

    def call_clean():
        np.random.seed(0)  # clean-fid draws from the global generator: the same subsets
        return [clean.kernel_distance(real, fake)]

    def call_ours():
        result = ours.kernel_distance(real, fake, seed=0)
        return [result["value"], result["std"]]

    return {"ours": call_ours, "torch-fidelity": call_theirs, "clean-fid": call_clean}


def is_calls(real, fake):
    ours = metrics_module("inception_score")
    theirs = torch_fidelity("metric_isc")
    values = logits(len(fake))
    tensor = importlib.import_module("torch").from_numpy(values)

    def call_ours():
        result = ours.inception_score(values, seed=2020)
        return [result["value"], result["std"]]

    return {
        "ours": call_ours,
        "torch-fidelity": lambda: list(theirs.isc_features_to_metric(tensor).values()),
    }


def prc_calls(real, fake):
    ours = metrics_module("precision_recall")
    theirs = torch_fidelity("metric_prc")
    torch = importlib.import_module("torch")
    options = {"prc_neighborhood": 3, "prc_batch_size": 10_000, "verbose": False}

    def call_theirs(save_cpu_ram):
        tensors = torch.from_numpy(fake), torch.from_numpy(real)
        result = theirs.prc_features_to_metric(*tensors, save_cpu_ram=save_cpu_ram, **options)
        # theirs are float32 means of zeros and ones: the fractions they stand for
        counts = round(result["precision"] * len(fake)), round(result["recall"] * len(real))
        return [counts[0] / len(fake), counts[1] / len(real)]

    def call_ours():
        result = ours.precision_recall(real, fake)
        return [result["precision"], result["recall"]]

    return {"ours": call_ours, "torch-fidelity": lambda: call_theirs(save_cpu_ram=False)}


CALLS = {
    "fid": fid_calls,
    "fid-statistics": fid_statistics_calls,
    "kid": kid_calls,
    "is": is_calls,
    "prc": prc_calls,
}


# ---------------------------------------------------------------------------------------------
# Importing numeric functions without what they do not use
# ---------------------------------------------------------------------------------------------


def metrics_module(name):
    """A module of `keras_gen.metrics`, without `keras_gen/__init__.py` and so TensorFlow."""
    sys.path.insert(0, str(REPOSITORY))
    for package in ("keras_gen", "keras_gen.metrics"):
        if package not in sys.modules:
            module = types.ModuleType(package)
            module.__path__ = [str(REPOSITORY / package.replace(".", "/"))]
            sys.modules[package] = module
    return importlib.import_module(f"keras_gen.metrics.{name}")


def torch_fidelity(name):
    _replace_torchvision()
    return importlib.import_module(f"torch_fidelity.{name}")


def clean_fid():
    _replace_torchvision()
    return importlib.import_module("cleanfid.fid")


def _replace_torchvision():
    names = ["torchvision", "torchvision.datasets", "torchvision.transforms"]
    for name in [*names, "torchvision.models", "torchvision.transforms.functional"]:
        if name not in sys.modules:
            module = mock.MagicMock()
            module.__spec__ = importlib.machinery.ModuleSpec(name, None)
            module.__version__ = "0"
            sys.modules[name] = module


# ---------------------------------------------------------------------------------------------
# Measuring
# ---------------------------------------------------------------------------------------------


def measure(metric, case, repeats):
    """One child process: every implementation in turn, `repeats` times."""
    make, n, d = CASES[case]
    calls = CALLS[metric](*make(n, d, seed=0))
    record = {name: {"seconds": [], "megabytes": []} for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            before = _reset_peak()
            start = time.perf_counter()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                values = call()
            record[name]["seconds"].append(time.perf_counter() - start)
            record[name]["megabytes"].append((_status("VmHWM") - before) / 1024)
            record[name]["values"] = [float(value) for value in values]
    return record


def _reset_peak():
    """Sets the peak resident set to the present one, in KB; Linux."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmHWM")


def _status(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise KeyError(field)


def cases_of(metric):
    if metric == "is":
        return ["d = 2,048, n = 10,000"]
    names = list(CASES)
    return names if metric.startswith("fid") else names[:3]


# ---------------------------------------------------------------------------------------------
# Tables
# ---------------------------------------------------------------------------------------------


def tables(results):
    lines = [
        "# Agreement and speed of the metrics",
        "",
        "`python benchmarks/metrics_agreement.py`, whose first lines say how to make its "
        "environment. The same seeded float32 features through all; the functions of the others "
        "are called as they are. torch-fidelity computes the kernel distance, and the distances of "
        "precision and recall, in the float32 of the features; ours is float64, but for the "
        "products of the kernel distance, whose first subset is checked in float64, and of "
        "precision and recall, where every pair in doubt is.",
        "",
        f"Measured with {results['environment']}.",
        "",
        "Why not faster: at n = 10,000 and d = 2,048 the kernel distance is products of 1.2 TFLOP "
        "in their order (100 subsets, three products each) and 0.8 in ours (every pair of images "
        "once), and so are the distances of precision and recall; both sides run them at 170 to "
        "260 GFLOP a second, near what two processors give in float32. The Fréchet distance of "
        "torch-fidelity takes its covariances in float32, ours in float64, which costs twice as "
        "much and keeps the digits.",
    ]
    for metric in METRICS:
        if metric in results:
            lines += ["", f"## {TITLES[metric]}", "", *_table(results[metric], BOUNDS[metric])]
    return "\n".join(lines) + "\n"


def _table(cases, bound):
    promise = "identical" if bound == 0 else f"≤ {bound:.0e} relative"
    yield f"Promised agreement: {promise}."
    yield ""
    yield "| features | implementation | value | difference | seconds | ours is | MB |"
    yield "| --- | --- | --: | --: | --: | --: | --: |"
    for case, record in cases.items():
        ours = record["ours"]
        for name, row in record.items():
            seconds = statistics.median(row["seconds"])
            times = seconds / statistics.median(ours["seconds"])
            numbers = ", ".join(f"{value:.10g}" for value in row["values"])
            difference = "" if name == "ours" else _difference(ours["values"], row["values"])
            ratio = "" if name == "ours" else f"{times:.1f}× as fast"
            megabytes = max(row["megabytes"])
            yield (
                f"| {case} | {name} | {numbers} | {difference} | {seconds:.3g} | {ratio} "
                f"| {megabytes:,.0f} |"
            )


def _difference(ours, theirs):
    largest = max(abs(one - other) / abs(other) for one, other in zip(ours, theirs))
    return "none" if largest == 0 else f"{largest:.1e}"


def environment():
    versions = {}
    for name in ("numpy", "scipy", "torch"):
        versions[name] = importlib.import_module(name).__version__
    for name in ("torch_fidelity", "clean-fid"):
        versions[name] = importlib.metadata.version(name)
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"Python {platform.python_version()}, {listed}; {os.cpu_count()} processors"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=METRICS, default=METRICS)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--results", help="JSON file of what is measured already")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(*arguments.child, arguments.repeats)))
        return
    kept = Path(arguments.results) if arguments.results else None
    results = json.loads(kept.read_text()) if kept and kept.exists() else {}
    results["environment"] = environment()
    for metric in arguments.only:
        results[metric] = {}
        for case in cases_of(metric):
            print(metric, case, flush=True)
            command = [sys.executable, __file__, "--child", metric, case]
            command += ["--repeats", str(arguments.repeats)]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            results[metric][case] = json.loads(output.splitlines()[-1])
            if kept:
                kept.write_text(json.dumps(results))
    path = Path(__file__).with_suffix(".md")
    path.write_text(tables(results))
    print(path.read_text())


if __name__ == "__main__":
    main()
