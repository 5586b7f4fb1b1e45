"""Does the front end find the hand on a large sensor? python benchmarks/saliency.py [SAMPLES]"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from edgeattn.models.fingerspelling import recordings
from edgeattn.models.registry import find
from edgeattn.models.saliency import cut_out, region
from edgeattn.models.sign_language import SIDE, STEPS
from edgeattn.runtime.events import frames

SENSORS = ((180, 240), (260, 346))


def main(count: int) -> None:
    """Distance of the region's middle from the hand's, and the sign network's accuracy on what is cut out there."""
    module = find("sign_language").module()
    print("| sensor | middle of the region | distance from the hand, pixels: median, 90 % | points |\n| --- | --- | --- | --- |")
    spent = []
    for sensor in SENSORS:
        events, labels, centres = recordings(count, 7, sensor)
        found = []
        for one in events:
            start = time.perf_counter()
            found.append(region(one, sensor, STEPS))
            spent.append(time.perf_counter() - start)
        medians = [(np.median(one["y"]), np.median(one["x"])) for one in events]
        for label, places in {"the hand itself": centres, "most salient place": np.array(found), "median of all events": np.array(medians)}.items():
            distance = np.hypot(*(places - centres).T)
            cut = [cut_out(one, sensor, (round(y), round(x)), SIDE, SIDE) for one, (y, x) in zip(events, places.tolist(), strict=True)]
            with torch.no_grad():
                counts = module(torch.from_numpy(np.stack([frames(one, (SIDE, SIDE), STEPS) for one in cut])))
            points = 100 * np.mean(counts.argmax(1).numpy() == labels)
            print(f"| {sensor[1]} x {sensor[0]} | {label} | {np.median(distance):.1f}, {np.percentile(distance, 90):.1f} | {points:.1f} |")
    print(f"\n{count} recordings a sensor; one region takes {1000 * np.median(spent):.0f} ms (median).")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
