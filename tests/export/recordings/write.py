"""Writes letter.aedat4, 1,000 events of a generated Y with dv-processing 2.0.4: python write.py (edgeattn and dv-processing installed)."""

from pathlib import Path

import dv_processing as dv
import numpy as np

START = 1_700_000_000_000_000  # us, as cameras count

events = np.load("letter.npy")[:1000]  # edgeattn.models.fingerspelling.recordings(1, seed=7)[0][0]
config = dv.io.MonoCameraWriter.EventOnlyConfig("EDGEATTN", (48, 48), dv.CompressionType.LZ4)
writer = dv.io.MonoCameraWriter(str(Path(__file__).with_name("Y") / "letter.aedat4"), config)
store = dv.EventStore()
for event in events:
    store.push_back(int(event["t"]) + START, int(event["x"]), int(event["y"]), bool(event["p"]))
writer.writeEvents(store)
