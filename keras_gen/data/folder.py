"""Folders of image files."""

import array
import collections
import itertools
import os
import threading
import warnings
from pathlib import Path

import numpy as np

from keras_gen.data.arrays import ArraySource, check_only_split
from keras_gen.data.pixels import decode, fit, in_chunks
from keras_gen.data.source import IndexedSource, NoSuchSplit

EXTENSIONS = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp")
SPLIT_NAMES = ("train", "test", "val", "valid", "validation")


class FolderSource(IndexedSource):
    """Files that are read and decoded anew in every pass; only their names are kept."""

    def __init__(self, files, image_shape, num_classes, class_names):
        super().__init__(files.root, len(files), image_shape, num_classes, class_names)
        self._files = files
        self._labels = files.labels

    def _images(self, indices):
        images = np.empty((len(indices), *self.image_shape), np.uint8)

        def fill(row):
            images[row] = self._files.image(indices[row], self.image_shape)

        in_chunks(fill, len(indices), chunk=8)
        return images


def load_folder(folder, split, label, image_size, channels, on_error, memory_limit):
    """A source from a folder; `load` says how it may be laid out."""
    folder = Path(folder)
    files, class_names = find_files(folder, split)
    if label is False:
        files.labels, class_names = None, None
    scan = scan_files(files)
    if scan.broken:
        files = _without_broken(files, scan.broken, on_error)
    image_shape = _image_shape(scan, folder, image_size, channels)
    num_classes = len(class_names) if class_names else None
    source = FolderSource(files, image_shape, num_classes, class_names)
    if len(files) * int(np.prod(image_shape)) > memory_limit:
        return source
    images = source._images(np.arange(len(files)))
    return ArraySource(str(folder), images, files.labels, num_classes, class_names)


class Files:
    """File names below a folder, in one piece of memory: 200,000 Python strings take 20 MB.

    `labels` is int32 `[n]` or None.
    """

    def __init__(self, root, names, labels=None):
        self.root = str(root)
        self.labels = labels
        self._bytes = bytearray()
        ends = array.array("q")
        for name in names:
            self._bytes += os.fsencode(name)
            ends.append(len(self._bytes))
        self._ends = np.array(ends)

    def __len__(self):
        return len(self._ends)

    def __getitem__(self, index):
        start = self._ends[index - 1] if index else 0
        return os.fsdecode(bytes(self._bytes[start : self._ends[index]]))

    def image(self, index, image_shape=None):
        """uint8 `[h, w, c]`, fitted to `image_shape`; or the Pillow image as it is.

        Raises:
            ValueError: saying which file is broken, and why.
        """
        name = self[index]
        try:
            image = decode(Path(self.root, name).read_bytes())
        except (ValueError, OSError) as error:
            raise BrokenFile(name, getattr(error, "strerror", None) or str(error)) from error
        return image if image_shape is None else fit(image, image_shape[:2], image_shape[2])

    def without(self, indices):
        """The files but these."""
        kept = np.setdiff1d(np.arange(len(self)), indices)
        labels = None if self.labels is None else self.labels[kept]
        return Files(self.root, (self[index] for index in kept), labels)


class BrokenFile(ValueError):
    """A file that cannot be decoded in full."""

    def __init__(self, name, reason):
        super().__init__(f"{name}: {reason}")


def find_files(folder, split):
    """The image files of one split, sorted by name, with their classes.

    Returns:
        `(files, class_names)`; class names are None where the images lie in the folder itself.
    """
    splits = _split_folders(folder)
    if not splits:
        check_only_split(split, str(folder))
        splits = {split: folder}
    elif split not in (*splits, "all"):
        raise NoSuchSplit(
            f"{folder} has the splits {', '.join(map(repr, [*splits, 'all']))}. "
            f"Received: split={split!r}"
        )
    found = {name: _walk(path) for name, path in splits.items()}
    class_names = _class_names(folder, splits, found)
    chosen = {name: found[name] for name in splits if split in (name, "all")}
    if not any(chosen.values()):
        raise ValueError(
            f"There is no image ({', '.join(EXTENSIONS)}) in the folder{_other_files(folder)}. "
            f"Received: source={str(folder)!r}, split={split!r}"
        )
    names = (
        os.path.normpath(os.path.join(os.path.relpath(splits[name], folder), file))
        for name, files in chosen.items()
        for file in files
    )
    return Files(folder, names, _labels(class_names, chosen.values())), class_names


def _labels(class_names, lists):
    """int32 `[n]`, the number of the folder that every name begins with."""
    if class_names is None:
        return None
    number = {name: index for index, name in enumerate(class_names)}
    labels = (number[file.split(os.sep, 1)[0]] for files in lists for file in files)
    return np.fromiter(labels, np.int32)


def _split_folders(folder):
    """The sub-folders by split, if these are all that the folder has."""
    subfolders = _subfolders(folder)
    if not subfolders or not all(name in SPLIT_NAMES for name in subfolders):
        return {}
    return {name: folder / name for name in SPLIT_NAMES if name in subfolders}


def _subfolders(folder):
    return sorted(
        entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != "."
    )


def _walk(folder):
    """Relative names of the image files below a folder, sorted; hidden ones are left out."""
    found = []
    for path, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        folders[:] = [name for name in folders if name[0] != "." and not _is_loop(path, name)]
        below = os.path.relpath(path, folder)
        found += [
            os.path.normpath(os.path.join(below, name))
            for name in files
            if name[0] != "." and name.lower().endswith(EXTENSIONS)
        ]
    found.sort()
    return found


def _raise(error):
    """A folder that cannot be read is not an empty one, which `os.walk` takes it for."""
    raise error


def _is_loop(path, name):
    """Whether a sub-folder is a link to a folder that it lies in."""
    here, there = os.path.realpath(path), os.path.realpath(os.path.join(path, name))
    return (here + os.sep).startswith(there + os.sep)


def _class_names(folder, splits, found):
    """The first folder of every name; the same for all splits, so that labels agree."""
    nested, loose = set(), []
    for file in itertools.chain(*found.values()):
        if os.sep in file:
            nested.add(file.split(os.sep, 1)[0])
        else:
            loose.append(file)
    if not nested:
        return None
    if loose:
        raise ValueError(
            "A folder must hold either images, or one sub-folder of images a class; this one has "
            f"{len(loose)} images ({loose[0]}, ...) beside the sub-folders "
            f"{', '.join(sorted(nested)[:5])}. Received: source={str(folder)!r}"
        )
    empty = {name for path in splits.values() for name in _subfolders(path)} - nested
    if empty:
        warnings.warn(
            f"Left out of the classes, for there is no image in them: {', '.join(sorted(empty))} "
            f"(in {folder}).",
            stacklevel=5,
        )
    return sorted(nested)


def _other_files(folder):
    extensions = {
        os.path.splitext(name)[1].lower() or name
        for _, _, names in os.walk(folder)
        for name in names
        if name[0] != "."
    }
    return f", only {', '.join(sorted(extensions)[:10])} files" if extensions else ""


class Scan:
    """What a look at all files found: `broken` {index: reason}, `sizes` (a Counter), `colour`."""

    def __init__(self):
        self.broken = {}
        self.sizes = collections.Counter()
        self.colour = False
        self._lock = threading.Lock()

    def add(self, image):
        with self._lock:
            self.sizes[image.height, image.width] += 1
            self.colour = self.colour or image.mode == "RGB"


def scan_files(files):
    """Decodes every file once, in full: only this finds a file that is cut off."""
    scan = Scan()

    def look(index):
        try:
            scan.add(files.image(index))
        except BrokenFile as error:
            scan.broken[index] = str(error)

    in_chunks(look, len(files))
    return scan


def _without_broken(files, broken, on_error):
    listing = "\n".join(f"  {broken[index]}" for index in sorted(broken))
    summary = f"{len(broken)} of {len(files)} files in {files.root} cannot be used:\n{listing}\n"
    if on_error == "raise":
        raise ValueError(
            f"{summary}Repair or remove them, or give `on_error='skip'`. "
            f"Received: source={files.root!r}"
        )
    if len(broken) == len(files):
        raise ValueError(f"{summary}No image is left. Received: source={files.root!r}")
    warnings.warn(f"{summary}They are skipped.", stacklevel=4)
    return files.without(list(broken))


def _image_shape(scan, folder, image_size, channels):
    if channels is None:
        channels = 3 if scan.colour else 1
    if image_size is not None:
        return (*image_size, channels)
    if len(scan.sizes) > 1:
        raise ValueError(
            f"The images differ in size (height x width): {describe_sizes(scan.sizes)}. Give "
            f"`image_size`. Received: source={str(folder)!r}, image_size=None"
        )
    return (*next(iter(scan.sizes)), channels)


def describe_sizes(sizes):
    """The ten commonest of a Counter of (height, width), in words."""
    common = [f"{height}x{width} ({n} images)" for (height, width), n in sizes.most_common(10)]
    more = len(sizes) - len(common)
    return ", ".join(common) + (f" and {more} other sizes" if more else "")
