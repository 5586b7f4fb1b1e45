"""Memory that is freed and kept is not faulted in again."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import resource, numpy as np
from edgeattn.models.memory import keep_freed_memory
{first}
np.ones(8_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    np.ones(8_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what mallopt sets is glibc's")
def test_kept_memory_is_not_faulted_in_again():
    usual, kept = (
        int(subprocess.run([sys.executable, "-c", CODE.format(first=first)], capture_output=True, text=True, check=True).stdout)
        for first in ("", "keep_freed_memory()")
    )
    assert kept < usual / 4
