"""tegrastats as seven boards print it. Lines are what users of those boards published; long lists of engines are kept, they hold the traps."""

from __future__ import annotations

import pytest

from edgeattn.targets.jetson.kit.tegrastats import parse

LINES = {
    "nano": (
        "RAM 1655/3956MB (lfb 311x4MB) SWAP 0/1978MB (cached 0MB) IRAM 0/252kB(lfb 252kB) CPU [14%@204,14%@204,10%@204,11%@204] "
        "EMC_FREQ 3%@1600 GR3D_FREQ 16%@76 APE 25 PLL@36C CPU@39C iwlwifi@44C PMIC@50C GPU@37C AO@47C thermal@38C "
        "POM_5V_IN 2247/2189 POM_5V_GPU 78/78 POM_5V_CPU 275/275"
    ),
    "tx2": (
        "RAM 3276/7859MB (lfb 5x4MB) SWAP 1626/12122MB (cached 181MB) CPU [44%@1421,49%@2031,67%@2034,17%@1420,25%@1419,8%@1420] "
        "EMC_FREQ 1%@1866 GR3D_FREQ 0%@114 APE 150 MTS fg 1% bg 1% PLL@42.5C MCPU@42.5C PMIC@50C Tboard@38C GPU@39.5C BCPU@42.5C "
        "thermal@41.3C Tdiode@39.25C VDD_SYS_GPU 182/182 VDD_SYS_SOC 730/730 VDD_4V0_WIFI 0/0 VDD_IN 5297/5297 VDD_SYS_CPU 1917/1917 "
        "VDD_SYS_DDR 1241/1241"
    ),
    "xavier-nx": (
        "RAM 4412/7772MB (lfb 237x4MB) SWAP 139/3886MB (cached 2MB) CPU [9%@1190,6%@1190,6%@1190,5%@1190,4%@1190,8%@1267] "
        "EMC_FREQ 10%@1600 GR3D_FREQ 62%@306 APE 150 MTS fg 0% bg 0% AO@41.5C GPU@43C PMIC@100C AUX@41.5C CPU@43.5C thermal@42.55C "
        "VDD_IN 4067/4067 VDD_CPU_GPU_CV 738/738 VDD_SOC 1353/1353"
    ),
    "agx-xavier": (
        "RAM 10881/31919MB (lfb 4230x4MB) SWAP 0/15959MB (cached 0MB) CPU [17%@1190,17%@1190,18%@1190,25%@1190,off,off,23%@1543,15%@1574] "
        "EMC_FREQ 55%@2133 GR3D_FREQ 95%@1377 APE 150 MTS fg 0% bg 10% AO@48C GPU@54.5C Tdiode@53.25C PMIC@100C AUX@46C CPU@49C "
        "thermal@49.45C Tboard@47C GPU 18401/18525 CPU 2301/2330 SOC 4602/4602 CV 0/0 VDDRQ 2914/2911 SYS5V 4632/4620"
    ),
    "orin-nano": (
        "06-18-2025 11:25:24 RAM 3452/7620MB (lfb 25x4MB) SWAP 1518/16384MB (cached 174MB) CPU [1%@1420,2%@1420,0%@1420,2%@1420,2%@729,1%@729] "
        "GR3D_FREQ 0% cpu@50.031C soc2@49.031C soc0@50C gpu@49.031C tj@50.25C soc1@50.25C "
        "VDD_IN 4824mW/4824mW VDD_CPU_GPU_CV 518mW/518mW VDD_SOC 1475mW/1475mW"
    ),
    "agx-orin": (
        "04-24-2023 00:01:24 RAM 1282/62795MB (lfb 15152x4MB) SWAP 0/31398MB (cached 0MB) CPU [0%@729,0%@729,0%@729,0%@729,0%@729,0%@729,"
        "0%@729,0%@729,0%@729,0%@729,0%@729,0%@729] EMC_FREQ 0%@2133 GR3D_FREQ 0%@0 GR3D2_FREQ 0%@0 VIC_FREQ 729 APE 174 CV0@-256C "
        "CPU@42.593C Tboard@32C SOC2@39.343C Tdiode@33.25C SOC0@39.375C CV1@-256C GPU@-256C tj@42.593C SOC1@40.468C CV2@-256C "
        "VDD_GPU_SOC 2399mW/2399mW VDD_CPU_CV 400mW/400mW VIN_SYS_5V0 4032mW/4032mW NC 0mW/0mW VDDQ_VDD2_1V8AO 301mW/301mW NC 0mW/0mW"
    ),
    "agx-orin, JetPack 7": (
        "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201,10%@2201,4%@2201,14%@2201,30%@2201,18%@2201,10%@2201,10%@2201,"
        "33%@2201,7%@2201,5%@2201,27%@2201] EMC_FREQ 3%@3199 GR3D_FREQ 12%@[1300,1300] NVENC0 off NVDEC0 off NVJPG0 off NVJPG1 off VIC off "
        "OFA off NVDLA0 off NVDLA1 off PVA0_FREQ off APE 174 cpu@52.968C/52.968C soc2@48.406C/48.406C soc0@49.531C/49.531C "
        "gpu@47.625C/47.625C VDD_GPU_SOC 5139mW/5139mW/5139mW VDD_CPU_CV 3268mW/3268mW/3268mW VIN_SYS_5V0 5500mW/5500mW/5500mW"
    ),
    "thor": (
        "07-23-2026 15:29:26 RAM 9101/125811MB (lfb 19x4MB) SWAP 0/2048MB (cached 0MB) CPU [39%@2160,20%@2160,16%@1944,15%@1944,17%@972,"
        "15%@972,19%@2214,22%@2214,13%@2430,20%@2430,26%@972,19%@972,15%@1836,22%@1836] EMC_FREQ 7%@3200 GR3D_FREQ @[314,314,314] "
        "NVENC0_FREQ @1556 NVENC1_FREQ @1556 NVDEC0_FREQ @1556 NVDEC1_FREQ @1556 NVJPG0_FREQ @1556 VIC 59%@423 OFA_FREQ @1556 PVA0_FREQ off "
        "APE 300 cpu@34.843C/34.843C tj@35.906C/35.906C soc012@34.437C/34.437C gpu@35.906C/35.906C soc345@34.406C/34.406C "
        "VDD_GPU 4925mW/4925mW/4925mW VDD_CPU_SOC_MSS 8710mW/8710mW/8710mW VIN_SYS_5V0 6767mW/6767mW/6767mW"
    ),
}
RAILS = {
    "nano": {"POM_5V_IN": 2247, "POM_5V_GPU": 78, "POM_5V_CPU": 275},
    "tx2": {"VDD_SYS_GPU": 182, "VDD_SYS_SOC": 730, "VDD_4V0_WIFI": 0, "VDD_IN": 5297, "VDD_SYS_CPU": 1917, "VDD_SYS_DDR": 1241},
    "xavier-nx": {"VDD_IN": 4067, "VDD_CPU_GPU_CV": 738, "VDD_SOC": 1353},
    "agx-xavier": {"GPU": 18401, "CPU": 2301, "SOC": 4602, "CV": 0, "VDDRQ": 2914, "SYS5V": 4632},
    "orin-nano": {"VDD_IN": 4824, "VDD_CPU_GPU_CV": 518, "VDD_SOC": 1475},
    "agx-orin": {"VDD_GPU_SOC": 2399, "VDD_CPU_CV": 400, "VIN_SYS_5V0": 4032, "VDDQ_VDD2_1V8AO": 301},
    "agx-orin, JetPack 7": {"VDD_GPU_SOC": 5139, "VDD_CPU_CV": 3268, "VIN_SYS_5V0": 5500},
    "thor": {"VDD_GPU": 4925, "VDD_CPU_SOC_MSS": 8710, "VIN_SYS_5V0": 6767},
}
GPU = {
    "nano": (16, [76], 37.0),
    "tx2": (0, [114], 39.5),
    "xavier-nx": (62, [306], 43.0),
    "agx-xavier": (95, [1377], 54.5),
    "orin-nano": (0, [], None),
    "agx-orin": (0, [0, 0], None),
    "agx-orin, JetPack 7": (12, [1300, 1300], None),
    "thor": (None, [314, 314, 314], None),
}
CORES = {"nano": 4, "tx2": 6, "xavier-nx": 6, "agx-xavier": 8, "orin-nano": 6, "agx-orin": 12, "agx-orin, JetPack 7": 12, "thor": 14}


@pytest.mark.parametrize("name", LINES)
def test_a_line_is_read_whole(name):
    found = parse(LINES[name])
    load, clocks, temperature = GPU[name]
    assert found["rails"] == RAILS[name]
    assert (found["gpu_load"], found["gpu_mhz"]) == (load, clocks)
    assert found["temperatures"].get("GPU") == temperature
    assert len(found["cpu"]) == CORES[name]
    assert found["ram_mb"][1] == int(LINES[name].split("RAM ")[1].split("/")[1].split("MB")[0])
    assert found["ram_mb"][0] < found["ram_mb"][1]


def test_traps():
    xavier, orin = parse(LINES["agx-xavier"]), parse(LINES["agx-orin"])
    assert xavier["cpu"][4] is None and xavier["cpu"][0] == [17, 1190], "a core switched off is not a core at 0 %"
    assert xavier["temperatures"]["GPU"] == 54.5 and xavier["rails"]["GPU"] == 18401, "GPU@54.5C is a temperature, GPU 18401/18525 a rail"
    assert not [value for value in orin["temperatures"].values() if value < 0], "-256C is a sensor that is off"
    assert parse(LINES["agx-orin, JetPack 7"])["swap_mb"] is None
    assert parse(LINES["thor"])["temperatures"]["soc012"] == 34.437
    assert parse("") == {"ram_mb": None, "swap_mb": None, "cpu": [], "gpu_load": None, "gpu_mhz": [], "temperatures": {}, "rails": {}}
    assert parse("VDD_GPU -392mW/-392mW VIN 28548mW")["rails"] == {"VDD_GPU": -392, "VIN": 28548}
