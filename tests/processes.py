"""Processes that run a script as `python script.py` does, but begin with TensorFlow imported."""

import multiprocessing
import os
import runpy
import signal
import sys
from pathlib import Path

# A process that has imported Keras and keras_gen and done nothing else; each script is a fork.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["keras", "keras_gen"])


class Script:
    """A script in a process of its own, a small part of `subprocess.Popen`.

    Args:
        command: path of the script and its arguments.
        environment: dict, beside what the tests have.
    """

    def __init__(self, command, environment=()):
        command = [str(part) for part in command]
        receiver, sender = _FORKS.Pipe(duplex=False)
        self._process = _FORKS.Process(target=_run, args=(sender, command, dict(environment)))
        self._process.start()
        sender.close()
        self.stdout = os.fdopen(os.dup(receiver.fileno()))
        receiver.close()

    def kill(self):
        self._process.kill()

    def wait(self, timeout=None):
        """The exit code; None when the process is still running after so many seconds."""
        self._process.join(timeout)
        return self._process.exitcode

    def communicate(self, timeout=None):
        """(What is left of the output, None); kills the process after so many seconds."""
        previous = signal.signal(signal.SIGALRM, lambda *_: self.kill())
        signal.alarm(timeout or 0)
        try:
            output = self.stdout.read()
            self.wait()
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, previous)
        self.stdout.close()
        return output, None

    @property
    def returncode(self):
        return self._process.exitcode


def _run(output, command, environment):
    os.environ.update(environment)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(output.fileno(), stream.fileno())
    sys.argv = command
    sys.path.insert(0, str(Path(command[0]).parent))
    runpy.run_path(command[0], run_name="__main__")
