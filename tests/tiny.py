"""A preset that trains in milliseconds.

As a script it is the command ``python -m training.fit`` with this preset in its table, for tests in
a process of their own; after ``--die-at N`` it is killed while it writes its N-th checkpoint, and
after ``--stop-at N`` it is asked to stop by its N-th, and takes a while for all that follow.
"""

import os
import signal
import sys
import time

from srpipe.models import MODELS
from training import checkpoint

OPTIONS = {**MODELS["eagcl"].presets["lite"], "merfs": 1, "width": 16, "growth": 8}


def dying(at):
    real, count = checkpoint.save, [0]

    def save(path, recipe, parts):
        count[0] += 1
        if count[0] == at:
            path.with_name(path.name + ".part").write_bytes(b"half of a")
            os.kill(os.getpid(), signal.SIGKILL)
        real(path, recipe, parts)

    return save


def stopping(at):
    real, count = checkpoint.save, [0]

    def save(path, recipe, parts):
        count[0] += 1
        if count[0] == at:
            os.kill(os.getpid(), signal.SIGTERM)
        elif count[0] > at:
            time.sleep(9)  # Lightning looks every 5 s whether a process has ended
        real(path, recipe, parts)

    return save


ENDS = {"--die-at": dying, "--stop-at": stopping}

if __name__ == "__main__":
    from training.fit import main

    MODELS["eagcl"].presets["tiny"] = OPTIONS
    words = sys.argv[1:]
    if words[0] in ENDS:
        checkpoint.save = ENDS[words[0]](int(words[1]))
        words = words[2:]
    sys.exit(main(words))
