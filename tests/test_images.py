import os
import struct
import zlib
from xml.etree import ElementTree

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_gen import images as kgi
from keras_gen.version import __version__

WEIGHTS = "0123456789abcdef" * 4
SEEDS = [0, 7, -1, 2**63 - 1, -(2**63), 1234567890123]


def random_images(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def png_chunks(data):
    """Chunks of a PNG file as (kind, data); checks the signature, all lengths and all CRCs."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, position = [], 8
    while position < len(data):
        (length,) = struct.unpack_from(">I", data, position)
        body = data[position + 4 : position + 8 + length]
        (crc,) = struct.unpack_from(">I", data, position + 8 + length)
        assert zlib.crc32(body) == crc, body
        chunks.append((body[:4], body[4:]))
        position += 12 + length
    assert position == len(data)
    assert [chunks[0][0], chunks[-1][0]] == [b"IHDR", b"IEND"]
    return chunks


def pixels(path):
    with Image.open(path) as image:
        image.load()
        array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


class TestValues:
    @pytest.mark.parametrize("jit_compile", [False, True])
    def test_round_trip_of_every_value(self, jit_compile):
        values = np.arange(256, dtype=np.uint8)
        there_and_back = tf.function(
            lambda x: kgi.to_uint8(kgi.from_uint8(x)), jit_compile=jit_compile
        )
        np.testing.assert_array_equal(there_and_back(tf.constant(values)), values)

    def test_range(self):
        floats = kgi.from_uint8(np.array([0, 255], np.uint8))
        assert floats.dtype == tf.float32
        np.testing.assert_array_equal(floats, [-1.0, 1.0])

    @pytest.mark.parametrize("jit_compile", [False, True])
    def test_clips_and_maps_nan_to_zero(self, jit_compile):
        convert = tf.function(kgi.to_uint8, jit_compile=jit_compile)
        values = tf.constant([-7.0, 7.0, -np.inf, np.inf, np.nan, 0.0])
        np.testing.assert_array_equal(convert(values), [0, 255, 0, 255, 0, 128])

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
    def test_other_float_types(self, dtype):
        values = tf.cast(tf.constant([-1.0, -0.5, 1.0]), dtype)
        np.testing.assert_array_equal(kgi.to_uint8(values), [0, 64, 255])

    def test_rejects_the_wrong_direction(self):
        with pytest.raises(ValueError, match=r"floating-point.*Received: .*uint8"):
            kgi.to_uint8(np.zeros([2], np.uint8))
        with pytest.raises(ValueError, match=r"must be uint8.*Received: .*float32"):
            kgi.from_uint8(np.zeros([2], np.float32))


class TestGrid:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_places_images_row_by_row(self, channels):
        images = random_images(5, 4, 6, channels)
        canvas = kgi.grid(images, columns=3, padding=2, background=9)
        assert canvas.shape == (2 * 6 + 2, 3 * 8 + 2, channels)
        assert canvas.dtype == np.uint8
        for index in range(5):
            top, left = 2 + index // 3 * 6, 2 + index % 3 * 8
            np.testing.assert_array_equal(canvas[top : top + 4, left : left + 6], images[index])
        assert (canvas[8:, 18:] == 9).all()  # the place left empty
        assert (canvas[:2] == 9).all() and (canvas[:, :2] == 9).all()

    def test_is_square_by_default(self):
        assert kgi.grid(random_images(9, 4, 4, 1), padding=0).shape == (12, 12, 1)

    def test_scale_repeats_pixels(self):
        image = random_images(1, 2, 3, 3)
        canvas = kgi.grid(image, padding=1, scale=4)
        assert canvas.shape == (10, 14, 3)
        np.testing.assert_array_equal(canvas[1:-1:4, 1:-1:4], image[0])
        np.testing.assert_array_equal(canvas[4:-1:4, 4:-1:4], image[0])

    def test_background_colour(self):
        canvas = kgi.grid(random_images(1, 2, 2, 3), background=(1, 2, 3))
        np.testing.assert_array_equal(canvas[0, 0], [1, 2, 3])

    @pytest.mark.parametrize(
        ("shape", "arguments", "message"),
        [
            ((0, 2, 2, 1), {}, "n >= 1"),
            ((2, 2, 1), {}, "n >= 1"),
            ((1, 2, 2, 2), {}, "1 or 3 channels"),
            ((1, 2, 2, 1), {"columns": 0}, "`columns`.*Received: columns=0"),
            ((1, 2, 2, 1), {"scale": 1.5}, "`scale`.*Received: scale=1.5"),
            ((1, 2, 2, 1), {"padding": -1}, "`padding`.*Received: padding=-1"),
            ((1, 2, 2, 3), {"background": 256}, "`background`.*Received: background=256"),
            ((1, 2, 2, 3), {"background": (1, 2)}, "`background`"),
        ],
    )
    def test_rejects(self, shape, arguments, message):
        with pytest.raises(ValueError, match=message):
            kgi.grid(np.zeros(shape, np.uint8), **arguments)

    def test_rejects_floats(self):
        with pytest.raises(ValueError, match="uint8"):
            kgi.grid(np.zeros([1, 2, 2, 1], np.float32))


class TestProvenance:
    def test_text(self):
        assert kgi.Provenance("gan", WEIGHTS, 3).text() == {
            "Software": f"keras_gen {__version__}",
            "Synthetic": "true",
            "Model": "gan",
            "Weights": "0123456789abcdef",
            "Seed": "3",
        }

    @pytest.mark.parametrize(
        "arguments",
        [("", WEIGHTS, 0), ("a\0b", WEIGHTS, 0), ("gan", None, 0), ("gan", WEIGHTS, 1.5)],
    )
    def test_rejects(self, arguments):
        with pytest.raises(ValueError, match="Received: "):
            kgi.Provenance(*arguments)

    def test_foreign_files(self, tmp_path):
        image = Image.fromarray(random_images(4, 4, 3))
        for name in ("foreign.png", "foreign.gif", "foreign.jpg"):
            image.save(tmp_path / name)
            assert kgi.read_provenance(tmp_path / name) is None
        (tmp_path / "text.png").write_text("no image")
        assert kgi.read_provenance(tmp_path / "text.png") is None
        with pytest.raises(FileNotFoundError):
            kgi.read_provenance(tmp_path / "absent.png")


class TestWritePng:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_pixels_and_metadata(self, tmp_path, channels):
        image = random_images(5, 9, channels)
        provenance = kgi.Provenance("mnist_gan", WEIGHTS, 42)
        path = tmp_path / "new" / "folder" / "image.png"
        kgi.write_png(path, image, provenance)

        np.testing.assert_array_equal(pixels(path), image)
        assert kgi.read_provenance(path) == provenance.text()
        chunks = png_chunks(path.read_bytes())
        assert (b"tEXt", b"Synthetic\0true") in chunks
        assert (b"tEXt", b"Seed\x0042") in chunks
        with Image.open(path) as opened:
            xmp = ElementTree.fromstring(opened.info["xmp"])
        (source,) = xmp.iter("{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType")
        assert source.text == (
            "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
        )
        assert os.listdir(path.parent) == ["image.png"]

    def test_model_name_beyond_latin_1(self, tmp_path):
        provenance = kgi.Provenance("模型", WEIGHTS, "日")
        kgi.write_png(tmp_path / "image.png", random_images(2, 2, 1), provenance)
        png_chunks((tmp_path / "image.png").read_bytes())
        assert kgi.read_provenance(tmp_path / "image.png") == provenance.text()

    def test_a_failed_write_leaves_the_old_file_alone(self, tmp_path, monkeypatch):
        path = tmp_path / "image.png"
        provenance = kgi.Provenance("gan", WEIGHTS, 0)
        kgi.write_png(path, random_images(2, 2, 1), provenance)
        before = path.read_bytes()

        def full_disk(_):
            raise OSError("No space left on device")

        monkeypatch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space"):
            kgi.write_png(path, random_images(3, 3, 1), provenance)
        assert path.read_bytes() == before
        assert os.listdir(tmp_path) == ["image.png"]

    def test_rejects_what_is_no_image(self, tmp_path):
        with pytest.raises(ValueError, match=r"Received: .*\(2, 2\)"):
            kgi.write_png(tmp_path / "x.png", random_images(2, 2), kgi.Provenance("m", "0", 0))


class TestPngBytes:
    @pytest.mark.parametrize("channels", [1, 3])
    def test_same_bytes_as_write_png(self, channels):
        images = random_images(len(SEEDS), 5, 3, channels)
        encode = tf.function(lambda x, s: kgi.png_bytes(x, s, "gan", WEIGHTS))
        files = encode(images, tf.constant(SEEDS, tf.int64)).numpy()
        for image, seed, file in zip(images, SEEDS, files):
            png_chunks(file)
            assert file == kgi.encode_png(image, kgi.Provenance("gan", WEIGHTS, seed))

    def test_frames_of_a_sequence_lie_side_by_side(self):
        sequences = random_images(2, 3, 5, 4, 1)
        files = kgi.png_bytes(sequences, tf.constant([1, 2], tf.int64), "frames", WEIGHTS).numpy()
        for sequence, file in zip(sequences, files):
            strip = np.concatenate(list(sequence), 1)
            np.testing.assert_array_equal(tf.io.decode_png(file), strip)

    def test_checksums_of_many_seeds(self):
        rng = np.random.default_rng(1)
        seeds = np.concatenate([np.arange(-300, 300), rng.integers(-(2**63), 2**63 - 1, 2000)])
        chunks = kgi._seed_chunks(tf.constant(seeds, tf.int64)).numpy()
        for seed, chunk in zip(seeds, chunks):
            assert chunk == kgi._text_chunk("Seed", str(seed))

    def test_in_a_saved_model(self, tmp_path):
        module = tf.Module()

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, None, None, None], tf.uint8, name="image"),
                tf.TensorSpec([None], tf.int64, name="seed"),
            ]
        )
        def encode(image, seed):
            return {"png_bytes": kgi.png_bytes(image, seed, "gän", WEIGHTS)}

        tf.saved_model.save(module, str(tmp_path / "1"), signatures=encode)
        served = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"]
        images = random_images(2, 6, 4, 3)
        files = served(image=tf.constant(images), seed=tf.constant([-5, 2**63 - 1], tf.int64))[
            "png_bytes"
        ].numpy()
        for image, seed, file in zip(images, (-5, 2**63 - 1), files):
            path = tmp_path / "served.png"
            path.write_bytes(file)
            png_chunks(file)
            np.testing.assert_array_equal(pixels(path), image)
            assert kgi.read_provenance(path) == kgi.Provenance("gän", WEIGHTS, seed).text()

        none = served(image=tf.zeros([0, 6, 4, 3], tf.uint8), seed=tf.zeros([0], tf.int64))
        assert none["png_bytes"].shape == (0,)

    def test_rejects_floats(self):
        with pytest.raises(ValueError, match=r"uint8.*Received: .*float32"):
            kgi.png_bytes(tf.zeros([1, 2, 2, 1]), tf.zeros([1], tf.int64), "gan", WEIGHTS)


class TestWriteGif:
    def test_grey_frames_are_exact(self, tmp_path):
        frames = random_images(4, 6, 8, 1)
        provenance = kgi.Provenance("mödel", WEIGHTS, 5)
        path = tmp_path / "new" / "film.gif"
        kgi.write_gif(path, frames, fps=5, provenance=provenance)
        with Image.open(path) as film:
            assert film.n_frames == 4
            assert film.info["loop"] == 0
            assert kgi.DIGITAL_SOURCE_TYPE.encode() in film.info["comment"]
            for index, frame in enumerate(frames):
                film.seek(index)
                assert film.info["duration"] == 200
                np.testing.assert_array_equal(np.asarray(film.convert("L")), frame[..., 0])
        assert kgi.read_provenance(path) == provenance.text()
        assert os.listdir(path.parent) == ["film.gif"]

    def test_rgb_frames_from_a_generator(self, tmp_path):
        frames = [np.full([4, 4, 3], colour, np.uint8) for colour in ((255, 0, 0), (0, 0, 255))]
        kgi.write_gif(tmp_path / "a.gif", iter(frames), 10, kgi.Provenance("m", "0", 0))
        with Image.open(tmp_path / "a.gif") as film:
            assert film.n_frames == 2
            for index, frame in enumerate(frames):
                film.seek(index)
                np.testing.assert_array_equal(np.asarray(film.convert("RGB")), frame)

    @pytest.mark.parametrize(
        ("frames", "fps", "message"),
        [
            ([], 5, "at least one frame"),
            (np.zeros([2, 4, 4, 2], np.uint8), 5, "1 or 3 channels"),
            ([np.zeros([4, 4, 1], np.uint8), np.zeros([5, 4, 1], np.uint8)], 5, r"\(5, 4, 1\)"),
            (np.zeros([2, 4, 4, 1], np.uint8), 0, "Received: fps=0"),
        ],
    )
    def test_rejects(self, tmp_path, frames, fps, message):
        with pytest.raises(ValueError, match=message):
            kgi.write_gif(tmp_path / "a.gif", frames, fps, kgi.Provenance("m", "0", 0))
        assert not os.listdir(tmp_path)
