"""GPUs as the test library plays them: two in full, the others as differences from them. None: NOT_SUPPORTED."""

from __future__ import annotations

from castbench.units import MIB

Setting = str | float | None
Model = dict[str, Setting]

A100: Model = {
    "name": "NVIDIA A100-SXM4-80GB",
    "uuid": "GPU-5b0a7d1e-0000-4000-8000-00000000000a",
    "compute_capability": "8.0",
    "memory_total_bytes": 81920 * MIB,
    "memory_reserved_bytes": 582 * MIB,
    "memory_used_bytes": 0,
    "ecc": 1,
    "mig": 0,
    "compute_mode": 0,
    "persistence": 1,
    "clock_sm_mhz": 1410,
    "clock_memory_mhz": 1593,
    "max_sm_mhz": 1410,
    # An A100 SXM ships with application clocks below its maximum and boosts past them all the same.
    "application_sm_mhz": 1275,
    "default_application_sm_mhz": 1275,
    "temperature_c": 34,
    "utilization_percent": 0,
    "power_w": 62,
    "power_limit_mw": 400_000,
    "power_default_mw": 400_000,
    # The sensor looks at the last 25 ms of every 100 ms; GA100 has no one-second average.
    "power_period_s": 0.1,
    "power_window_s": 0.025,
    "power_average_s": 0.025,
    "energy_base_j": 9_000_000,
    "energy_period_s": 0.1,
    "reasons": 0,
    "violations": 1,
    "slow.base_s": 100,
    "slow.power-cap": 0,
    "slow.sw-thermal": 0,
    "slow.hw-thermal": 0,
    "slow.power-brake": 0,
}

H100: Model = {
    **A100,
    "name": "NVIDIA H100 80GB HBM3",
    "uuid": "GPU-5b0a7d1e-0000-4000-8000-00000000000b",
    "compute_capability": "9.0",
    "memory_total_bytes": 81559 * MIB,
    "memory_reserved_bytes": 572 * MIB,
    "clock_sm_mhz": 1980,
    "clock_memory_mhz": 2619,
    "max_sm_mhz": 1980,
    "application_sm_mhz": 1980,
    "default_application_sm_mhz": 1980,
    "power_w": 71,
    "power_limit_mw": 700_000,
    "power_default_mw": 700_000,
    "power_average_s": 1.0,
}
"""Hopper's nvmlDeviceGetPowerUsage is a mean over one second; the field "instant" samples a quarter of the time."""

MIG_3G: Model = {
    "name": "NVIDIA H100 80GB HBM3 MIG 3g.40gb",
    "uuid": "MIG-5b0a7d1e-0000-4000-8000-0000000000b1",
    "memory_total_bytes": 40448 * MIB,
    "memory_reserved_bytes": 0,
    "memory_used_bytes": 37 * MIB,
}
MIG_2G: Model = {
    "name": "NVIDIA H100 80GB HBM3 MIG 2g.20gb",
    "uuid": "MIG-5b0a7d1e-0000-4000-8000-0000000000b2",
    "memory_total_bytes": 20096 * MIB,
    "memory_reserved_bytes": 0,
    "memory_used_bytes": 25 * MIB,
}

T4: Model = {
    **A100,
    "name": "Tesla T4",
    "uuid": "GPU-5b0a7d1e-0000-4000-8000-00000000000c",
    "compute_capability": "7.5",
    "memory_total_bytes": 15360 * MIB,
    "memory_reserved_bytes": 450 * MIB,
    "mig": None,
    "persistence": 0,
    "clock_sm_mhz": 585,
    "clock_memory_mhz": 5000,
    "max_sm_mhz": 1590,
    "application_sm_mhz": 585,
    "default_application_sm_mhz": 585,
    "temperature_c": 45,
    "power_w": 27,
    "power_limit_mw": 70_000,
    "power_default_mw": 70_000,
    "power_period_s": None,
    "energy_base_j": None,
    "energy_period_s": None,
    "field.269": 3,
    "field.270": 3,
    "field.271": 3,
}
"""Here without an energy counter and the newer slowdown counters, as under an old driver."""

L4: Model = {
    **H100,
    "name": "NVIDIA L4",
    "uuid": "GPU-5b0a7d1e-0000-4000-8000-00000000000d",
    "compute_capability": "8.9",
    "memory_total_bytes": 23034 * MIB,
    "memory_reserved_bytes": 460 * MIB,
    "mig": None,
    "clock_sm_mhz": 2040,
    "clock_memory_mhz": 6251,
    "max_sm_mhz": 2040,
    "application_sm_mhz": 2040,
    "default_application_sm_mhz": 2040,
    "power_w": 17,
    "power_limit_mw": 72_000,
    "power_default_mw": 72_000,
    "energy_period_s": 0.02,
}

GH200: Model = {
    **H100,
    "name": "NVIDIA GH200 480GB",
    "uuid": "GPU-5b0a7d1e-0000-4000-8000-00000000000e",
    "memory_total_bytes": 97871 * MIB,
    "power_w": 95,
    "power_limit_mw": 900_000,
    "power_default_mw": 900_000,
    "module_extra_w": 85,
}
"""Its energy counter and the power of scope "module" include the CPU and its memory."""

MODELS = {"A100": A100, "H100": H100, "T4": T4, "L4": L4, "GH200": GH200}
