"""Runs the model of `coupled` several times in one launch: ``models.py '[["bridge.yaml", "f8"], …]'``.

Rank 0 prints as JSON what each of them returned, which must be the same on all ranks.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from coupled import coupled

from halocline.mesh.communicator import world

comm = world()
results = [comm.allgather(coupled(comm, *words)) for words in json.loads(sys.argv[1])]
if comm.is_root:
    print("models:", json.dumps(results), flush=True)
