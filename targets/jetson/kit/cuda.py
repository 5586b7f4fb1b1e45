"""The few calls of the CUDA runtime that an engine needs, through ctypes: the board's libcudart and nothing to install."""

import ctypes
from typing import Any, Optional, Tuple

import numpy as np

from .errors import KitError

LIBRARIES = ("libcudart.so", "libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so.10.2", "/usr/local/cuda/lib64/libcudart.so")
TO_DEVICE, TO_HOST = 1, 2  # cudaMemcpyKind
MAJOR, MINOR = 75, 76  # cudaDevAttrComputeCapabilityMajor, Minor


def open_library() -> Any:
    """The board's CUDA runtime; raises KitError where there is none."""
    for name in LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise KitError("libcudart, the CUDA runtime, is missing: sudo apt install nvidia-jetpack (or cuda-cudart of your JetPack).")


class Cuda:
    """Memory, copies and one stream. Every call that fails raises KitError with CUDA's own words."""

    def __init__(self, library: Optional[Any] = None) -> None:
        self.library = library if library is not None else open_library()
        self.library.cudaGetErrorString.restype = ctypes.c_char_p
        stream = ctypes.c_void_p()
        self._call("cudaStreamCreate", ctypes.byref(stream))
        self.stream = stream.value or 0

    def capability(self) -> str:
        """Compute capability of the first GPU, such as 8.7."""
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("cudaDeviceGetAttribute", ctypes.byref(major), MAJOR, 0)
        self._call("cudaDeviceGetAttribute", ctypes.byref(minor), MINOR, 0)
        return "{}.{}".format(major.value, minor.value)

    def memory(self) -> Tuple[int, int]:
        """(free, total) bytes."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cudaMemGetInfo", ctypes.byref(free), ctypes.byref(total))
        return free.value, total.value

    def allocate(self, size: int) -> int:
        """The address of `size` bytes on the device."""
        pointer = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(max(size, 1)))
        return int(pointer.value or 0)

    def free(self, address: int) -> None:
        self._call("cudaFree", ctypes.c_void_p(address))

    def to_device(self, address: int, array: np.ndarray) -> None:
        self._copy(address, array.ctypes.data, array.nbytes, TO_DEVICE)

    def to_host(self, array: np.ndarray, address: int) -> None:
        self._copy(array.ctypes.data, address, array.nbytes, TO_HOST)

    def wait(self) -> None:
        """Returns when everything in the stream is done."""
        self._call("cudaStreamSynchronize", ctypes.c_void_p(self.stream))

    def _copy(self, target: int, source: int, size: int, kind: int) -> None:
        arguments = ctypes.c_void_p(target), ctypes.c_void_p(source), ctypes.c_size_t(size), ctypes.c_int(kind), ctypes.c_void_p(self.stream)
        self._call("cudaMemcpyAsync", *arguments)

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self.library, name)(*arguments)
        if status != 0:
            reason = self.library.cudaGetErrorString(status)
            text = reason.decode("utf-8", "replace") if reason else "unknown"
            raise KitError("{} failed with CUDA error {} ({}).".format(name, status, text))
