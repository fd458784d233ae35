"""What was found in parts of an input by several processes is counted as that of one."""

import os
import pickle
import subprocess
import sys

from features.tweets.findings import Findings

PROGRAM = """
import pickle, sys
from features.tweets.findings import Findings
found = Findings()
for identity in sys.argv[1:]:
    found.saw_id(identity)
sys.stdout.buffer.write(pickle.dumps(found))
"""


def found_by(seed, *ids):
    return pickle.loads(
        subprocess.run(
            [sys.executable, "-c", PROGRAM, *ids],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
        ).stdout
    )


def test_ids_of_other_processes_are_the_same_ids():
    """Python hashes text in another way in each process."""
    together = Findings()
    for part in (found_by("1", "a", "b", "a"), found_by("2", "b", "c", "\u00fc")):
        together.add(part)
    assert together.doubled_ids == 2
