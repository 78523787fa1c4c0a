"""Networks of `SequenceGAN`: a recurrent generator of frames, and a judge of motion."""

import math

import keras
from keras import layers, ops

from keras_gen.layers import GroupNorm, Moved
from keras_gen.networks import inputs, resnet
from keras_gen.networks.dcgan import crop, halvings
from keras_gen.networks.seeding import Initializers


def generator(
    image_shape,
    content_dim=64,
    noise_dim=16,
    width=64,
    blocks=1,
    reach=4,
    drawing=0.1,
    label_dim=16,
    num_classes=None,
    seed=0,
):
    """One step of a sequence: the frame before, a memory and noise to the next frame and memory.

    The frame before is halved until its shorter side is below 16 pixels. What is seen there, and a
    map made of the content, the noise and the label, go into a convolutional GRU (Ballas et al.
    2016), whose memory is such a small map too. Of the new memory come a drawn frame, by transposed
    convolutions, how the pixels of the frame before are to move, all alike and each place a little
    differently, and how much each of them is to count; so what was seen can last (Finn et al.
    2016). The hyperbolic tangent of the sum is the next frame. What the transposed convolutions see
    is normalized over each frame: without that frames soon saturate. Sides that are no multiple of
    the power of two are cropped.

    Args:
        image_shape: (height, width, channels) of a frame.
        content_dim: length of the latent that stays the same all through a sequence.
        noise_dim: length of the latent that is drawn anew for each frame.
        width: channels of the memory; each doubling of the sides halves them.
        blocks: int, residual blocks between the memory and the frame.
        reach: int, pixels by which those of the frame before can move, at most the shorter side.
        drawing: float, by which what is drawn, and the logits of what is kept, are multiplied:
            little is drawn at first, and it is learned slowly, so that what was seen lasts. 0:
            frames only move.
        label_dim: length of the label's embedding, appended to the latents.
        num_classes: where given, the network takes the label as its last input.
        seed: int, of the initial weights.

    Returns:
        Functional model: [frame before float32 [batch, height, width, channels] in [-1, 1], memory
        float32 [batch, rows, columns, width] (0 at first), content float32 [batch, content_dim],
        noise float32 [batch, noise_dim] (and label int32 [batch])] -> [frame, memory], alike.
    """
    initial = Initializers(seed)
    levels = max(halvings(image_shape) - 1, 0)
    rows, columns = (math.ceil(side / 2**levels) for side in image_shape[:2])
    channels = [max(width // 2 ** (levels - i), 2) for i in range(levels + 1)]

    def conv(x, filters, name, kernel=None, **kwargs):
        kernel = kernel or initial.he()
        kwargs = {"kernel_size": 3, "padding": "same", "kernel_initializer": kernel, **kwargs}
        return layers.Conv2D(filters, name=name, **kwargs)(x)

    def up(x, filters, name, kernel, **kwargs):
        kwargs = {"padding": "same", "kernel_initializer": kernel, **kwargs}
        return layers.Conv2DTranspose(filters, 4, strides=2, name=name, **kwargs)(x)

    def activated(x, name, normalized=False):
        if normalized:
            x = GroupNorm(1, name=f"{name}_norm")(x)
        return layers.LeakyReLU(0.2, name=f"{name}_activation")(x)

    before = keras.Input(image_shape, name="frame")
    memory = keras.Input((rows, columns, width), name="memory")
    taken = [before, memory]
    taken += [keras.Input((content_dim,), name="content"), keras.Input((noise_dim,), name="noise")]
    latents = taken[2:]
    if num_classes:
        label = inputs.label_input()
        kernel = initial.normal(1.0)
        embedding = inputs.label_embedding(label, num_classes, label_dim, kernel)
        taken, latents = [*taken, label], [*latents, embedding]

    x = before
    for i in range(1, levels + 1):
        x = activated(conv(x, channels[i], f"down_{i}", kernel_size=4, strides=2), f"down_{i}")
    seen = conv(x, width, "seen")
    latent = layers.Concatenate(name="latents")(latents)
    plan = layers.Dense(rows * columns * width, kernel_initializer=initial.he(), name="project")(
        latent
    )
    plan = layers.Reshape((rows, columns, width), name="plan")(plan)
    x = activated(layers.Add(name="seen_and_plan")([seen, plan]), "seen_and_plan")

    # h <- h + u (tanh W [x, r h] - h), where u and r are sigmoids of [x, h]
    both = layers.Concatenate(name="with_memory")([x, memory])
    gates = {"kernel": initial.glorot(), "activation": "sigmoid", "dtype": "float32"}
    update, reset = ops.split(conv(both, 2 * width, "gates", **gates), 2, axis=-1)
    both = layers.Concatenate(name="with_part_of_memory")([x, reset * memory])
    candidate = conv(both, width, "candidate", initial.glorot(), activation="tanh", dtype="float32")
    remembered = memory + update * (candidate - memory)

    x = conv(remembered, width, "features")
    for i in range(1, blocks + 1):
        h = conv(activated(x, f"block_{i}_1"), width, f"block_{i}_1")
        h = conv(activated(h, f"block_{i}_2"), width, f"block_{i}_2", "zeros")
        x = layers.Add(name=f"block_{i}")([x, h])
    x = activated(x, "features", normalized=True)
    reach = min(reach, *image_shape[:2])
    numbers = 2 * (2 * reach + 1)
    ways = 0.1 * conv(x, numbers, "ways", initial.he(), dtype="float32")
    ways = layers.UpSampling2D(2**levels, dtype="float32", name="ways_of_squares")(ways)
    smooth = {"strides": 1, "padding": "same", "dtype": "float32", "name": "ways_of_pixels"}
    ways = layers.AveragePooling2D(2**levels, **smooth)(ways)
    common = layers.GlobalAveragePooling2D(keepdims=True, dtype="float32", name="all_places")(x)
    kernel = {"kernel_initializer": initial.glorot(), "dtype": "float32"}
    common = layers.Dense(numbers, name="way_of_all", **kernel)(common)
    ways = layers.Add(dtype="float32", name="all_and_own_ways")([ways, common])
    for i in reversed(range(1, levels)):
        x = activated(up(x, channels[i], f"up_{i}", initial.he()), f"up_{i}", normalized=True)
    last = {"kernel": initial.he(), "dtype": "float32"}
    x = (up if levels else conv)(x, image_shape[2] + 1, "drawn_and_kept", **last)
    both = layers.Concatenate(dtype="float32", name="drawn_kept_ways")([x, ways])
    drawn, kept, ways = ops.split(crop(both, image_shape), (x.shape[-1] - 1, x.shape[-1]), -1)
    moved = Moved(reach, dtype="float32", name="moved")(before, ways)
    frame = ops.tanh(drawing * drawn + 4.0 * ops.sigmoid(drawing * kept) * moved)
    return keras.Model(taken, [frame, remembered], name="sequence_generator")


def motion_discriminator(image_shape, num_frames, width=64, blocks=1, num_classes=None, seed=0):
    """Sequences to logits: the frames, and what changes from each to the next, as channels.

    So the first layers see all times at once, and what costs of a sequence hardly more than an
    image; else it is `networks.resnet.discriminator`.

    Args:
        image_shape: (height, width, channels) of a frame, sides of at least 4.
        num_frames: int, frames of a sequence.
        width, blocks: of `networks.resnet.discriminator`.
        num_classes: where given, the network takes [frames, label].
        seed: int, of the initial weights.

    Returns:
        Functional model: frames float32 [batch, num_frames, height, width, channels] in [-1, 1]
        (and label int32 [batch]) -> logits float32 [batch, 1].
    """
    height, columns, channels = image_shape
    frames = keras.Input((num_frames, *image_shape), name="frames")
    changes = frames[:, 1:] - frames[:, :-1]
    x = ops.concatenate([frames, changes], axis=1)
    depth = (2 * num_frames - 1) * channels
    x = ops.reshape(ops.transpose(x, (0, 2, 3, 1, 4)), (-1, height, columns, depth))
    judge = resnet.discriminator(
        (height, columns, depth), width, blocks, num_classes=num_classes, seed=seed
    )
    if not num_classes:
        return keras.Model(frames, judge(x), name="motion_discriminator")
    label = inputs.label_input()
    return keras.Model([frames, label], judge([x, label]), name="motion_discriminator")
