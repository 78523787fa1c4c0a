"""Set up before TensorFlow starts: quiet logs, XLA that compiles fast rather than well, and two
logical CPUs for the distribution tests."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("MPLBACKEND", "Agg")
if "PYTEST_XDIST_WORKER" in os.environ:  # the threads of several workers would wait for each other
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # on all processors alike; 1 is to pass as well

from pathlib import Path

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure(config):
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return  # the process that hands the tests out
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
    )
    # Going through all living graphs, again and again, took the collector a sixth of the time.
    gc.freeze()
    gc.disable()


@pytest.fixture(autouse=True)
def collected():
    """Frees graphs that are no longer used, once so many objects have come."""
    yield
    if gc.get_count()[0] > 4_000_000:
        gc.collect()


@pytest.fixture
def shared_data():
    """The folder of real data beside the project; skips where there is none."""
    if not SHARED_DATA.is_dir():
        pytest.skip("needs the data folder ../shared/data beside the project")
    return SHARED_DATA


@pytest.fixture(autouse=True)
def float32_policy():
    """Whatever a test sets, the next one begins with Keras's default precision."""
    import keras

    keras.config.set_dtype_policy("float32")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.fixture(scope="session")
def two_replicas():
    """A strategy of two replicas on two logical CPUs.

    One for all tests: TensorFlow numbers the reductions of each MirroredStrategy from the same
    start, and a second strategy in a process would meet the shapes that the first one registered.
    """
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
