"""Optimizers that Keras lacks."""

import math
import re

import keras
import tensorflow as tf

from keras_gen.schedules import value_at


@keras.saving.register_keras_serializable("keras_gen")
class Adam(keras.optimizers.Adam):
    """Keras's Adam, each variable of which is updated by one TensorFlow kernel.

    The same update and the same state. Keras writes it as some thirty operations a variable: a
    third to a half of the graph of a small network's training step, built anew for each model.

    Args:
        *args, **kwargs: as in `keras.optimizers.Adam`.
    """

    _numbers = None  # what the kernel wants to know besides, while a step is applied

    def apply(self, grads, trainable_variables=None):
        step = tf.cast(self.iterations + 1, tf.float32)
        beta_1, beta_2 = tf.cast(self.beta_1, tf.float32), tf.cast(self.beta_2, tf.float32)
        self._numbers = (
            ("beta1", beta_1),
            ("beta2", beta_2),
            ("beta1_power", tf.pow(beta_1, step)),
            ("beta2_power", tf.pow(beta_2, step)),
            ("epsilon", tf.constant(self.epsilon, tf.float32)),
        )
        super().apply(grads, trainable_variables)
        self._numbers = None  # no tensor outlives its graph

    def update_step(self, gradient, variable, learning_rate):
        if self.amsgrad or self._numbers is None or variable.dtype != tf.float32:
            super().update_step(gradient, variable, learning_rate)
            return
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            lr=tf.cast(learning_rate, tf.float32),
            grad=tf.cast(gradient, tf.float32),
            **dict(self._numbers),
        )


@keras.saving.register_keras_serializable("keras_gen")
class ScheduledAdam(Adam):
    """Adam whose learning rate and second-moment decay follow the images that a model has seen.

    The model calls `follow` before each of its steps. `learning_rate` reads as the rate in use, and
    setting it sets that: a rate that is read and set, as by `keras.callbacks.ReduceLROnPlateau`,
    stays what it is. `factor` goes on changing it.

    Args:
        learning_rate: float, that of a factor of 1.
        beta_1: float, decay of the first moment.
        beta_2: float, or a schedule (`keras_gen.schedules`), decay of the second moment.
        factor: float, or a schedule, of the learning rate.
        **kwargs: as in `keras.optimizers.Adam`.
    """

    _current_beta_2 = _current_factor = None  # variables, once built

    def __init__(self, learning_rate=2e-4, beta_1=0.0, beta_2=0.99, factor=1.0, **kwargs):
        super().__init__(learning_rate, beta_1, _deserialized(beta_2), **kwargs)
        self.factor = _deserialized(factor)

    def build(self, variables):
        if not self.built:
            self._current_beta_2 = self._number("beta_2", self._beta_2)
            self._current_factor = self._number("factor", self.factor)
        super().build(variables)

    def _number(self, name, value):
        initial = keras.initializers.Constant(float(value_at(value, 0)))
        return self.add_variable(
            (), initializer=initial, aggregation="only_first_replica", name=name
        )

    def follow(self, seen):
        """Sets what the next step uses, as it is after `seen` images; graph operations."""
        self._current_beta_2.assign(value_at(self._beta_2, seen))
        self._current_factor.assign(value_at(self.factor, seen))

    @property
    def beta_2(self):
        return self._beta_2 if self._current_beta_2 is None else self._current_beta_2

    @beta_2.setter
    def beta_2(self, value):
        self._beta_2 = value

    def _get_current_learning_rate(self):
        rate = super()._get_current_learning_rate()
        return rate if self._current_factor is None else rate * self._current_factor

    @property
    def learning_rate(self):
        return self._get_current_learning_rate()

    @learning_rate.setter
    def learning_rate(self, value):
        if self._current_factor is not None and not callable(value):
            value = value / self._current_factor
        keras.optimizers.Adam.learning_rate.fset(self, value)

    def get_config(self):
        return {
            **super().get_config(),
            "beta_2": _serialized(self._beta_2),
            "factor": _serialized(self.factor),
        }


@keras.saving.register_keras_serializable("keras_gen")
class Muon(Adam):
    """Muon (Jordan et al. 2024) for networks of convolutions; Adam for what is no matrix.

    The momentum of a matrix, before it becomes an update, is made nearly orthogonal: all of its
    directions then move alike, the rare ones too. `keras.optimizers.Muon` does that to variables of
    two axes and leaves kernels of convolutions, nearly all of a U-Net, to Adam. Here a kernel
    [height, width, inputs, outputs] is the matrix [height width inputs, outputs], and those of
    `MultiHeadAttention` are the matrices that they stand for. The update is scaled by 0.2 times the
    root of the longer side, so that its elements are as large as Adam's (Liu et al. 2025).

    Args:
        learning_rate: float or a schedule.
        momentum: float, decay of the matrices' gradients.
        adam_factor: float, the rate of Adam in units of `learning_rate`.
        smallest_side: int; matrices with a smaller side than that are left to Adam.
        exclude: regular expressions; variables with one in their path are left to Adam, such as
            what is computed once an image, where the update would take longer than the gradient.
        **kwargs: as in `keras.optimizers.Adam`.
    """

    def __init__(
        self,
        learning_rate=5e-3,
        momentum=0.95,
        adam_factor=0.4,
        smallest_side=8,
        exclude=(),
        **kwargs,
    ):
        super().__init__(learning_rate, **kwargs)
        self.momentum, self.adam_factor = momentum, adam_factor
        self.smallest_side, self.exclude = smallest_side, list(exclude)

    def matrix_of(self, variable):
        """(rows, columns) of the matrix that a variable is; None for what Adam moves."""
        shape = tuple(variable.shape)
        if len(shape) < 2 or any(re.search(pattern, variable.path) for pattern in self.exclude):
            return None
        if len(shape) == 3 and "attention_output" not in variable.path:
            rows = shape[0]  # a query, key or value [inputs, heads, units of a head]
        else:
            rows = math.prod(shape[:-1])
        columns = math.prod(shape) // rows
        return (rows, columns) if min(rows, columns) >= self.smallest_side else None

    def build(self, variables):
        if not self.built:
            self._matrices = [self.matrix_of(variable) for variable in variables]
        super().build(variables)

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)  # TensorFlow's own variable, without a path
        matrix = self._matrices[index]
        if matrix is None:
            super().update_step(gradient, variable, self.adam_factor * learning_rate)
            return
        gradient = tf.cast(gradient, variable.dtype)
        average = self._momentums[index]
        self.assign(average, self.momentum * average + gradient)
        update = orthogonalized(tf.reshape(gradient + self.momentum * average, matrix))
        rate = 0.2 * math.sqrt(max(matrix)) * tf.cast(learning_rate, variable.dtype)
        self.assign_sub(variable, rate * tf.reshape(update, variable.shape))

    def get_config(self):
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "adam_factor": self.adam_factor,
            "smallest_side": self.smallest_side,
            "exclude": self.exclude,
        }


def orthogonalized(matrix, steps=5):
    """U V^T of a matrix U S V^T, nearly: singular values become some 0.7 to 1.2.

    Newton-Schulz iteration with the quintic of Jordan et al. 2024, whose steep slope at zero makes
    five steps enough for singular values from a thousandth of the norm on.

    Args:
        matrix: float32 [rows, columns].
        steps: int.
    """
    tall = matrix.shape[0] > matrix.shape[1]  # the product of the shorter sides is the smaller
    x = tf.transpose(matrix) if tall else matrix
    x = x / (tf.norm(x) + 1e-7)
    first, third, fifth = (tf.constant(c, x.dtype) for c in (3.4445, -4.7750, 2.0315))
    for _ in range(steps):
        product = tf.matmul(x, x, transpose_b=True)
        x = first * x + tf.matmul(third * product + fifth * tf.matmul(product, product), x)
    return tf.transpose(x) if tall else x


def _serialized(value):
    return keras.saving.serialize_keras_object(value) if callable(value) else value


def _deserialized(value):
    return keras.saving.deserialize_keras_object(value) if isinstance(value, dict) else value
