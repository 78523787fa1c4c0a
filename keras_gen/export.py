"""SavedModels for TensorFlow and TF Serving: no Keras and no keras_gen is needed to run one."""

import json
import shutil
import uuid
from pathlib import Path

import tensorflow as tf

from keras_gen import images
from keras_gen.version import __version__


def generation_signatures(model):
    """Signatures of a model that generates images from seeds (and labels).

    `serving_default`: seed int64 [batch] (and label int32 [batch]) -> images uint8
    [batch, height, width, channels]. `png_bytes`: the same inputs -> png_bytes string [batch], one
    PNG file each, with its provenance inside; the name tells TF Serving's REST API to send base64.
    Of a sequence, images are [batch, time, height, width, channels] and a PNG has all frames.

    Returns:
        dict from name to (function, list of tf.TensorSpec).
    """
    weights = model.weights_hash()
    signature = row_signature(model.num_classes)

    @tf.function(input_signature=signature, autograph=False)
    def generate(seed, label=None):  # traced once for both signatures
        checks = [] if label is None else row_checks(seed, label, model.num_classes)
        with tf.control_dependencies(checks):
            return model.generate_images(tf.identity(seed), label)

    def serving_default(seed, label=None):
        return {"images": generate(seed, label)}

    def png_bytes(seed, label=None):
        pictures = generate(seed, label)
        return {"png_bytes": images.png_bytes(pictures, seed, model.name, weights)}

    return {
        "serving_default": (serving_default, signature),
        "png_bytes": (png_bytes, signature),
    }


def log_prob_signature(model, log_prob, random):
    """The signature that says how likely images are.

    Args:
        model: a `GenerativeModel`.
        log_prob: function of image uint8 [batch, h, w, c], or sequence [batch, time, h, w, c], seed
            int64 [batch] and label int32 [batch] (None without classes) -> dict of tensors [batch].
        random: whether what is seen of an image is drawn from a seed that the request gives;
            otherwise the seed is 0 for every row, so that a row's number is a function of the image
            (and its label) alone.

    Returns:
        (function, list of tf.TensorSpec).
    """
    seed_spec, *label_spec = row_signature(model.num_classes)
    name = "image" if model.example_shape == model.image_shape else "sequence"
    image_spec = tf.TensorSpec([None, *model.example_shape], tf.uint8, name=name)

    def seeded(image, seed, label=None):
        with tf.control_dependencies(model.request_checks([image, seed], label)):
            return log_prob(tf.identity(image), seed, label)

    def seedless(image, label=None):
        return seeded(image, tf.zeros(tf.shape(image)[:1], tf.int64), label)

    if random:
        return seeded, [image_spec, seed_spec, *label_spec]
    return seedless, [image_spec, *label_spec]


def row_signature(num_classes):
    """Input signature of generation: seed int64 [batch], label int32 [batch] with classes."""
    signature = [tf.TensorSpec([None], tf.int64, name="seed")]
    if num_classes:
        signature.append(tf.TensorSpec([None], tf.int32, name="label"))
    return signature


def row_checks(seeds, labels, num_classes):
    """Assertions, to be run before, that the rows of a request are complete and in range."""
    seed_rows, label_rows = tf.shape(seeds)[0], tf.shape(labels)[0]
    message = ["There must be one label for each seed. Received rows:", seed_rows, label_rows]
    return [
        tf.debugging.Assert(tf.equal(seed_rows, label_rows), message),
        *label_checks(labels, num_classes),
    ]


def label_checks(labels, num_classes):
    """Assertions, to be run before, that labels lie in [0, num_classes)."""
    in_range = tf.reduce_all((labels >= 0) & (labels < num_classes))
    message = f"Labels must lie in [0, {num_classes}). Received:"
    return [tf.debugging.Assert(in_range, [message, labels], summarize=8)]


def export_saved_model(model, directory):
    """Writes `model.signatures()` as one version of a SavedModel.

    It is written beside, under a hidden name, and renamed into place, so that a server that polls
    the parent folder never sees half of it.

    Args:
        model: a `GenerativeModel`.
        directory: where to write it, such as "saved_models/digits/1".

    Raises:
        FileExistsError: when there is something at `directory`.
    """
    directory = Path(directory)
    if directory.exists():
        raise FileExistsError(
            f"An export does not overwrite another; choose a new version. "
            f"Received: filepath={str(directory)!r}, which exists"
        )
    directory.parent.mkdir(parents=True, exist_ok=True)
    module = tf.Module()
    concrete = {  # as attributes of the module they would be traced once more
        name: tf.function(
            function, input_signature=signature, autograph=False
        ).get_concrete_function()
        for name, (function, signature) in model.signatures().items()
    }
    module.served_variables = _variables_of(concrete.values())

    beside = directory.parent / f".{directory.name}-{uuid.uuid4().hex}"
    try:
        tf.saved_model.save(module, str(beside), signatures=concrete)
        _write_info(model, beside)
        beside.rename(directory)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _write_info(model, directory):
    """What the model is, as JSON, where TF Serving ignores it: assets.extra/keras_gen.json."""
    info = {
        "model": model.name,
        "class": type(model).__name__,
        "image_shape": model.image_shape,
        "num_classes": model.num_classes,
        "training_steps": int(model.step.numpy()),
        "weights": model.weights_hash(),
        "keras_gen": __version__,
        "synthetic": True,
    }
    folder = directory / "assets.extra"
    folder.mkdir()
    (folder / "keras_gen.json").write_text(json.dumps(info, indent=1))


def _variables_of(functions):
    """The variables that the functions read, each once."""
    return list({id(v): v for function in functions for v in function.variables}.values())
