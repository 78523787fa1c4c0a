"""The command line's own start: without TensorFlow's notes on the machine.

The library imports TensorFlow with its first module, before `keras_gen.cli` can do anything about
it, and TensorFlow's C++ writes its first notes whatever TF_CPP_MIN_LOG_LEVEL says. The command line
says its errors in one line of stderr; programs that use the library keep all notes.
"""

import contextlib
import logging
import os
import sys
import tempfile


def is_command_line():
    """Whether this process is `keras-gen` or `python -m keras_gen.cli`."""
    program = os.path.basename(sys.argv[0]) if sys.argv else ""
    return program in ("keras-gen", "keras-gen.exe") or "keras_gen.cli" in sys.orig_argv


@contextlib.contextmanager
def quiet_command_line():
    """Keeps stderr for what fails: of the command line, unless TF_CPP_MIN_LOG_LEVEL is 0 or 1."""
    if not is_command_line() or os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2") < "2":
        yield
        return
    with tempfile.TemporaryFile() as kept:
        stderr = os.dup(2)
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(stderr, kept.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
    logging.getLogger("absl").setLevel(logging.ERROR)  # TensorFlow's and TFDS's warnings
