"""Optimizers that Keras lacks."""

import keras

from keras_gen.schedules import value_at


@keras.saving.register_keras_serializable("keras_gen")
class ScheduledAdam(keras.optimizers.Adam):
    """Adam whose learning rate and second-moment decay follow the images that a model has seen.

    The model calls `follow` before each of its steps. `learning_rate` reads as what the next step
    uses; what is set is multiplied by `factor`, so that a callback may set it as ever.

    Args:
        learning_rate: float.
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

    def get_config(self):
        return {
            **super().get_config(),
            "beta_2": _serialized(self._beta_2),
            "factor": _serialized(self.factor),
        }


def _serialized(value):
    return keras.saving.serialize_keras_object(value) if callable(value) else value


def _deserialized(value):
    return keras.saving.deserialize_keras_object(value) if isinstance(value, dict) else value
