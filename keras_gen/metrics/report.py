"""What an evaluation found: JSON for programs, one self-contained HTML page for people."""

import json
import math
from pathlib import Path
from typing import NamedTuple

from keras_gen.images import Provenance, encode_png, write_atomically
from keras_gen.metrics.memorization import UNKNOWN, pairs_picture

LOWER, HIGHER, LIKE_REAL = "lower", "higher", "like real"


class About(NamedTuple):
    """What a metric says, in plain words."""

    title: str
    better: str
    text: str


ABOUT = {
    "frechet_distance": About(
        "Fréchet distance",
        LOWER,
        "How far the generated images as a whole lie from the real ones, in mean and spread of the "
        "features. 0 for equal distributions and infinitely many images; fewer images make it "
        "larger, so compare it at the same n and with the floor.",
    ),
    "kernel_distance": About(
        "Kernel distance",
        LOWER,
        "Another distance of the whole, unbiased at any number of images: 0 for equal "
        "distributions, and as often slightly below as above it. ± is the spread over subsets.",
    ),
    "inception_score": About(
        "Inception score",
        HIGHER,
        "High where a classifier is sure of each image and all classes occur. It never looks at "
        "real images: one perfect image for each class gets the best score.",
    ),
    "precision": About(
        "Precision",
        HIGHER,
        "Share of generated images that lie as near to a real image as real images lie to one "
        "another: fidelity. High also for a model that makes the same good image again and again.",
    ),
    "recall": About(
        "Recall",
        HIGHER,
        "Share of real images that lie near a generated one: variety. Low where kinds of images "
        "are missing.",
    ),
    "density": About(
        "Density",
        LIKE_REAL,
        "As precision, but counting how many real images are near, so that an outlier among the "
        "real images counts for little. About 1 for real images; above 1 where the generated ones "
        "crowd in the typical places.",
    ),
    "coverage": About(
        "Coverage",
        HIGHER,
        "Share of real images with a generated one near by: as recall, but little disturbed by "
        "outliers.",
    ),
    "sliced_wasserstein_distance": About(
        "Sliced Wasserstein distance",
        LOWER,
        "How far the features would have to be moved, along random directions, to turn the "
        "generated images into the real ones. In units of the features.",
    ),
    "vendi_score": About(
        "Vendi score",
        LIKE_REAL,
        "The effective number of different images. Compare it with that of as many real images: "
        "lower means less variety.",
    ),
    "mean_pairwise_distance": About(
        "Mean pairwise distance",
        LIKE_REAL,
        "How much the generated images differ from one another. Compare it with real images.",
    ),
}
_FUNCTIONS = {
    "FID": ("frechet_distance", "FID"),
    "KID": ("kernel_distance", "KID"),
}


def about(name):
    """`About` of a metric by the name that a result has."""
    function, title = _FUNCTIONS.get(name, (name, None))
    known = ABOUT.get(function, About(name, LOWER, ""))
    return known._replace(title=title) if title else known


def number(value):
    """A number as people read it."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def percent(value):
    """A share as people read it."""
    return "–" if value is None else f"{value:.1%}"


class Report:
    """The result of `keras_gen.metrics.evaluate`.

    Args:
        record: dict of JSON values: "model", "real", "extractor", "settings", "metrics" (a list of
            `MetricResult.to_dict()`), "classes", "memorization", "warnings".
        samples: uint8 `[n, h, w, c]`, the first generated images.
        sample_labels: int `[n]`, what these were asked for, or None.
        pairs: list of dict, `MemorizationAudit.closest_pairs()`.
    """

    def __init__(self, record, samples, sample_labels=None, pairs=()):
        self.record = record
        self.samples, self.sample_labels, self.pairs = samples, sample_labels, list(pairs)

    def __getitem__(self, name):
        """The dict of a metric, such as `report["precision"]["value"]`; "frechet_distance" also
        finds the FID, which it is called on Inception features.

        Raises:
            KeyError: if it was not measured.
        """
        for metric in self.record["metrics"]:
            if name in (metric["name"], _FUNCTIONS.get(metric["name"], (None,))[0]):
                return metric
        names = ", ".join(metric["name"] for metric in self.record["metrics"])
        raise KeyError(f"It was not measured; there are {names}. Received: name={name!r}")

    @property
    def name(self):
        return self.record["model"]["name"]

    @property
    def provenance(self):
        """`Provenance` of the generated images, or None of existing ones."""
        model = self.record["model"]
        if model["kind"] == "images":
            return None
        seed = self.record["settings"]["seed"]
        return Provenance(model["name"], model["weights"] or "unknown", seed)

    def findings(self):
        """What the numbers say, in plain words: list of `(level, text)`.

        The level is "good", "note" or "bad".
        """
        return list(_findings(self.record))

    def to_dict(self):
        """Everything but the pixels, as values that `json.dumps` takes; NaN becomes None."""
        pairs = [
            {key: value for key, value in pair.items() if key not in ("fake", "train")}
            for pair in self.pairs
        ]
        findings = [{"level": level, "text": text} for level, text in self.findings()]
        return plain({**self.record, "findings": findings, "closest_pairs": pairs})

    def html(self):
        """One self-contained page: str."""
        from keras_gen.metrics.page import report_page

        return report_page(self)

    def save(self, directory):
        """Writes `report.json`, `report.html` and, after an audit for copies, `closest_pairs.png`
        (generated images, and the nearest training image of each to its right), each complete or
        not at all.

        Args:
            directory: where to; missing folders are made.

        Returns:
            `Path` of the page.
        """
        directory = Path(directory)
        write_atomically(directory / "report.json", _json(self.to_dict()))
        if self.pairs:
            picture = encode_png(pairs_picture(self.pairs), self.provenance or UNKNOWN)
            write_atomically(directory / "closest_pairs.png", picture)
        write_atomically(directory / "report.html", self.html().encode())
        return directory / "report.html"

    def __str__(self):
        record = self.record
        lines = [
            f"{self.name}: {record['settings']['num_images']:,} images against "
            f"{record['real']['n']:,} of {record['real']['source']}",
            f"  features: {record['extractor']['name']}",
            f"  {'':30}{'value':>12}{'interval':>24}{'real images':>14}",
        ]
        for metric in record["metrics"]:
            lines.append(
                f"  {metric['name']:30}{number(metric['value']):>12}"
                f"{interval(metric):>24}{number(metric['floor']):>14}"
            )
        lines += [f"  {text}" for _, text in self.findings()]
        warned = [text for metric in record["metrics"] for text in metric["warnings"]]
        lines += [f"  warning: {text}" for text in dict.fromkeys(warned)]
        return "\n".join(lines)

    def __repr__(self):
        return f"<Report of {self.name}: {len(self.record['metrics'])} metrics>"


def interval(metric):
    """The interval of a metric's dict as text; empty if there is none."""
    if metric["interval"] is None:
        return ""
    return f"{number(metric['interval'][0])} to {number(metric['interval'][1])}"


def plain(value):
    """JSON values: tuples become lists, NumPy numbers plain ones, NaN and infinity None."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _json(record):
    return (json.dumps(record, indent=1, ensure_ascii=False) + "\n").encode()


# ---------------------------------------------------------------------------------------------
# Plain words
# ---------------------------------------------------------------------------------------------


def _findings(record):
    metrics = {metric["name"]: metric for metric in record["metrics"]}
    yield from _on_copies(record["memorization"])
    distance = metrics.get("FID") or metrics.get("frechet_distance")
    if distance:
        yield _on_distance(distance)
    if "precision" in metrics:
        yield _on_precision(metrics["precision"], metrics["recall"])
    yield from _on_classes(record["classes"])
    yield from _on_trust(record)


def _on_copies(audit):
    if audit is None:
        yield "note", "It was not looked for copies of training images."
        return
    counted = (
        f"{audit['flagged']:,} of {audit['n_fake']:,} images look like copies of training images; "
        f"of as many fresh real ones {audit['flagged_expected']:.0f} would be expected to"
    )
    if audit["verdict"] == "copies":
        yield (
            "bad",
            f"It copies: {counted}. A good distance below may be due to the copies.",
        )
    else:
        yield "good", f"No sign of copying: {counted}."
    if audit["exact_duplicates"]:
        yield (
            "bad",
            f"{audit['exact_duplicates']:,} images are training images, pixel by pixel.",
        )
    if audit["repeated_images"]:
        yield "bad", f"{audit['repeated_images']:,} generated images repeat an earlier one."


def _on_distance(metric):
    title, floor = about(metric["name"]).title, metric["floor"]
    said = f"{title} {number(metric['value'])}"
    if not floor:
        return "note", f"{said}."
    value = metric["value_at_floor"]  # of as many images as the floor is of
    if metric["floor_n"] != metric["n_fake"]:
        said += f"; of {metric['floor_n']:,} images {number(value)}"
    times = value / floor
    if times <= 1.5:
        return "good", f"{said}: hardly more than the {number(floor)} of other real images."
    level = "note" if times < 20 else "bad"
    return level, f"{said}: {times:,.1f} times the {number(floor)} of other real images."


def _on_precision(precision, recall):
    worst = min(
        one["value_at_floor"] / one["floor"] if one["floor"] else 1.0 for one in (precision, recall)
    )
    text = (
        f"{percent(precision['value'])} of the generated images look like real ones (precision; "
        f"other real images: {percent(precision['floor'])}), and {percent(recall['value'])} of the "
        f"real ones have a like among the generated (recall; other real images: "
        f"{percent(recall['floor'])})"
    )
    if precision["floor_n"] != precision["n_fake"]:
        text += (
            f"; of {precision['floor_n']:,} images, as the floors, "
            f"{percent(precision['value_at_floor'])} and {percent(recall['value_at_floor'])}"
        )
    return ("good" if worst > 0.95 else "note" if worst > 0.5 else "bad"), text + "."


def _on_classes(classes):
    if classes is None:
        return
    agreement, real = classes["agreement"], classes["agreement_held_out"]
    if agreement is not None:
        text = f"{percent(agreement['value'])} of the images are taken for the class asked for"
        if real is not None:
            text += f"; of held-out real images {percent(real['value'])} for their own"
        short = (real["value"] if real is not None else 1.0) - agreement["value"]
        yield ("good" if short < 0.02 else "note" if short < 0.2 else "bad"), text + "."
    missing = [
        row["class"]
        for row in classes["rows"]
        if row["share"] is not None and row["share"] < row["real_share"] / 5
    ]
    if missing:
        names = ", ".join(missing[:8]) + (" ..." if len(missing) > 8 else "")
        yield "bad", f"Rare or missing classes: {names}."


def _on_trust(record):
    count, dimension = record["settings"]["num_images"], record["extractor"]["dimension"]
    if min(count, record["real"]["n"]) <= dimension:
        yield (
            "bad",
            f"Too few images to trust the Fréchet distance: {count:,} generated, "
            f"{record['real']['n']:,} real, {dimension:,} features.",
        )
    elif count < 10 * dimension:
        yield (
            "note",
            f"With {count:,} images for {dimension:,} features the Fréchet distance is raised by "
            "the small number; compare it with the floor and at the same n alone.",
        )
    if not record["extractor"]["inception"]:
        yield (
            "note",
            "The features are not Inception's: these distances are no FID or KID, and are "
            "comparable with the same extractor alone.",
        )
    elif not any(metric["name"] == "FID" for metric in record["metrics"]):
        yield (
            "note",
            "The features are Inception's, but not of images of 299 pixels: the KID is that of the "
            "Keras examples, and no distance here is an FID.",
        )
    for text in record["warnings"]:
        yield "note", text


# ---------------------------------------------------------------------------------------------
# Several models
# ---------------------------------------------------------------------------------------------


class Comparison:
    """The result of `keras_gen.metrics.compare` and `evaluate_checkpoints`.

    Args:
        reports: dict from name to `Report`.
        curve: whether these are checkpoints of one model, in order.

    Attributes:
        reports, curve: as given; checkpoints are sorted by training steps where these are known.
    """

    def __init__(self, reports, curve=False):
        if curve and all(_steps(report) is not None for report in reports.values()):
            reports = dict(sorted(reports.items(), key=lambda item: _steps(item[1])))
        self.reports, self.curve = dict(reports), bool(curve)

    def __getitem__(self, name):
        return self.reports[name]

    @property
    def metrics(self):
        """Names of the metrics that some model has, in order."""
        names = [m["name"] for report in self.reports.values() for m in report.record["metrics"]]
        return list(dict.fromkeys(names))

    def points(self, metric):
        """dict from the model's name to the metric's dict, of the models that have it."""
        found = {}
        for name, report in self.reports.items():
            for one in report.record["metrics"]:
                if one["name"] == metric:
                    found[name] = one
        return found

    def floor(self, metric):
        """What other real images get; None where it is of other numbers of them for each model."""
        points = list(self.points(metric).values())
        counts = {point["floor_n"] for point in points}
        return points[0]["floor"] if len(counts) == 1 else None

    def best(self, metric):
        """Names of the best model and of those whose interval overlaps with its own.

        Returns:
            `(best, list of names)`; without intervals the list is empty.
        """
        points = self.points(metric)
        best = min(points, key=lambda name: _badness(points[name]))
        own = points[best]["interval"]
        if own is None:
            return best, []
        close = [
            name
            for name, one in points.items()
            if name != best
            and one["interval"] is not None
            and one["interval"][0] <= own[1]
            and own[0] <= one["interval"][1]
        ]
        return best, close

    def positions(self):
        """Where each model stands on a curve: training steps where they are known for all."""
        steps = [_steps(report) for report in self.reports.values()]
        known = None not in steps and len(set(steps)) == len(steps)
        return steps if known else list(range(1, len(steps) + 1))

    def to_dict(self):
        """Everything but the pixels, as JSON values."""
        table = {
            metric: {
                "best": self.best(metric)[0],
                "not_told_apart_from_best": self.best(metric)[1],
                "better": about(metric).better,
                "values": {
                    name: {key: one[key] for key in ("value", "std", "interval", "floor", "n_fake")}
                    for name, one in self.points(metric).items()
                },
            }
            for metric in self.metrics
        }
        reports = {name: report.to_dict() for name, report in self.reports.items()}
        return plain(
            {
                "curve": self.curve,
                "positions": dict(zip(self.reports, self.positions())),
                "table": table,
                "reports": reports,
            }
        )

    def markdown(self):
        """The table with intervals: str."""
        header = ["", *map(_with_arrow, self.metrics), "copies"]
        rows = [header, ["---"] * len(header)]
        for name, report in self.reports.items():
            cells = [self.cell(metric, name) for metric in self.metrics]
            rows.append([name.replace("|", "\\|"), *cells, copies(report)])
        floors = [number(self.floor(metric)) for metric in self.metrics]
        rows.append(["*other real images*", *floors, ""])
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        return "\n".join([*lines, "", *self.footnotes()]) + "\n"

    def footnotes(self):
        """How to read the table: list of str."""
        record = next(iter(self.reports.values())).record
        counts = sorted({r.record["settings"]["num_images"] for r in self.reports.values()})
        confidence = record["settings"]["confidence"]
        return [
            f"{' or '.join(f'{count:,}' for count in counts)} generated images a model against "
            f"{record['real']['n']:,} of {record['real']['source']}; seed "
            f"{record['settings']['seed']}; features: {record['extractor']['name']}.",
            f"In brackets {confidence:.0%} confidence intervals for the choice of the generated "
            "images. **Bold**: the best; ≈: its interval overlaps the best one's, so that they "
            "are not told apart.",
            *self._on_floors(),
        ]

    def _on_floors(self):
        if any(self.floor(metric) is None for metric in self.metrics):
            yield (
                "–: the floors differ, as the models were measured with different numbers of "
                "images; each is in its model's own report."
            )

    def cell(self, metric, name, bold="**"):
        """One cell of the table: str."""
        one = self.points(metric).get(name)
        if one is None:
            return "–"
        best, close = self.best(metric)
        text = number(one["value"])
        text = f"{bold}{text}{bold}" if name == best else text
        text = f"≈ {text}" if name in close else text
        return f"{text} [{interval(one)}]" if one["interval"] is not None else text

    def html(self):
        """One self-contained page: str."""
        from keras_gen.metrics.page import comparison_page

        return comparison_page(self)

    def save(self, directory):
        """Writes `comparison.json`, `.md` and `.html`, and each model's report in a sub-folder.

        Args:
            directory: where to; missing folders are made.

        Returns:
            `Path` of the page.
        """
        directory = Path(directory)
        for folder, report in zip(self.folders(), self.reports.values()):
            report.save(directory / folder)
        write_atomically(directory / "comparison.json", _json(self.to_dict()))
        write_atomically(directory / "comparison.md", self.markdown().encode())
        write_atomically(directory / "comparison.html", self.html().encode())
        return directory / "comparison.html"

    def folders(self):
        """A folder's name for each model: list of str, all different."""
        names = []
        for index, name in enumerate(self.reports):
            safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in name).strip("_")
            names.append(safe if safe and safe not in names else f"{safe}_{index}")
        return names

    def __str__(self):
        return self.markdown()


def copies(report):
    """What the audit says, as a cell of a table."""
    audit = report.record["memorization"]
    if audit is None:
        return "not audited"
    return f"{audit['verdict']} ({percent(audit['flagged_fraction'])} suspicious)"


def _with_arrow(metric):
    known = about(metric)
    return known.title + {LOWER: " ↓", HIGHER: " ↑"}.get(known.better, "")


def _badness(metric):
    better, value = about(metric["name"]).better, metric["value"]
    if not math.isfinite(value):
        return math.inf
    if better == LIKE_REAL:
        return abs(metric["value_at_floor"] - metric["floor"])
    return value if better == LOWER else -value


def _steps(report):
    return report.record["model"]["training_steps"]
