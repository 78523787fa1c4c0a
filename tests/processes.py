"""Processes that run a script and start with TensorFlow imported.

Importing it takes a new interpreter several times as long as a tiny training. These are forks of
one that has done so and nothing else; each starts TensorFlow's runtime of its own.
"""

import multiprocessing
import os
import runpy
import sys
import threading

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["keras_gen", "tests.conformance.cases"])


class ForkedScript:
    """`python <script> <arguments>`, with the part of `subprocess.Popen` that the tests use.

    Args:
        command: list, the script and its arguments.
        env: dict, variables of the environment to set.

    Attributes:
        stdout: lines of text, of both its output and its errors.
    """

    def __init__(self, command, env):
        reader, writer = CONTEXT.Pipe(duplex=False)
        arguments = [str(part) for part in command]
        self._process = CONTEXT.Process(target=_run, args=(arguments, env, writer), daemon=True)
        self._process.start()
        writer.close()
        self.stdout = os.fdopen(os.dup(reader.fileno()), encoding="utf-8")
        self.kill = self._process.kill

    @property
    def returncode(self):
        return self._process.exitcode

    def wait(self):
        self._process.join()
        return self.returncode

    def communicate(self, timeout=150):
        """The rest of its output, and None; kills it after `timeout` seconds."""
        alarm = threading.Timer(timeout, self.kill)
        alarm.start()
        output = "" if self.stdout.closed else self.stdout.read()
        self.stdout.close()
        self.wait()
        alarm.cancel()
        return output, None


def _run(command, env, writer):
    os.environ.update(env)
    for stream in (1, 2):
        os.dup2(writer.fileno(), stream)
    writer.close()
    sys.stdout = os.fdopen(1, "w", buffering=1, encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", closefd=False)
    sys.argv = command
    sys.path.insert(0, os.path.dirname(command[0]))
    runpy.run_path(command[0], run_name="__main__")
