"""How much energy the graphics cards of this machine took, by the counters of their driver (NVML)."""

import ctypes
import time
from typing import Any

_LIBRARY = "libnvidia-ml.so.1"  # comes with the driver


def joules() -> float | None:
    """Return what all NVIDIA cards of this machine took since their driver was loaded; None where no driver tells.

    The counter of ``nvmlDeviceGetTotalEnergyConsumption``, in millijoules, which cards from Volta on have: unlike
    ``nvidia-smi``, which tells watts of an instant, nothing is missed between two readings.
    """
    try:
        nvml = ctypes.CDLL(_LIBRARY)
        if nvml.nvmlInit_v2():
            return None
        count, taken, total = ctypes.c_uint(), ctypes.c_ulonglong(), 0
        failed = nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))
        for number in range(count.value):
            card = ctypes.c_void_p()
            failed |= nvml.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(card))
            failed |= failed or nvml.nvmlDeviceGetTotalEnergyConsumption(card, ctypes.byref(taken))
            total += taken.value
        nvml.nvmlShutdown()
    except (OSError, AttributeError):  # no driver, or one of a time before these counters
        return None
    return None if failed or not count.value else total / 1000


class Meter:
    """Meters the cards from its making on; one that is not ``on`` never knows anything."""

    def __init__(self, on: bool = True) -> None:
        self._joules, self._begun = joules() if on else None, time.monotonic()

    def read(self, samples: int) -> dict[str, Any]:
        """Return, as plain JSON, the joules taken so far, in how many seconds and for how many samples; {} where unknown."""
        now = None if self._joules is None else joules()
        if self._joules is None or now is None or now < self._joules:  # less: the driver was loaded anew
            return {}
        taken, seconds = round(now - self._joules, 3), round(time.monotonic() - self._begun, 3)
        return {"energy": {"joules": taken, "seconds": seconds, "samples": samples, "how": "NVML"}}
