"""What losses, penalties, paths, predictions and the like share: a config and a name."""

import reprlib

import numpy as np


class Strategy:
    """A small object without weights that Keras can serialize: its config is its arguments."""

    def get_config(self):
        return {}

    def __repr__(self):
        settings = (f"{name}={reprlib.repr(value)}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({', '.join(settings)})"

    @classmethod
    def from_config(cls, config):
        return cls(**config)


def resolve(identifier, named, kind, argument):
    """The strategy that `identifier` names, or `identifier` itself where it is one already.

    Args:
        identifier: a key of `named`, or an instance of `kind`.
        named: dict from name to class.
        kind: base class of the strategies.
        argument: what the caller's argument is called, for the message.

    Raises:
        ValueError: when it is neither.
    """
    if isinstance(identifier, kind):
        return identifier
    if isinstance(identifier, str) and identifier in named:
        return named[identifier]()
    raise ValueError(
        f"`{argument}` must be one of {sorted(named)} or a `{kind.__name__}`. "
        f"Received: {argument}={identifier!r}"
    )


def resolve_function(identifier, named, argument):
    """The function that `identifier` names, or `identifier` itself where it is a function.

    Args:
        identifier: a key of `named`, or a function.
        named: dict from name to function.
        argument: what the caller's argument is called, for the message.

    Raises:
        ValueError: when it is neither.
    """
    if callable(identifier):
        return identifier
    if isinstance(identifier, str) and identifier in named:
        return named[identifier]
    raise ValueError(
        f"`{argument}` must be one of {sorted(named)} or a function. "
        f"Received: {argument}={identifier!r}"
    )


def positive(**arguments):
    """Raises a ValueError that names the first argument which is no number above zero."""
    for name, value in arguments.items():
        if not (is_number(value) and value > 0):
            raise ValueError(f"`{name}` must be positive. Received: {name}={value!r}")


def not_negative(**arguments):
    """Raises a ValueError that names the first argument which is no number from zero on."""
    for name, value in arguments.items():
        if not (is_number(value) and value >= 0):
            raise ValueError(f"`{name}` must not be negative. Received: {name}={value!r}")


def is_integer(value):
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value):
    return is_integer(value) or isinstance(value, (float, np.floating))


def checked_count(name, value, least=1):
    """An integer of at least `least`, or a ValueError."""
    if not is_integer(value) or value < least:
        wanted = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise ValueError(f"`{name}` must be {wanted}. Received: {name}={value!r}")
    return int(value)
