"""Folders of image files."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_gen import data
from keras_gen.data import pixels

GREY = np.arange(0, 240, 5, dtype=np.uint8).reshape(6, 8)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], axis=-1)


def only(folder, **arguments):
    """The one image of a folder, which must be the same in memory and streamed."""
    kept = data.load(folder, **arguments)
    streamed = data.load(folder, memory_limit=0, **arguments)
    assert kept.in_memory and not streamed.in_memory
    images = kept.take(len(kept))[0]
    np.testing.assert_array_equal(images, streamed.take(len(kept))[0])
    np.testing.assert_array_equal(images, next(streamed.numpy_batches(len(kept)))[0])
    assert len(images) == 1
    return images[0]


def test_a_path_is_no_name_of_a_data_set(tmp_path, save, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "digits" / "a.png", COLOUR)
    for source in (Path("digits"), "./digits"):
        assert len(data.load(source)) == 1
    assert len(data.load("digits")) == 1500
    with pytest.raises(FileNotFoundError, match="mnist"):
        data.load(Path("mnist"))


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.PNG", "a.Bmp", "a.webp"])
def test_lossless_formats(tmp_path, save, name):
    save(tmp_path / name, COLOUR, **({"lossless": True} if name.endswith("webp") else {}))
    np.testing.assert_array_equal(only(tmp_path), COLOUR)


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg", "a.JPG", "a.webp"])
def test_lossy_formats(tmp_path, save, name):
    smooth = np.full((16, 16, 3), (200, 100, 50), np.uint8)
    save(tmp_path / name, smooth, quality=95)
    assert np.abs(only(tmp_path).astype(int) - smooth).max() <= 3


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.gif"])
def test_grey_stays_grey(tmp_path, save, name):
    save(tmp_path / name, GREY)
    np.testing.assert_array_equal(only(tmp_path), GREY[..., None])


def test_grey_jpeg_stays_grey(tmp_path, save):
    save(tmp_path / "a.jpg", np.full((8, 8), 100, np.uint8))
    np.testing.assert_array_equal(only(tmp_path), np.full((8, 8, 1), 100))


def test_the_first_frame_of_a_gif(tmp_path, save):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "lime")]
    save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(only(tmp_path), np.full((4, 4, 3), (255, 0, 0)))


def test_rgba_is_composited_on_white(tmp_path, save):
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (10, 20, 30, 255)
    rgba[0, 1] = (10, 20, 30, 0)
    rgba[1, 0] = (0, 100, 200, 51)  # a fifth
    rgba[1, 1] = (255, 255, 255, 128)
    save(tmp_path / "a.png", rgba)
    expected = [[(10, 20, 30), (255, 255, 255)], [(204, 224, 244), (255, 255, 255)]]
    np.testing.assert_array_equal(only(tmp_path), expected)


def test_grey_with_alpha_stays_grey_on_white(tmp_path, save):
    pixels_ = np.array([[(40, 255), (40, 0), (0, 51)]], np.uint8)
    save(tmp_path / "a.png", Image.fromarray(pixels_, "LA"))
    np.testing.assert_array_equal(only(tmp_path), [[[40], [255], [204]]])


def test_a_palette_with_transparency(tmp_path, save):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    save(tmp_path / "opaque" / "a.png", image)
    save(tmp_path / "clear" / "a.png", image, transparency=1)
    save(tmp_path / "clear_gif" / "a.gif", image, transparency=1)
    np.testing.assert_array_equal(
        only(tmp_path / "opaque"), [[(255, 0, 0), (0, 255, 0), (0, 0, 255)]]
    )
    for folder in ("clear", "clear_gif"):
        np.testing.assert_array_equal(
            only(tmp_path / folder), [[(255, 0, 0), (255, 255, 255), (0, 0, 255)]]
        )


def test_a_palette_of_greys_is_grey(tmp_path, save):
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([200, 200, 200, 10, 10, 10])
    save(tmp_path / "a.png", image)
    np.testing.assert_array_equal(only(tmp_path), [[[200], [10]]])


def test_one_colour_made_transparent(tmp_path, save):
    image = Image.fromarray(np.array([[(1, 2, 3), (9, 9, 9)]], np.uint8))
    save(tmp_path / "a.png", image, transparency=(1, 2, 3))
    np.testing.assert_array_equal(only(tmp_path), [[(255, 255, 255), (9, 9, 9)]])


def test_one_bit_images(tmp_path, save):
    save(tmp_path / "a.png", Image.fromarray(np.eye(4, dtype=bool)))
    np.testing.assert_array_equal(only(tmp_path)[..., 0], np.eye(4) * 255)


def test_cmyk(tmp_path, save):
    ink = np.full((8, 8, 4), (0, 255, 255, 0), np.uint8)  # magenta and yellow: red
    save(tmp_path / "a.jpg", Image.fromarray(ink, "CMYK"), quality=100)
    assert np.abs(only(tmp_path).astype(int) - (255, 0, 0)).max() <= 3


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_are_rounded_to_8(tmp_path, channels):
    samples = np.random.default_rng(0).integers(0, 65536, (5, 6, channels)).astype(np.uint16)
    if channels in (2, 4):
        samples[..., -1] = 65535
    (tmp_path / "a.png").write_bytes(tf.io.encode_png(samples).numpy())
    colours = samples[..., : 1 if channels < 3 else 3]
    np.testing.assert_array_equal(only(tmp_path), np.round(colours / 257))


def test_16_bits_as_pillow_writes_them(tmp_path, save):
    samples = np.array([[0, 256, 32896, 65535]], np.uint16)
    save(tmp_path / "a.png", Image.fromarray(samples))
    np.testing.assert_array_equal(only(tmp_path)[..., 0], [[0, 1, 128, 255]])


UPRIGHT = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
# How the camera holds the upright image, by the tag's definition: which stored side is its top.
STORED = {
    1: UPRIGHT,
    2: UPRIGHT[:, ::-1],
    3: UPRIGHT[::-1, ::-1],
    4: UPRIGHT[::-1],
    5: UPRIGHT.T,
    6: np.rot90(UPRIGHT, 1),
    7: UPRIGHT[::-1, ::-1].T,
    8: np.rot90(UPRIGHT, -1),
}


@pytest.mark.parametrize("orientation", list(STORED))
@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_exif_rotation(tmp_path, save, orientation, name):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if name == "a.webp" else {}
    stored = np.ascontiguousarray(STORED[orientation])
    save(tmp_path / name, stored, exif=exif, **options)
    np.testing.assert_array_equal(only(tmp_path)[..., 0], UPRIGHT)


def test_exif_rotation_of_jpeg(tmp_path, save):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the stored left side is the bottom
    stored = np.zeros((8, 16), np.uint8)
    stored[:, :8] = 255
    save(tmp_path / "a.jpg", stored, exif=exif, quality=95)
    image = only(tmp_path)[..., 0]
    assert image.shape == (16, 8)
    assert image[:8].min() > 250 and image[8:].max() < 5


def test_a_damaged_exif_block_does_no_harm(tmp_path, save):
    save(tmp_path / "a.png", COLOUR, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    np.testing.assert_array_equal(only(tmp_path), COLOUR)


def test_grey_and_colour_together_give_rgb(tmp_path, save):
    save(tmp_path / "a.png", GREY)
    save(tmp_path / "b.png", COLOUR)
    images, _ = data.load(tmp_path).take(2)
    np.testing.assert_array_equal(images, [np.stack([GREY] * 3, -1), COLOUR])
    assert data.load(tmp_path, channels=1).image_shape == (6, 8, 1)


def test_other_and_hidden_files_are_ignored(tmp_path, save):
    save(tmp_path / "a.png", GREY)
    save(tmp_path / ".hidden.png", COLOUR)
    save(tmp_path / ".thumbnails" / "b.png", COLOUR)
    for name in (".DS_Store", "Thumbs.db", "notes.txt", "labels.csv"):
        (tmp_path / name).write_text("no image")
    np.testing.assert_array_equal(only(tmp_path), GREY[..., None])


def test_a_wrong_extension_does_not_matter(tmp_path, save):
    save(tmp_path / "a.jpg", COLOUR, format="PNG")
    np.testing.assert_array_equal(only(tmp_path), COLOUR)


@pytest.mark.parametrize("memory_limit", [0, 2**30])
def test_one_sub_folder_a_class_at_any_depth(tmp_path, save, memory_limit):
    for name, value in (("b/1.png", 1), ("a/x/y/2.png", 2), ("a/3.JPG", 3), ("c d/é.png", 4)):
        save(tmp_path / name, np.full((8, 8), value * 20, np.uint8), quality=100)
    source = data.load(tmp_path, memory_limit=memory_limit)
    assert source.class_names == ["a", "b", "c d"] and source.num_classes == 3
    images, labels = source.take(4)
    assert labels.dtype == np.int32
    found = sorted(zip((images.mean((1, 2, 3)) / 20).round().astype(int), labels))
    assert found == [(1, 1), (2, 0), (3, 0), (4, 2)]
    unlabelled = data.load(tmp_path, label=False, memory_limit=memory_limit)
    assert unlabelled.num_classes is None and unlabelled.class_names is None
    assert unlabelled.take(4)[1] is None


def test_splits_agree_on_the_classes(tmp_path, save):
    for name in ("train/a/1.png", "train/b/1.png", "test/b/2.png", "train/b/3.png"):
        save(tmp_path / name, GREY)
    (tmp_path / "test" / "a").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sources = {split: data.load(tmp_path, split=split) for split in ("train", "test", "all")}
    assert {split: len(source) for split, source in sources.items()} == {
        "train": 3,
        "test": 1,
        "all": 4,
    }
    assert all(source.class_names == ["a", "b"] for source in sources.values())
    np.testing.assert_array_equal(sources["test"].take(1)[1], [1])
    with pytest.raises(ValueError, match=r"'train', 'test', 'all'. Received: split='val'"):
        data.load(tmp_path, split="val")


def test_splits_without_classes(tmp_path, save):
    save(tmp_path / "train" / "1.png", GREY)
    save(tmp_path / "val" / "1.png", GREY)
    assert data.load(tmp_path, split="val").num_classes is None


def test_a_class_called_train_beside_others_is_a_class(tmp_path, save):
    save(tmp_path / "train" / "1.png", GREY)
    save(tmp_path / "car" / "1.png", GREY)
    assert data.load(tmp_path).class_names == ["car", "train"]


def test_a_plain_folder_has_no_test_split(tmp_path, save):
    save(tmp_path / "1.png", GREY)
    assert len(data.load(tmp_path, split="all")) == 1
    with pytest.raises(ValueError, match=r"'train' and 'all'.*Received: split='test'"):
        data.load(tmp_path, split="test")


def test_empty_class_folders_are_left_out_with_a_warning(tmp_path, save):
    save(tmp_path / "full" / "1.png", GREY)
    (tmp_path / "empty" / "deeper").mkdir(parents=True)
    with pytest.warns(UserWarning, match="no image in them: empty"):
        source = data.load(tmp_path)
    assert source.class_names == ["full"] and source.num_classes == 1


def test_images_beside_class_folders_are_refused(tmp_path, save):
    save(tmp_path / "loose.png", GREY)
    save(tmp_path / "a" / "1.png", GREY)
    with pytest.raises(ValueError, match=r"loose.png.*sub-folders a.*Received: source="):
        data.load(tmp_path)


def test_linked_folders_are_followed_but_not_round_in_circles(tmp_path, save):
    save(tmp_path / "elsewhere" / "1.png", GREY)
    root = tmp_path / "root"
    for name in ("a", "b"):
        root.mkdir(exist_ok=True)
        (root / name).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "elsewhere")
    source = data.load(root)
    assert (len(source), source.class_names) == (2, ["a", "b"])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("empty_folders", [[], ["a", "b"], ["train", "test"]])
def test_an_empty_folder_is_refused(tmp_path, empty_folders):
    for name in empty_folders:
        (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=r"no image(.|\n)*Received: source="):
        data.load(tmp_path)


def test_a_folder_of_other_files_says_which(tmp_path):
    (tmp_path / "scan.tiff").write_bytes(b"II*")
    with pytest.raises(ValueError, match=r"only .tiff files"):
        data.load(tmp_path)


def test_mixed_sizes_are_refused_and_named(tmp_path, save):
    save(tmp_path / "a.png", np.zeros((4, 6), np.uint8))
    save(tmp_path / "b.png", np.zeros((4, 6), np.uint8))
    save(tmp_path / "c.png", np.zeros((9, 5), np.uint8))
    with pytest.raises(ValueError, match=r"4x6 \(2 images\), 9x5 \(1 images\).*`image_size`"):
        data.load(tmp_path)
    for memory_limit in (0, 2**30):
        source = data.load(tmp_path, image_size=(3, 5), memory_limit=memory_limit)
        assert source.image_shape == (3, 5, 1) and len(source) == 3


@pytest.fixture
def broken(tmp_path, save):
    """A folder of three good files, and a file for each way to be broken."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (6, 8, 3), np.uint8)
    for name in ("good1.png", "good2.jpg", "good3.webp"):
        save(tmp_path / name, noise)
    large = rng.integers(0, 256, (64, 64, 3), np.uint8)
    for extension in ("png", "jpg", "gif", "bmp", "webp"):
        whole = save(tmp_path / f"cut.{extension}", large).read_bytes()
        (tmp_path / f"cut.{extension}").write_bytes(whole[: len(whole) * 3 // 4])
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("I am not an image")
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    damaged = bytearray(save(tmp_path / "damaged.png", large).read_bytes())
    damaged[len(damaged) // 2] ^= 255
    (tmp_path / "damaged.png").write_bytes(damaged)
    return tmp_path


BROKEN = {
    "cut.png": "truncated",
    "cut.jpg": "truncated",
    "cut.gif": "truncated",
    "cut.bmp": "truncated",
    "cut.webp": "decoder",
    "empty.png": "empty",
    "text.jpg": "not a PNG",
    "link.png": "No such file",
    "damaged.png": "broken",
}


def assert_lists_all(message):
    lines = message.splitlines()
    for name, reason in BROKEN.items():
        line = next(line for line in lines if line.strip().startswith(name))
        assert reason in line
    assert not any(line.strip().startswith("good") for line in lines)


def test_one_error_lists_every_broken_file_and_why(broken):
    with pytest.raises(ValueError, match=r"9 of 12 files") as error:
        data.load(broken)
    assert_lists_all(str(error.value))
    assert str(error.value).endswith(f"Received: source={str(broken)!r}")


@pytest.mark.parametrize("memory_limit", [0, 2**30])
def test_broken_files_may_be_skipped(broken, memory_limit):
    with pytest.warns(UserWarning) as caught:
        source = data.load(broken, on_error="skip", memory_limit=memory_limit)
    (warning,) = caught
    assert_lists_all(str(warning.message))
    assert len(source) == 3 and source.image_shape == (6, 8, 3)
    assert sum(len(images) for images in source.batches(2)) == 3


def test_skipping_keeps_the_labels_right(tmp_path, save):
    save(tmp_path / "b" / "1.png", np.full((4, 4), 1, np.uint8))
    save(tmp_path / "c" / "2.png", np.full((4, 4), 2, np.uint8))
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "0.png").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"0.png: the file is empty"):
        source = data.load(tmp_path, on_error="skip", memory_limit=0)
    images, labels = source.take(2)
    np.testing.assert_array_equal(images[:, 0, 0, 0], labels)
    assert source.class_names == ["a", "b", "c"]


def test_nothing_but_broken_files_is_an_error(tmp_path):
    (tmp_path / "a.png").write_bytes(b"junk")
    with pytest.raises(ValueError, match="No image is left"):
        data.load(tmp_path, on_error="skip")


def test_the_pixel_bound_is_checked_from_the_header(tmp_path):
    """A few bytes that claim 20,000 x 20,000 pixels, which would take 400 MB."""
    (tmp_path / "bomb.png").write_bytes(png_header(20_000, 20_000))
    (tmp_path / "large.png").write_bytes(png_header(9_000, 9_000))
    with pytest.raises(ValueError) as error:
        data.load(tmp_path)
    for name in ("bomb", "large"):
        assert f"{name}.png: " in str(error.value)
    assert str(error.value).count("more than 64,000,000 pixels") == 2
    assert "9000x9000" in str(error.value) and "400000000" in str(error.value)


def test_an_image_of_as_many_pixels_as_allowed_is_read(tmp_path, save, monkeypatch):
    save(tmp_path / "a.png", GREY)
    monkeypatch.setattr(pixels, "MAX_PIXELS", 48)
    np.testing.assert_array_equal(only(tmp_path), GREY[..., None])
    monkeypatch.setattr(pixels, "MAX_PIXELS", 47)
    with pytest.raises(ValueError, match="6x8 is more than 47 pixels"):
        data.load(tmp_path)


def png_header(width, height):
    def chunk(kind, body):
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(b"")), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_a_file_lost_while_streaming_is_named(tmp_path, save):
    save(tmp_path / "a.png", GREY)
    source = data.load(tmp_path, memory_limit=0)
    (tmp_path / "a.png").unlink()
    with pytest.raises(tf.errors.OpError, match=r"a\.png"):
        next(iter(source.batches(1)))


def test_memory_limit_is_in_bytes_of_decoded_images(tmp_path, save):
    save(tmp_path / "a.png", GREY)
    assert data.load(tmp_path, memory_limit=GREY.size).in_memory
    assert not data.load(tmp_path, memory_limit=GREY.size - 1).in_memory


def test_a_path_below_the_current_folder(tmp_path, save, monkeypatch):
    save(tmp_path / "photos" / "a.png", GREY)
    monkeypatch.chdir(tmp_path)
    assert len(data.load("photos")) == len(data.load("./photos")) == 1


def test_fruits(fruits):
    train, test = data.load(fruits), data.load(fruits, split="test", image_size=32, channels=1)
    assert (len(train), train.image_shape) == (3000, (64, 64, 3))
    assert (len(test), test.image_shape) == (600, (32, 32, 1))
    assert train.class_names == test.class_names == ["apple", "cherry", "tomato"]
    np.testing.assert_array_equal(np.bincount(train.take(3000)[1]), [1000, 1000, 1000])
