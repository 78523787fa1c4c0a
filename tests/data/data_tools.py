"""TFDS builders made on the spot."""

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered


def make_builder(folder, name, examples, features, splits=("train",)):
    """Writes a prepared TFDS set called `name` with these examples in every split.

    The code is not registered: whoever reads the set has nothing but the files.
    """
    with registered.skip_registration():

        class MadeSet(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")
            RELEASE_NOTES = {}
            pkg_dir_path = None

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(features),
                    disable_shuffling=True,
                )

            def _split_generators(self, dl_manager):
                return {split: self._generate_examples() for split in splits}

            def _generate_examples(self):
                yield from enumerate(examples)

    MadeSet.name = name
    builder = MadeSet(data_dir=str(folder))
    builder.download_and_prepare()
    return builder


def numbered_builder(folder, count):
    """The set `numbered`: grey 4x4 images, image i being all i, labelled i."""
    examples = [
        {"image": np.full((4, 4, 1), number, np.uint8), "label": number} for number in range(count)
    ]
    features = {
        "image": tfds.features.Image(shape=(4, 4, 1)),
        "label": tfds.features.ClassLabel(num_classes=count),
    }
    return make_builder(folder, "numbered", examples, features)
