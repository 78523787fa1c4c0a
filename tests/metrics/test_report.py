"""The report: JSON that programs can read, and a page that asks nobody for anything."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from keras_gen.images import read_provenance
from keras_gen.metrics.report import Comparison, Report, about, number, plain


def metric(name, value, floor=1.0, interval=(0.5, 1.5), n=500, **extra):
    return {
        "name": name,
        "value": value,
        "std": None,
        "interval": None if interval is None else list(interval),
        "confidence": 0.95,
        "n_real": n,
        "n_fake": n,
        "dimension": 64,
        "floor": floor,
        "floor_n": n,
        "value_at_floor": value,
        "parameters": {"floor_of": "500 held-out images"},
        "warnings": [],
        **extra,
    }


def report(name="a <model> & more", steps=None, value=2.0, classes=None, **changes):
    record = {
        "format": 1,
        "keras_gen": "0",
        "created": "2026-01-01T00:00:00+00:00",
        "seconds": {"generation": 1.0},
        "model": {
            "name": name,
            "kind": "model",
            "path": None,
            "weights": "ab" * 32,
            "training_steps": steps,
        },
        "real": {
            "source": "digits",
            "split": "train",
            "n": 500,
            "n_source": 500,
            "n_held_out": None,
            "class_names": ["<zero>", "one"],
        },
        "extractor": {
            "name": "classifier",
            "weights": "cd" * 32,
            "dimension": 64,
            "resize": "none",
            "inception": False,
        },
        "settings": {
            "num_images": 500,
            "labels": "balanced",
            "seed": 0,
            "confidence": 0.95,
            "bootstrap": 4,
        },
        "metrics": [
            metric("frechet_distance", value, interval=(value - 0.5, value + 0.5)),
            metric("precision", 0.5, 0.9),
            metric("recall", 0.4, 0.9),
            metric("vendi_score", 3.0, 4.0),
        ],
        "classes": classes,
        "memorization": None,
        "warnings": [],
        **changes,
    }
    samples = np.zeros((4, 8, 8, 1), np.uint8)
    pairs = [
        {
            "fake": samples[0],
            "train": samples[0],
            "fake_index": 0,
            "train_index": 7,
            "space": "pixels",
            "distance": np.float64(1.5),
            "p_value": 0.1,
            "exact": False,
            "shift": (1, 0),
            "flip": True,
        }
    ]
    return Report(record, samples, np.array([0, 1, 0, 1]), pairs)


class Links(HTMLParser):
    """Collects what a page would fetch, and checks that its tags are balanced."""

    VOID = {"meta", "img", "br"}

    def __init__(self, page):
        super().__init__()
        self.links, self.open = [], []
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.links += [v for k, v in attributes if k in ("src", "href", "data", "action")]
        assert tag not in ("script", "iframe", "link", "object")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def check_self_contained(page, also=()):
    for link in Links(page).links:
        assert link.startswith("data:image/png;base64,") or link in also, link
    assert "url(" not in page and "@import" not in page


def test_the_page_is_self_contained_and_escaped():
    page = report().html()
    check_self_contained(page)
    assert "a &lt;model&gt; &amp; more" in page and "<model>" not in page
    assert "&lt;zero&gt;" in page and "<zero>" not in page


def test_save_writes_all_files(tmp_path):
    page = report().save(tmp_path / "new" / "report")
    written = sorted(p.name for p in page.parent.iterdir())
    assert written == ["closest_pairs.png", "report.html", "report.json"]
    provenance = read_provenance(page.parent / "closest_pairs.png")
    assert provenance["Model"] == "a <model> & more" and provenance["Seed"] == "0"
    assert Image.open(page.parent / "closest_pairs.png").size == (2 * 98 + 2, 98 + 2)
    record = json.loads((page.parent / "report.json").read_text())
    assert record["metrics"][0]["value"] == 2.0
    assert record["closest_pairs"][0]["train_index"] == 7
    assert {finding["level"] for finding in record["findings"]} <= {"good", "note", "bad"}


def test_json_has_no_nan():
    found = plain({"a": [float("nan"), np.float32(1.5)], "b": (np.int64(3), float("inf"))})
    assert found == {"a": [None, 1.5], "b": [3, None]}
    json.dumps(found, allow_nan=False)


def test_numbers_and_names():
    assert number(None) == number(float("nan")) == "–"
    assert number(12345.6) == "12,346" and number(0.00012345) == "0.0001234"
    assert about("FID").title == "FID" and about("frechet_distance").title == "Fréchet distance"
    assert about("unheard_of").title == "unheard_of"


def test_findings_say_what_is_not_to_be_trusted():
    few = report(settings={**report().record["settings"], "num_images": 50})
    assert any("Too few images" in text for level, text in few.findings() if level == "bad")
    assert any("no FID" in text for _, text in report().findings())
    assert any("hardly more" in text for _, text in report(value=1.2).findings())


def test_findings_compare_at_equal_numbers_of_images():
    fewer = {"floor_n": 100, "value_at_floor": 3.6}
    metrics = [metric("frechet_distance", 1.2, **fewer), metric("precision", 0.9, 0.9, **fewer)]
    metrics.append(metric("recall", 0.9, 0.9, **fewer | {"value_at_floor": 0.3}))
    found = report(metrics=metrics)
    texts = {text: level for level, text in found.findings()}
    assert not any("hardly more" in text for text in texts)
    [distance] = [text for text in texts if "3.6 times the 1 of other real images" in text]
    assert "of 100 images 3.6" in distance and texts[distance] == "note"
    [precision] = [text for text in texts if "(precision" in text]
    assert texts[precision] == "bad" and "of 100 images, as the floors" in precision


def test_text_has_the_warnings_of_metrics():
    warned = [metric("frechet_distance", 2.0, warnings=["the floor is another's"])] * 2
    assert str(report(metrics=warned)).count("warning: the floor is another's") == 1


def test_a_comparison_has_no_common_floor_of_other_numbers_of_images():
    few = report(metrics=[metric("frechet_distance", 2.0, floor=9.0, floor_n=100)])
    many = report(metrics=[metric("frechet_distance", 2.0, floor=1.0)])
    equal, other = Comparison({"a": many, "b": many}), Comparison({"a": few, "b": many})
    assert equal.floor("frechet_distance") == 1.0 and other.floor("frechet_distance") is None
    assert "| *other real images* | – |" in other.markdown() and "floors differ" in other.markdown()
    assert "stroke-dasharray" in equal.html() and "stroke-dasharray" not in other.html()


def test_agreement_is_shown_though_the_first_class_has_none():
    row = {"real_share": 0.5, "share": 0.5, "n_real": 9, "n_asked": 0, "n_predicted": 9}
    row |= {"agreement_held_out": None, "n_compared": 9}
    rows = [row | {"class": "a", "agreement": None}, row | {"class": "b", "agreement": 0.75}]
    classes = {"rows": rows, "agreement": None, "agreement_held_out": None}
    page = report(classes=classes | {"grouped_by": "label asked for"}).html()
    assert "Seen as asked for" in page and "75.0%" in page


def test_inception_at_75_px_is_no_fid():
    extractor = report().record["extractor"] | {"inception": True}
    found = report(extractor=extractor, metrics=[metric("KID", 2.0)])
    assert any("no distance here is an FID" in text for _, text in found.findings())
    images = report(model=report().record["model"] | {"kind": "images"}).html()
    assert "Chosen at random by seed 0" in images and "The first of" not in images


def test_metrics_are_found_by_name():
    assert report()["precision"]["value"] == 0.5
    with pytest.raises(KeyError, match="was not measured"):
        report()["psnr"]


def test_comparison_marks_the_best_and_what_it_cannot_tell_apart(tmp_path):
    found = Comparison({"a": report(value=2.0), "b": report(value=2.8), "c|c": report(value=9.0)})
    assert found.best("frechet_distance") == ("a", ["b"])
    assert found.cell("frechet_distance", "b").startswith("≈ 2.8 [")
    assert "| c\\|c |" in found.markdown()
    page = found.save(tmp_path)
    folders = [p.name for p in tmp_path.iterdir() if p.is_dir()]
    assert sorted(folders) == ["a", "b", "c_c"]
    check_self_contained(page.read_text(), {f"{name}/report.html" for name in folders})
    record = json.loads((tmp_path / "comparison.json").read_text())
    assert record["table"]["frechet_distance"]["not_told_apart_from_best"] == ["b"]
    assert "not told apart" in (tmp_path / "comparison.md").read_text()


def test_checkpoints_are_sorted_by_their_steps():
    found = Comparison({"late": report(steps=200), "early": report(steps=100)}, curve=True)
    assert list(found.reports) == ["early", "late"] and found.positions() == [100, 200]
    assert len(re.findall("<polyline", found.html())) == 4
    unknown = Comparison({"x": report(), "y": report()}, curve=True)
    assert unknown.positions() == [1, 2]
