"""Images as files: uint8 <-> [-1, 1], grids, and PNG and GIF that say they are synthetic.

Whatever image file the library writes carries its `Provenance`: which model, which weights and
which seed made it, and that no camera did. A PNG says so twice, in text chunks for people and in
XMP as the IPTC recommends for machines (`DigitalSourceType` = `trainedAlgorithmicMedia`).
"""

import dataclasses
import io
import math
import os
import pathlib
import struct
import uuid
import zlib

import numpy as np
import tensorflow as tf

from keras_gen.version import __version__

DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
WEIGHTS_PREFIX = 16  # hexadecimal digits of the weights' sha256 that a file carries

_XMP_KEYWORD = "XML:com.adobe.xmp"
_XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
   <Iptc4xmpExt:DigitalSourceType>{DIGITAL_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>"""

_PNG_HEADER_END = 33  # 8 bytes of signature and the IHDR chunk, always 25 bytes long
_INT64_DIGITS = 20  # len("-9223372036854775808")


# ---------------------------------------------------------------------------------------------
# Values
# ---------------------------------------------------------------------------------------------


def to_uint8(images):
    """Turns what a model computes into pixels: -1 becomes 0, +1 becomes 255.

    Values outside [-1, 1] are clipped, infinities too; NaN becomes 0, on every device alike. The
    exact inverse of `from_uint8`. Works in graphs and under XLA.

    Args:
        images: floating-point tensor of any shape in [-1, 1].

    Returns:
        A uint8 tensor of the same shape.

    Raises:
        ValueError: the images are not floating-point.
    """
    images = tf.convert_to_tensor(images)
    if not images.dtype.is_floating:
        raise ValueError(
            "`images` must be floating-point in [-1, 1]. "
            f"Received: images of dtype {images.dtype.name}"
        )
    levels = (tf.cast(images, tf.float32) + 1.0) * 127.5
    levels = tf.where(tf.math.is_nan(levels), 0.0, levels)
    return tf.cast(tf.round(tf.clip_by_value(levels, 0.0, 255.0)), tf.uint8)


def from_uint8(images):
    """Turns pixels into what a model trains on: 0 becomes -1, 255 becomes +1.

    Args:
        images: uint8 tensor of any shape.

    Returns:
        A float32 tensor of the same shape in [-1, 1].

    Raises:
        ValueError: the images are not uint8.
    """
    images = tf.convert_to_tensor(images)
    if images.dtype != tf.uint8:
        raise ValueError(f"`images` must be uint8. Received: images of dtype {images.dtype.name}")
    return tf.cast(images, tf.float32) / 127.5 - 1.0


# ---------------------------------------------------------------------------------------------
# Grids
# ---------------------------------------------------------------------------------------------


def grid(images, columns=None, padding=2, background=128, scale=1):
    """Lays images out in rows, from left to right and from top to bottom.

    For one row per class, order the images by class and give `columns` = images per class.

    Args:
        images: uint8 `[n, height, width, channels]` with 1 or 3 channels.
        columns: images per row; by default the grid is as square as possible.
        padding: pixels between and around the images.
        background: colour of the padding and of the places left empty in the last row: one number
            in 0..255, or one per channel.
        scale: whole factor by which each pixel is magnified (not the padding).

    Returns:
        A uint8 array `[rows * (scale * height + padding) + padding,
        columns * (scale * width + padding) + padding, channels]`.

    Raises:
        ValueError: an argument is none of the above.
    """
    images = np.asarray(images)
    if images.ndim != 4 or not len(images):
        raise ValueError(
            "`images` must be [n, height, width, channels] with n >= 1. "
            f"Received: images of shape {images.shape}"
        )
    _check_pixels(images[0])
    count, _, _, channels = images.shape
    columns = math.ceil(math.sqrt(count)) if columns is None else columns
    for name, value, least in (
        ("columns", columns, 1),
        ("scale", scale, 1),
        ("padding", padding, 0),
    ):
        if value != int(value) or value < least:
            raise ValueError(
                f"`{name}` must be a whole number >= {least}. Received: {name}={value}"
            )

    images = images.repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = images.shape[1] + padding, images.shape[2] + padding
    rows = math.ceil(count / columns)
    canvas = np.empty((rows * height + padding, columns * width + padding, channels), np.uint8)
    canvas[:] = _colour(background, channels)
    for index, image in enumerate(images):
        top, left = padding + index // columns * height, padding + index % columns * width
        canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def _colour(background, channels):
    colour = np.asarray(background)
    in_range = np.issubdtype(colour.dtype, np.integer) and np.all((colour >= 0) & (colour <= 255))
    if colour.shape not in ((), (channels,)) or not in_range:
        raise ValueError(
            f"`background` must be an integer in 0..255, or {channels} of them. "
            f"Received: background={background}"
        )
    return colour


def _check_pixels(image):
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] not in (1, 3):
        raise ValueError(
            "An image must be uint8 [height, width, channels] with 1 or 3 channels. "
            f"Received: an image of dtype {image.dtype} and shape {image.shape}"
        )


# ---------------------------------------------------------------------------------------------
# Provenance
# ---------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Provenance:
    """Where a synthetic image comes from.

    Args:
        model: the model's name.
        weights: hexadecimal sha256 of the weights that generated it (`model.weights_hash()`); a
            file carries the first 16 digits.
        seed: the seed of an image; of a grid or an animation, the seed given to `generate`.

    Raises:
        ValueError: the model or the weights are not a non-empty line of text, or the seed is
            neither an integer nor a line of text.
    """

    model: str
    weights: str
    seed: str | int

    def __post_init__(self):
        for field, kinds in (("model", str), ("weights", str), ("seed", (str, int, np.integer))):
            value = getattr(self, field)
            if not isinstance(value, kinds) or not str(value) or not str(value).isprintable():
                raise ValueError(
                    f"`{field}` must be {'text or an integer' if field == 'seed' else 'text'}, "
                    f"printable and not empty. Received: {field}={value!r}"
                )

    def text(self):
        """What a file says about itself: a `dict` of text, in the order of the file."""
        return _constant_text(self.model, self.weights) | {"Seed": str(self.seed)}


def _constant_text(model, weights):
    return {
        "Software": f"keras_gen {__version__}",
        "Synthetic": "true",
        "Model": model,
        "Weights": weights[:WEIGHTS_PREFIX],
    }


def read_provenance(path):
    """Reads back what `write_png`, `png_bytes` or `write_gif` wrote into a file.

    Args:
        path: an image file.

    Returns:
        The `dict` of `Provenance.text`, or None if the file is not one of ours.

    Raises:
        OSError: the file cannot be read.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            found = dict(image.info)
    except UnidentifiedImageError:
        return None
    if isinstance(found.get("comment"), bytes):  # GIF
        lines = found["comment"].decode("utf-8", "replace").splitlines()
        found = dict(line.split(": ", 1) for line in lines if ": " in line)
    keys = Provenance("model", "weights", 0).text().keys()
    if not str(found.get("Software")).startswith("keras_gen ") or not keys <= found.keys():
        return None
    return {key: str(found[key]) for key in keys}


# ---------------------------------------------------------------------------------------------
# PNG
# ---------------------------------------------------------------------------------------------


def write_png(path, image, provenance):
    """Writes an image as a PNG file that carries its provenance.

    The file is complete or absent, never half written. Missing folders are made.

    Args:
        path: where to.
        image: uint8 `[height, width, channels]` with 1 or 3 channels.
        provenance: a `Provenance`.

    Raises:
        ValueError: the image is none.
    """
    write_atomically(path, encode_png(image, provenance))


def encode_png(image, provenance):
    """Encodes one image as PNG; the same bytes as a row of `png_bytes`.

    Args:
        image: uint8 `[height, width, channels]` with 1 or 3 channels.
        provenance: a `Provenance`.

    Returns:
        `bytes`, a whole PNG file.

    Raises:
        ValueError: the image is none.
    """
    image = np.asarray(image)
    _check_pixels(image)
    png = tf.io.encode_png(image).numpy()
    chunks = _constant_chunks(provenance.model, provenance.weights)
    chunks += _text_chunk("Seed", str(provenance.seed))
    return png[:_PNG_HEADER_END] + chunks + png[_PNG_HEADER_END:]


def png_bytes(images, seeds, model, weights):
    """Encodes a batch of images as PNG inside a TensorFlow graph, each with its own seed.

    TensorFlow operations only, so that an exported SavedModel can serve PNG files with their
    provenance where no Python is. A batch of none gives none.

    Args:
        images: uint8 tensor `[batch, height, width, channels]` with 1 or 3 channels; or
            `[batch, time, height, width, channels]`, of which the frames lie side by side.
        seeds: int64 tensor `[batch]`.
        model: the model's name, a constant of the graph.
        weights: hexadecimal sha256 of the weights, a constant of the graph.

    Returns:
        A string tensor `[batch]` of whole PNG files.

    Raises:
        ValueError: the images are not uint8, or the model or the weights are not text.
    """
    Provenance(model, weights, 0)  # checks the texts
    images = tf.convert_to_tensor(images)
    if images.dtype != tf.uint8:
        raise ValueError(f"`images` must be uint8. Received: images of dtype {images.dtype.name}")
    if images.shape.rank == 5:
        images = tf.concat(tf.unstack(images, axis=1), axis=2)
    files = tf.map_fn(tf.io.encode_png, images, fn_output_signature=tf.string)
    header = tf.strings.substr(files, 0, _PNG_HEADER_END)
    pixels = tf.strings.substr(files, _PNG_HEADER_END, tf.int32.max)
    constant = tf.constant(_constant_chunks(model, weights))
    return tf.strings.join([header, constant, _seed_chunks(seeds), pixels])


def _constant_chunks(model, weights):
    """What is the same in every file of one model: bytes to go right behind the header."""
    texts = _constant_text(model, weights)
    chunks = b"".join(_text_chunk(keyword, text) for keyword, text in texts.items())
    return chunks + _international_chunk(_XMP_KEYWORD, _XMP)


def _text_chunk(keyword, text):
    """A tEXt chunk, or iTXt where Latin-1 does not suffice (PNG specification, 11.3.3)."""
    try:
        return _chunk(b"tEXt", keyword.encode() + b"\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        return _international_chunk(keyword, text)


def _international_chunk(keyword, text):
    # Behind the keyword: not compressed, no language, no translated keyword.
    return _chunk(b"iTXt", keyword.encode() + b"\0" + b"\0\0" + b"\0" + b"\0" + text.encode())


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _seed_chunks(seeds):
    """`_text_chunk("Seed", str(seed))` of each seed as TensorFlow operations."""
    prefix = b"Seed\0"
    text = tf.strings.as_string(tf.cast(seeds, tf.int64))
    crc = _crc32(text, zlib.crc32(b"tEXt" + prefix), _INT64_DIGITS)
    length = tf.strings.length(text) + len(prefix)
    return tf.strings.join([_big_endian(length), b"tEXt" + prefix, text, _big_endian(crc)])


def _crc32(strings, start, longest):
    """CRC-32 of each string of a vector, going on from the CRC `start`, as int64.

    The strings may not be longer than `longest` bytes. Byte by byte with the usual table (PNG
    specification, annex D), all strings at once; a string that has ended keeps its value.
    """
    table = tf.constant([_crc_of_byte(byte) for byte in range(256)], tf.int64)
    data = tf.cast(tf.io.decode_raw(strings, tf.uint8, fixed_length=longest), tf.int64)
    lengths = tf.strings.length(strings)
    crc = tf.fill(tf.shape(strings), tf.constant(start ^ 0xFFFFFFFF, tf.int64))
    for position in range(longest):
        index = tf.bitwise.bitwise_and(tf.bitwise.bitwise_xor(crc, data[:, position]), 0xFF)
        step = tf.bitwise.bitwise_xor(tf.gather(table, index), tf.bitwise.right_shift(crc, 8))
        crc = tf.where(position < lengths, step, crc)
    return tf.bitwise.bitwise_xor(crc, 0xFFFFFFFF)


def _crc_of_byte(value):
    for _ in range(8):
        value = value >> 1 ^ (0xEDB88320 if value & 1 else 0)
    return value


def _big_endian(values):
    """Each number below 2**32 as a string of four bytes."""
    values = tf.cast(values, tf.int64)
    characters = tf.constant([bytes([byte]) for byte in range(256)])
    return tf.strings.join(
        [
            tf.gather(
                characters, tf.bitwise.bitwise_and(tf.bitwise.right_shift(values, shift), 255)
            )
            for shift in (24, 16, 8, 0)
        ]
    )


# ---------------------------------------------------------------------------------------------
# GIF
# ---------------------------------------------------------------------------------------------


def write_gif(path, frames, fps, provenance):
    """Writes frames as an animated GIF that repeats for ever and carries its provenance.

    Grey frames are kept exactly; the colours of an RGB frame are reduced to 256. Equal neighbours
    are stored once and shown for longer. The provenance is the file's comment. The file is
    complete or absent, never half written.

    Args:
        path: where to.
        frames: uint8 `[time, height, width, channels]` with 1 or 3 channels, or an iterable of
            such frames, which is read once.
        fps: frames per second, above 0 and up to 50; GIF counts in hundredths of a second.
        provenance: a `Provenance`.

    Raises:
        ValueError: there is no frame, a frame is no image, frames differ in shape, or `fps` is
            out of range.
    """
    if not 0 < fps <= 50:
        raise ValueError(f"`fps` must be above 0 and at most 50. Received: fps={fps}")
    images = _pillow_images(frames)
    first = next(images, None)
    if first is None:
        raise ValueError(f"`frames` must hold at least one frame. Received: frames={frames!r}")
    texts = provenance.text() | {"DigitalSourceType": DIGITAL_SOURCE_TYPE}
    buffer = io.BytesIO()
    first.save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=images,
        duration=round(100 / fps) * 10,
        loop=0,
        comment="\n".join(f"{key}: {text}" for key, text in texts.items()).encode(),
    )
    write_atomically(path, buffer.getvalue())


def _pillow_images(frames):
    from PIL import Image

    shape = None
    for frame in map(np.asarray, frames):
        _check_pixels(frame)
        shape = shape or frame.shape
        if frame.shape != shape:
            raise ValueError(
                f"All frames must have the shape of the first, {shape}. "
                f"Received: a frame of shape {frame.shape}"
            )
        yield Image.fromarray(frame[..., 0] if shape[-1] == 1 else frame)


# ---------------------------------------------------------------------------------------------
# Files
# ---------------------------------------------------------------------------------------------


def write_atomically(path, data):
    """Writes a file that is complete or absent: beside under another name, then renamed.

    Args:
        path: where to; missing folders are made.
        data: `bytes`.
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
