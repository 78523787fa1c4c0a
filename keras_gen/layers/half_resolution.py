"""A network at half the resolution of the features around it, seeing no pixel that is to come."""

import keras
import tensorflow as tf

from keras_gen.layers import causal_conv


@keras.saving.register_keras_serializable("keras_gen")
class HalfResolution(keras.layers.Layer):
    """Runs a network on pairs of positions, and puts what it makes back in their places.

    In direction "right" the position c of the network is given the positions 2 c - 1 and 2 c of a
    row, and makes 2 c and 2 c + 1: none of these is to come of what it sees. In direction "down"
    rows are halved likewise, and columns 2 c and 2 c + 1 go together. Outside there are zeros.

    As `CausalConv` does, it goes on from a memory while a scope of `remembering` is open, one row
    or one pixel at a time: the network is then run for every other one alone.

    Args:
        network: Functional model. Its first input are pairs, [batch, h, w, 2 channels], or squares
            of 4, whose channels come one position after another; so is its first output. Other
            inputs are taken as they are, or where they have rows and columns, from the even
            columns; other outputs are repeated for the positions of a pair or square.
        direction: "down" or "right".

    Raises:
        ValueError: for another direction.
    """

    def __init__(self, network, direction, **kwargs):
        super().__init__(**kwargs)
        self.axis = causal_conv.checked_axis(direction)
        self.network, self.direction = network, direction
        self.rows = 2 if direction == "down" else 1  # of what goes together; the columns are 2

    def call(self, inputs, training=False):
        """Features [batch, height, width, channels], or a list of them and what else the network
        takes, to features of the same height and width, or to a list of all outputs."""
        x, *others = tf.nest.flatten(inputs)
        memory = causal_conv.current_memory()
        if memory is not None:
            made = self._remembered(memory, x, others, training)
        else:
            others = [_even_columns(other) if other.shape.rank == 4 else other for other in others]
            made = self._made(self._without_last(x), others, training)
            if None in x.shape[1:3] or made[0].shape[1:3] != x.shape[1:3]:
                height, width = _sides(x)
                made = [part[:, :height, :width] for part in made]
        return made if len(made) > 1 else made[0]

    def _without_last(self, x):
        """Moved by one position, zeros coming in, as many positions as pairs are made of."""
        length = _sides(x)[self.axis - 1]
        padding = [[0, 0] for _ in range(4)]
        padding[self.axis] = [1, 0]
        size = [-1] * 4
        size[self.axis] = 2 * ((length + 1) // 2)
        moved = tf.slice(tf.pad(x, padding), [0] * 4, size)  # the gradient of `[]` is far slower
        return tf.ensure_shape(moved, [None, None, None, x.shape[-1]])

    def _made(self, x, others, training):
        """What the network makes of whole pairs, at the resolution of x."""
        x = self._folded(x)
        made, *told = tf.nest.flatten(
            self.network([x, *others] if others else x, training=training)
        )
        repeats = [1, 1, 1, 2 * self.rows]
        return [self._unfolded(made), *(self._unfolded(tf.tile(part, repeats)) for part in told)]

    def _remembered(self, memory, x, others, training):
        own = memory[self.name]

        def run():
            within = dict(own["within"])
            with causal_conv.remembering(within):
                pair = tf.concat([own["before"], x], self.axis)
                made = [
                    part[:, :, : _sides(pair)[1]] for part in self._made(pair, others, training)
                ]
            now, later = zip(*(tf.split(part, 2, self.axis) for part in made))
            return now, later, within

        def wait():
            return own["later"], own["later"], own["within"]

        now, later, within = tf.cond(own["odd"], wait, run)
        memory[self.name] = {
            "odd": tf.logical_not(own["odd"]),
            "before": x,
            "later": later,
            "within": within,
        }
        return list(now)

    def _folded(self, x):
        """Neighbours as channels: [batch, height / rows, width / 2, rows * 2 * channels]."""
        x = _paired(x)
        (height, width), channels = _sides(x), x.shape[-1]
        x = tf.reshape(x, [-1, height // self.rows, self.rows, width // 2, 2, channels])
        x = tf.transpose(x, [0, 1, 3, 2, 4, 5])
        return tf.reshape(x, [-1, height // self.rows, width // 2, self.rows * 2 * channels])

    def _unfolded(self, x):
        """The inverse of `_folded`, with the column that may have been added."""
        (height, width), channels = _sides(x), x.shape[-1] // (2 * self.rows)
        x = tf.reshape(x, [-1, height, width, self.rows, 2, channels])
        x = tf.transpose(x, [0, 1, 3, 2, 4, 5])
        return tf.reshape(x, [-1, height * self.rows, width * 2, channels])

    def empty_memory(self, rows, columns):
        """What the layer remembers of `rows` images of `columns` columns before it saw any."""
        columns = columns if self.direction == "down" else 1
        pairs = 2 * self.rows
        first, *told = (output.shape[-1] for output in self.network.outputs)

        def zeros(channels):
            return tf.zeros([rows, 1, columns, channels], self.compute_dtype)

        return {
            "odd": tf.constant(False),
            "before": zeros(self.network.inputs[0].shape[-1] // pairs),
            "later": tuple(zeros(channels) for channels in (first // pairs, *told)),
            "within": causal_conv.empty_memory(self.network, rows, (columns + 1) // 2),
        }

    def compute_output_shape(self, input_shape):
        several = isinstance(input_shape, list)
        sides = tuple((input_shape[0] if several else input_shape)[:3])
        first, *told = (output.shape[-1] for output in self.network.outputs)
        shapes = [(*sides, channels) for channels in (first // (2 * self.rows), *told)]
        return shapes if told else shapes[0]

    def get_config(self):
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "direction": self.direction,
        }

    @classmethod
    def from_config(cls, config):
        network = keras.saving.deserialize_keras_object(config["network"])
        return cls(**{**config, "network": network})


def _paired(x):
    """x with a column of zeros if their number is odd."""
    odd = _sides(x)[1] % 2
    return x if isinstance(odd, int) and not odd else tf.pad(x, [[0, 0], [0, 0], [0, odd], [0, 0]])


def _even_columns(x):
    """x[:, :, ::2], whose own gradient takes several times as long."""
    x = _paired(x)
    height, width = _sides(x)
    return tf.unstack(tf.reshape(x, [-1, height, width // 2, 2, x.shape[-1]]), axis=3)[0]


def _sides(x):
    """Height and width, as ints where they are known."""
    dynamic = tf.shape(x)
    return [x.shape[i] if x.shape[i] is not None else dynamic[i] for i in (1, 2)]
