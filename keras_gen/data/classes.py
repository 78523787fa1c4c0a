"""Which class of one set is which class of another."""

import re

import numpy as np


def folder_name(class_name):
    """The folder of a class: its name without what cannot stand in the name of a folder."""
    return re.sub(r'^\.|[/\\:*?"<>|\x00-\x1f]', "_", str(class_name).strip())


def class_numbers(own, other):
    """The number that each class of `own` has in `other`.

    Classes are matched by name, as a folder can bear it ("T-shirt/top" is "T-shirt_top"); names
    that are whole numbers by their value ("03" is "3"). The classes of a set without names have
    their numbers for names.

    Args:
        own, other: `Source`s, or what else has `num_classes` and `class_names` (or None).

    Returns:
        int32 `[own.num_classes]`, -1 for a class that `other` has not; or None where names do not
        tell: `own` has none, or `other` has none and those of `own` are no numbers.
    """
    names = getattr(own, "class_names", None)
    if not names or not (other.class_names or all(map(_is_number, names))):
        return None
    others = other.class_names or [str(index) for index in range(other.num_classes or 0)]
    number = {_comparable(name): index for index, name in enumerate(others)}
    return np.array([number.get(_comparable(name), -1) for name in names], np.int32)


def _is_number(name):
    return name.strip().isascii() and name.strip().isdecimal()


def _comparable(name):
    return int(name) if _is_number(name) else folder_name(name)
