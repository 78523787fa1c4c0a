"""What the benchmarks share: repeats in turn, medians, Markdown tables."""

import statistics
import time


def interleaved(functions, repeats):
    """Seconds of each function, run in turn `repeats` times after one run that does not count.

    Args:
        functions: dict from name to a function without arguments.
        repeats: int.

    Returns:
        dict from name to a list of seconds.
    """
    seconds = {name: [] for name in functions}
    for function in functions.values():
        function()
    for _ in range(repeats):
        for name, function in functions.items():
            begin = time.perf_counter()
            function()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def median(values):
    return statistics.median(values)


def table(header, rows):
    """A Markdown table; the first column is text, the others are numbers or text."""
    lines = ["| " + " | ".join(header) + " |", "| --- " + "| --: " * (len(header) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])
