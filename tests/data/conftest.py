import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def tfds_dir(shared_data):
    return shared_data / "tfds"


@pytest.fixture
def fruits(shared_data):
    return shared_data / "images" / "fruits"


@pytest.fixture
def save():
    """Writes an image file, making its folder."""

    def write(path, image, **options):
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(image, np.ndarray):
            image = Image.fromarray(image)
        image.save(path, **options)
        return path

    return write


@pytest.fixture
def numbered():
    """`numbered(n)`: grey 4x4 images, image i being all i, labelled i."""

    def make(count, channels=1):
        values = np.arange(count, dtype=np.uint8)
        images = np.broadcast_to(values[:, None, None, None], (count, 4, 4, channels))
        return np.ascontiguousarray(images), np.arange(count)

    return make
