"""A number and all that is needed to know what it says."""

import dataclasses
import numbers
import warnings


class MetricWarning(UserWarning):
    """A number was computed but is to be trusted less than it looks."""


# What the literature calls these metrics when, and only when, the features are Inception's.
_INCEPTION_NAMES = {
    "frechet_distance": "FID",
    "kernel_distance": "KID",
    "frechet_distance_infinity": "FID_infinity",
}


def metric_name(metric, inception, size=299):
    """What to call a metric: "FID" is said of Inception features alone.

    Args:
        metric: str, name of the function, such as "frechet_distance".
        inception: bool, whether the features are those of InceptionV3.
        size: int, the side of the images that it saw: at another than 299 px only "KID" is said.

    Returns:
        str.
    """
    if not inception or (size != 299 and metric != "kernel_distance"):
        return metric
    return _INCEPTION_NAMES.get(metric, metric)


@dataclasses.dataclass(frozen=True)
class MetricResult:
    """One measured number with its provenance; a number is never bare.

    Attributes:
        name: str, such as "frechet_distance"; "FID" only of Inception features.
        value: float.
        std: float or None, spread over subsets or splits as the metric defines it. It is not the
            uncertainty of `value`.
        interval: `(low, high)` or None, a confidence interval of `value`.
        confidence: float or None, the confidence of `interval`, such as 0.95.
        n_real, n_fake: numbers of images.
        dimension: int, number of features.
        source, split: str, where the real images are from.
        extractor, weights, resize: str, what made the features; the hash of its weights; how
            images came to its size.
        seed: int, of subsets, splits or projections.
        floor: float or None, the metric between real images and other real images: what a perfect
            generator would get.
        floor_n: int or None, number of images in the place of the generated ones for the floor.
        value_at_floor: float or None, the metric of as many images as the floor is of: what may be
            compared with it. Where these are `n_real` and `n_fake`, it is `value`.
        parameters: dict, what else defines the metric, such as `{"k": 3, "test": "<="}`.
        warnings: tuple of str.
    """

    name: str
    value: float
    std: float | None = None
    interval: tuple[float, float] | None = None
    confidence: float | None = None
    n_real: int | None = None
    n_fake: int | None = None
    dimension: int | None = None
    source: str | None = None
    split: str | None = None
    extractor: str | None = None
    weights: str | None = None
    resize: str | None = None
    seed: int | None = None
    floor: float | None = None
    floor_n: int | None = None
    value_at_floor: float | None = None
    parameters: dict = dataclasses.field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_dict(self):
        """Values that `json.dumps` takes; what is not known is None."""
        record = dataclasses.asdict(self)
        record["warnings"] = list(self.warnings)
        record["interval"] = None if self.interval is None else list(self.interval)
        return record

    def __str__(self):
        return "\n".join([f"{self._number()} ({self._provenance()})", *self._warning_lines()])

    def _number(self):
        text = f"{self.name} {self.value:.6g}"
        if self.std is not None:
            text += f" ± {self.std:.2g}"
        if self.interval is not None:
            level = "" if self.confidence is None else f"{self.confidence:.0%} "
            text += f" [{level}{self.interval[0]:.6g} to {self.interval[1]:.6g}]"
        return text

    def _provenance(self):
        parts = [
            ("floor", None if self.floor is None else f"{self.floor:.6g}"),
            ("n_real", None if self.n_real is None else f"{self.n_real:,}"),
            ("n_fake", None if self.n_fake is None else f"{self.n_fake:,}"),
            ("source", self.source),
            ("split", self.split),
            ("extractor", self.extractor),
            ("weights", None if self.weights is None else self.weights[:12]),
            ("dimension", self.dimension),
            ("resize", self.resize),
            *self.parameters.items(),
            ("seed", self.seed),
        ]
        return "; ".join(f"{key} {value}" for key, value in parts if value is not None)

    def _warning_lines(self):
        return [f"  warning: {text}" for text in self.warnings]


def measure(metric, *features, name=None, parameters=None, **provenance):
    """Calls a metric and keeps what it warns of.

    Args:
        metric: function of this package, or another that returns a number, a dict with "value"
            and perhaps "std", or a dict of several numbers.
        *features: its positional arguments.
        name: str, by default the function's name. Of a dict of several numbers, each keeps its
            own name.
        parameters: dict of keyword arguments for `metric`; recorded. "seed" becomes a field.
        **provenance: other fields of `MetricResult`.

    Returns:
        list of `MetricResult`: one, or one for each number of the dict.

    Example:

        [result] = measure(frechet_distance, real, fake, n_real=len(real), n_fake=len(fake))
    """
    parameters = dict(parameters or {})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", MetricWarning)
        returned = metric(*features, **parameters)
    messages = [str(one.message) for one in caught if issubclass(one.category, MetricWarning)]
    for one in caught:
        if not issubclass(one.category, MetricWarning):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    fields = {"seed": parameters.pop("seed", None), **provenance}
    fields["parameters"] = {**parameters, **fields.get("parameters", {})}
    fields["warnings"] = (*fields.get("warnings", ()), *messages)
    if isinstance(returned, numbers.Real):
        returned = {"value": returned}
    if "value" not in returned:
        return [MetricResult(key, float(number), **fields) for key, number in returned.items()]
    std = returned.get("std")
    std = None if std is None else float(std)
    name = name or metric.__name__
    return [MetricResult(name, float(returned["value"]), std=std, **fields)]
