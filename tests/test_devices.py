"""devices.yaml: every figure has a source, and what is malformed is found with file, line and field."""

from __future__ import annotations

import pytest

from edgeattn.devices import VARIABLE, catalogue, find_device, read_devices
from edgeattn.errors import InputError

GOOD = "devices:\n  mine:\n    target: cpu\n    description: my board\n"


def read(tmp_path, text):
    path = tmp_path / "devices.yaml"
    path.write_text(text)
    return read_devices(path)


def test_the_promised_devices_are_there():
    names = set(catalogue().devices)
    assert {"x86-avx2", "x86-avx512-vnni", "arm64", "raspberry-pi-4", "raspberry-pi-5"} <= names
    assert {"jetson-nano", "jetson-tx2", "jetson-xavier-nx", "jetson-agx-xavier", "jetson-orin-nano", "jetson-orin-nx"} <= names
    assert {"jetson-agx-orin", "jetson-thor", "spinnaker-3", "spinnaker-5", "spinnaker-virtual"} <= names


def test_every_figure_names_its_source():
    for device in catalogue().devices.values():
        figures = [device.memory_bytes, device.bandwidth_bytes_per_s, *device.peak_ops_per_s.values(), *device.extra.values()]
        assert all(len(figure.source) > 10 for figure in figures if figure is not None)


def test_every_jetson_has_its_software_lines_and_rails():
    for device in catalogue().devices.values():
        if device.target == "jetson":
            assert device.rails
            assert all({"jetpack", "tensorrt", "cuda", "python", "opset"} <= set(line) for line in device.software)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "    coresx: 3\n", ":5: devices.mine: .*coresx"),
        (GOOD + "    cores: three\n", r":5: devices.mine.cores: Expected `int"),
        ("devices:\n  mine:\n    target: cpu\n", ":2: devices.mine: .*description"),
        (GOOD + "    memory_bytes: {value: 1.0, source: nobody}\n", ":5: devices.mine.memory_bytes: source 'nobody'"),
        (GOOD + "    memory_bytes: {value: much, source: x}\n", ":5: devices.mine.memory_bytes.value: Expected `float`"),
        (GOOD + "    target: jetson\n", ":5: devices.mine.target: given twice"),
        (GOOD + "aliases:\n  cpu: [nowhere]\n", ":6: aliases.cpu: no device is called 'nowhere'"),
        (GOOD + "gadgets: {}\n", ":5: gadgets: unknown section"),
        ("devices: [1\n", "not valid YAML"),
        ("devices: 3\n", ":1: devices: a mapping"),
        ("", ":1: devices: a mapping"),
    ],
)
def test_a_malformed_entry_is_found_with_file_line_and_field(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, text)
    assert "devices.yaml" in str(caught.value)


def test_a_users_file_adds_and_replaces_devices(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(GOOD + "aliases:\n  cpu: [mine]\n")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine.yaml"))
    assert find_device("cpu")[0].name == "mine"
    assert find_device("jetson-nano")[0].target == "jetson"
