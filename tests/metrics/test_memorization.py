"""The memorization audit: planted copies are found, fresh images pass."""

import json
import tracemalloc

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from keras_gen import data, images
from keras_gen.metrics import extractors, memorization
from keras_gen.metrics.extractors import train_extractor
from keras_gen.metrics.memorization import (
    CopyDetector,
    PixelSpace,
    audit,
    authenticity,
    conformal_p_values,
    copying_z,
    excess_p_value,
)


@pytest.fixture(scope="module")
def digits():
    """1,100 digits to train on, 300 fresh ones of the same hands."""
    pixels, _ = data.load("digits").take(1400, seed=0)
    return pixels[:1100], pixels[1100:]


def copied(pixels, noise=0.0, flip=False, shift=(0, 0), seed=0):
    """What a copier gives out: moved, then flipped, then noise."""
    moved = np.roll(pixels, shift, axis=(1, 2))
    moved = moved[:, :, ::-1] if flip else moved
    added = np.random.default_rng(seed).normal(0, noise, pixels.shape) if noise else 0
    return np.clip(np.rint(moved + added), 0, 255).astype(np.uint8)


class TestAudit:
    @pytest.mark.parametrize(
        "transform",
        [{}, {"noise": 8}, {"flip": True}, {"shift": (1, -1)}, {"noise": 4, "flip": True}],
        ids=str,
    )
    def test_flags_a_planted_copier(self, digits, transform):
        # A margin, as photographs and MNIST have one: without it a shift of 8 pixels loses a row.
        margin = ((0, 0), (2, 2), (2, 2), (0, 0))
        train, fresh = (np.pad(pixels, margin) for pixels in digits)
        fake = np.concatenate([copied(train[:30], **transform), fresh[:270]])
        result = audit(fake, train)
        assert result.verdict == "copies"
        assert result.flagged[:30].mean() > 0.75
        assert result.flagged[30:].mean() < 0.05
        assert result.num_exact == (0 if transform else 30)

    def test_passes_fresh_images(self, digits):
        train, fresh = digits
        for held_out, fake in ((None, fresh), (fresh[:150], fresh[150:])):
            result = audit(fake, train, held_out)
            assert result.verdict == "no sign of copying"
            assert result.flagged.mean() < 0.05
            assert abs(result.to_dict()["spaces"]["pixels"]["c_t"]) < 4

    def test_finds_the_original_and_how_it_was_changed(self, digits):
        train, _ = digits
        fake = copied(train[:20], flip=True, shift=(1, 0), noise=3)
        found = CopyDetector(train).examine(fake).nearest["pixels"]
        assert (found.indices[:, 0] == np.arange(20)).mean() > 0.9
        right = found.indices[:, 0] == np.arange(20)
        assert (found.transforms[right, 0] == [1, 1, 0]).all(-1).mean() > 0.9

    def test_features_too(self, digits):
        train, fresh = digits
        source = data.load("digits")
        extractor = train_extractor(source, num_images_seen=3000, cache=False)
        fake = np.concatenate([train[:30], fresh[:200]])
        result = audit(fake, train, extractor=extractor)
        report = json.loads(json.dumps(result.to_dict()))
        assert report["verdict"] == "copies" and report["exact_duplicates"] == 30
        assert report["n_fake"] == 230 and report["n_train"] == 1100
        features = report["spaces"]["features"]
        assert features["extractor"]["weights"] == extractor.weights
        assert features["n_fake"] == 230 and features["n_held_out"] == 1100
        assert features["authenticity_held_out"] > 0.4
        copier = audit(train[:100], train, extractor=extractor).to_dict()["spaces"]["features"]
        assert copier["authenticity"] == 0 and copier["c_t"] < -3

    def test_copies_within_the_training_set_do_not_hide_an_original(self, digits):
        train, fresh = digits
        train = np.concatenate([train, np.repeat(train[:2], 5, axis=0)])
        fake = np.concatenate([copied(train[:2], noise=4), fresh[:100]])
        assert audit(fake, train, fresh[100:]).flagged[:2].all()

    def test_counts_repetition(self, digits):
        train, fresh = digits
        result = audit(np.concatenate([fresh[:100], fresh[:10]]), train)
        assert result.num_repeated == 10
        assert any("equal an earlier one" in warning for warning in result.warnings)

    def test_held_out_training_images_are_dropped(self, digits):
        train, fresh = digits
        detector = CopyDetector(train, np.concatenate([fresh, train[:50]]))
        assert detector.num_dropped == 50 and detector.num_held_out == 300

    def test_duplicates_in_the_training_set_do_not_blind_the_audit(self, digits):
        train, fresh = digits
        train = np.concatenate([train, train[:60]])
        detector = CopyDetector(train)
        assert detector.num_dropped == 120 and detector.num_held_out == 1040
        assert detector.record["calibration_exact_duplicates_dropped"] == 120
        fake = np.concatenate([copied(train[100:130], noise=4), fresh[:200]])
        result = audit(fake, train)
        assert result.flagged[:30].mean() > 0.75 and result.flagged[30:].mean() < 0.05
        assert any("120 training images occur more than once" in one for one in result.warnings)

    def test_a_large_held_out_source_is_not_read_as_a_whole(self, digits, monkeypatch):
        train, fresh = digits
        source = data.load(fresh)
        read = []
        take = source.take
        monkeypatch.setattr(source, "take", lambda *a: read.append(a) or take(*a))
        monkeypatch.setattr(source, "numpy_batches", None)
        detector = CopyDetector(train, source, num_calibration=120, seed=3)
        assert read == [(240, 3)] and detector.num_held_out == 120

    def test_known_features_are_not_computed_again(self, digits):
        train, fresh = digits

        class Mean:
            calls, rows = 0, 64

            def __call__(self, images):
                self.calls += len(images)
                return extractors.Features(images.reshape(len(images), -1)[:, :20] / 1.0, None)

        known, unknown = Mean(), Mean()
        features = Mean()(train).features
        first = CopyDetector(train, fresh[:150], known, train_features=features)
        second = CopyDetector(train, fresh[:150], unknown)
        assert known.calls == 150 and unknown.calls == 150 + len(train)
        np.testing.assert_array_equal(
            first.examine(fresh[150:]).p_values, second.examine(fresh[150:]).p_values
        )
        with pytest.raises(ValueError, match="Received: train_features of 1,099"):
            CopyDetector(train, fresh, known, train_features=features[1:])

    def test_pairs(self, digits, tmp_path):
        train, fresh = digits
        fake = np.concatenate([fresh[:100], copied(train[:20], noise=2)])
        result = audit(fake, train)
        pairs = result.closest_pairs(16)
        assert len(pairs) == 16
        assert np.mean([pair["fake_index"] >= 100 for pair in pairs]) > 0.9
        for pair in pairs:
            np.testing.assert_array_equal(pair["train"], train[pair["train_index"]])
        result.write_pairs_png(
            tmp_path / "pairs.png", provenance=images.Provenance("test", "abc", 1)
        )
        assert Image.open(tmp_path / "pairs.png").size == (8 * 98 + 2, 4 * 98 + 2)
        assert images.read_provenance(tmp_path / "pairs.png")["Model"] == "test"
        result.write_pairs_png(tmp_path / "few.png", count=2)

    def test_errors(self, digits):
        train, fresh = digits
        with pytest.raises(ValueError, match=r"needs 100 held-out images.*Received: 50"):
            audit(fresh, train, fresh[:50])
        with pytest.raises(ValueError, match=r"shape of the training images, \(8, 8, 1\)"):
            audit(np.zeros((5, 9, 8, 1), np.uint8), train)
        with pytest.raises(ValueError, match=r"false_alarm_rate=1"):
            audit(fresh, train, false_alarm_rate=1)
        with pytest.raises(ValueError, match="more than 9 training images"):
            audit(fresh, train[:9])
        with pytest.raises(ValueError, match="must be uint8"):
            audit(fresh / 255.0, train)
        assert any("rests on the 3 most" in line for line in audit(fresh, train, fresh).warnings)

    def test_mnist(self, shared_data):
        train, _ = data.load("mnist", "train[:3000]", data_dir=shared_data / "tfds").take(3000)
        fresh, _ = data.load("mnist", "test[:1300]", data_dir=shared_data / "tfds").take(1300)
        copies = copied(train[:100], noise=16, flip=True, shift=(2, -1))
        result = audit(np.concatenate([copies, fresh[:300]]), train, fresh[300:])
        assert result.verdict == "copies"
        assert result.flagged[:100].mean() > 0.9 and result.flagged[100:].mean() < 0.04
        assert audit(fresh[:300], train, fresh[300:]).verdict == "no sign of copying"


class TestPixelSpace:
    def test_agrees_with_an_exhaustive_search(self, digits):
        train, fresh = digits
        train, queries = train[:200], fresh[:20]
        found = PixelSpace(train, max_shift=1).nearest(queries)
        smooth_train = memorization._comparable(train).astype(float)
        smooth = memorization._comparable(queries).astype(float)
        best = np.full((20, 200), np.inf)
        for flip in (False, True):
            flipped = smooth[:, :, ::-1] if flip else smooth
            for down in (0, 1, 2):
                for right in (0, 1, 2):
                    window = flipped[:, down : down + 6, right : right + 6]
                    gaps = window[:, None] - smooth_train[None, :, 1:7, 1:7]
                    best = np.minimum(best, np.sqrt((gaps**2).mean((2, 3, 4))))
        exact = np.sort(best, axis=1)[:, 0]
        assert (found.distances[:, 0] >= exact - 1e-9).all()
        assert np.mean(np.isclose(found.distances[:, 0], exact)) > 0.9
        rows = np.arange(20)
        np.testing.assert_allclose(best[rows, found.indices[:, 0]], found.distances[:, 0])

    def test_blocks_change_nothing(self, digits, monkeypatch):
        train, fresh = digits
        whole = PixelSpace(train).nearest(fresh[:50])
        monkeypatch.setattr(memorization, "_BLOCK_BYTES", 1)
        cut = PixelSpace(train).nearest(fresh[:50])
        np.testing.assert_array_equal(cut.distances, whole.distances)
        np.testing.assert_array_equal(cut.indices, whole.indices)

    def test_memory_is_bounded_by_the_block(self, monkeypatch):
        pixels = np.random.default_rng(0).integers(0, 256, (400, 32, 32, 3), np.uint8)
        space = PixelSpace(pixels)
        monkeypatch.setattr(memorization, "_BLOCK_BYTES", 2**23)
        candidates = space._candidates(memorization._comparable(pixels))
        monkeypatch.setattr(space, "_candidates", lambda images: candidates[: len(images)])
        peaks = []
        for count in (200, 400):
            tracemalloc.start()
            space.nearest(pixels[:count])
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert max(peaks) < 100e6  # all at once: 400 * 146 * 3072 * 8 = 1.4 GB

    def test_large_and_tiny_images(self):
        generator = np.random.default_rng(0)
        for shape in ((200, 130, 3), (4, 5, 1), (1, 1, 1), (64, 8, 1)):
            train = generator.integers(0, 256, (40, *shape), np.uint8)
            found = PixelSpace(train).nearest(train[:5])
            np.testing.assert_array_equal(found.distances[:, 0], 0)


class TestStatistics:
    def test_p_values_are_uniform_for_fresh_images(self):
        generator = np.random.default_rng(0)
        rates = []
        for _ in range(200):
            calibration, fresh = generator.normal(size=(2, 500, 3))
            rates.append(np.mean(conformal_p_values(calibration, fresh) <= 0.05))
        assert 0.04 < np.mean(rates) < 0.055

    def test_p_value_of_the_most_conspicuous(self):
        calibration = np.arange(1, 100.0)[:, None]
        p_values = conformal_p_values(calibration, np.array([[0.0], [1.0], [1.5], [1000.0]]))
        np.testing.assert_allclose(p_values, [0.01, 0.02, 0.02, 1.0])

    def test_excess_holds_its_level(self):
        generator = np.random.default_rng(0)
        p_values = []
        for _ in range(2000):
            calibration, fresh = generator.random((2, 1000))
            flagged = np.sum(conformal_p_values(calibration[:, None], fresh[:, None]) <= 0.01)
            p_values.append(excess_p_value(flagged, 1000, 1000, 0.01))
        assert np.mean(np.array(p_values) < 0.05) <= 0.06
        assert excess_p_value(0, 100, 1000, 0.01) == 1.0

    def test_copying_z_is_mann_whitney(self):
        generator = np.random.default_rng(0)
        fake, real = generator.random(50), generator.random(70) + 0.1
        expected = stats.mannwhitneyu(fake, real, use_continuity=False, method="asymptotic")
        z = copying_z(fake, real)
        assert z < 0 and np.isclose(2 * stats.norm.sf(abs(z)), expected.pvalue)

    def test_copying_z_over_cells(self):
        fake, real = np.arange(10.0), np.arange(10.0) + 0.5
        cells = np.arange(10) // 5
        parts = [copying_z(fake[cells == c], real[cells == c]) for c in (0, 1)]
        assert np.isclose(copying_z(fake, real, cells, cells), np.mean(parts))

    def test_authenticity(self):
        assert authenticity([1.0, 2.0, 0.0, 3.0], [2.0, 1.0, 1.0, 3.0]) == 0.25
