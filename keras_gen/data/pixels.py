"""From a file's bytes, or any uint8 array, to the one form all sources share.

All sizes and colours are changed here, by Pillow, whatever the source and whether it is held in
memory or streamed: the same image always gives the same pixels.
"""

import io
import os
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import tensorflow as tf
from PIL import Image

MAX_PIXELS = 64_000_000
"""An image of more pixels (height x width) is refused from its header, before it is decoded."""

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "WEBP")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_BIT_DEPTH = 24  # offset of that byte
_EXIF_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode(data):
    """Decodes a PNG, JPEG, GIF (first frame), BMP or WebP file.

    Upright as its EXIF tag says, transparency composited on white, 16-bit samples scaled to 8.

    Args:
        data: bytes of the file.

    Returns:
        A Pillow image of mode "L" where the file is grey (a palette of greys included), else "RGB".

    Raises:
        ValueError: saying why the file cannot be decoded in full.
    """
    if not data:
        raise ValueError("the file is empty")
    try:
        return _decode(data)
    except Image.UnidentifiedImageError:
        raise ValueError("not a PNG, JPEG, GIF, BMP or WebP image") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"more than {MAX_PIXELS:,} pixels: {error}") from None
    except ValueError:
        raise
    except Exception as error:  # Pillow raises OSError, SyntaxError, struct.error, IndexError ...
        raise ValueError(str(error) or type(error).__name__) from error


def _decode(data):
    image = Image.open(io.BytesIO(data), formats=FORMATS)
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{height}x{width} is more than {MAX_PIXELS:,} pixels")
    image.load()
    turn = _TURNS.get(_orientation(image))
    if _is_16_bit(data):
        image = _decode_16_bit(data)
    image = _opaque(image)
    return image if turn is None else image.transpose(turn)


def _orientation(image):
    try:
        return image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # a damaged tag does not make the pixels wrong
        return None


def _is_16_bit(data):
    return data.startswith(_PNG_SIGNATURE) and data[_PNG_BIT_DEPTH] == 16


def _decode_16_bit(data):
    # Pillow cuts the low byte of 16-bit colours off; this rounds: 65535 / 257 = 255.
    samples = tf.io.decode_png(data, dtype=tf.uint16).numpy()
    return image_of(((samples.astype(np.uint32) + 128) // 257).astype(np.uint8))


def _opaque(image):
    """Mode "L" or "RGB", over white where the image is transparent."""
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        opaque = Image.alpha_composite(white, rgba).convert("RGB")
    elif image.mode in ("1", "L"):
        return image.convert("L")
    else:
        opaque = image.convert("RGB")
    grey = image.mode in ("1", "L", "LA", "La") or (image.mode in ("P", "PA") and _is_grey(opaque))
    return opaque.getchannel(0) if grey else opaque


def _is_grey(image):
    red, green, blue = np.moveaxis(np.asarray(image), -1, 0)
    return np.array_equal(red, green) and np.array_equal(green, blue)


def image_of(array):
    """The Pillow image of a uint8 array `[h, w]` or `[h, w, c]` with 1 to 4 channels."""
    return Image.fromarray(array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array)


def fit(image, image_size=None, channels=None):
    """Converts the colours, then crops to the aspect asked for and resizes.

    RGB becomes grey by the luma (299 R + 587 G + 114 B) / 1000, grey becomes RGB by repetition. The
    largest centred crop of the aspect of `image_size` is resized by Pillow's antialiased bicubic
    filter, when shrinking as when enlarging.

    Args:
        image: Pillow image of mode "L", "RGB" or "RGBA" (which is composited on white).
        image_size: `(height, width)`, or None to keep the size.
        channels: 1, 3, or None to keep the channels.

    Returns:
        uint8 `[height, width, channels]`.
    """
    if image.mode not in ("L", "RGB"):
        image = _opaque(image)
    if channels is not None:
        image = image.convert("L" if channels == 1 else "RGB")
    if image_size is not None:
        image = _centre_crop(image, *image_size)
        image = image.resize((image_size[1], image_size[0]), Image.Resampling.BICUBIC)
    return np.atleast_3d(np.asarray(image))


def _centre_crop(image, height, width):
    """The largest part of the aspect `height / width`, in whole pixels."""
    crop_height = max(1, min(image.height, round(image.width * height / width)))
    crop_width = max(1, min(image.width, round(image.height * width / height)))
    top, left = (image.height - crop_height) // 2, (image.width - crop_width) // 2
    return image.crop((left, top, left + crop_width, top + crop_height))


def fit_arrays(images, image_size, channels):
    """`fit` of every image of a uint8 array `[n, h, w, c]`; the array itself if nothing changes."""
    size = image_size or images.shape[1:3]
    depth = channels or images.shape[3]
    if (*size, depth) == images.shape[1:]:
        return images
    fitted = np.empty((len(images), *size, depth), np.uint8)

    def fill(index):
        fitted[index] = fit(image_of(images[index]), size, depth)

    in_chunks(fill, len(images))
    return fitted


@lru_cache(maxsize=1)
def _threads():
    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="keras_gen_pixels")


def in_chunks(function, count, chunk=64):
    """Calls `function(index)` for every index below `count` on all processors.

    Work is handed out in chunks: one future an image would itself take memory and time.
    """

    def run(start):
        for index in range(start, min(start + chunk, count)):
            function(index)

    for _ in _threads().map(run, range(0, count, chunk)):
        pass
