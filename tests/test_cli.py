"""The command line: one JSON object on stdout, one sentence on stderr, the documented exit codes."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from edgeattn.cli import main


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_verify_prints_one_json_object_and_exits_zero(ecg_bundle):
    result = run("verify", ecg_bundle, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["ok"] is True


def test_verify_of_a_damaged_bundle_exits_one_and_names_the_file(bundle_copy):
    (bundle_copy / "model.onnx").write_bytes(b"x")
    result = run("verify", bundle_copy, "--json")
    assert result.exit_code == 1
    checks = json.loads(result.stdout)["checks"]
    assert "model.onnx" in checks[0]["detail"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["verify", "nothing.edge"], 2, "nothing.edge does not exist"),
        (["compile", "nothing.pt"], 2, "nothing.pt cannot be read"),
        (["devices", "jetson-orin-nan"], 2, "jetson-orin-nano"),
        (["models", "train", "ecg_net"], 2, "ecg_nat"),
        (["compile", "x.pt", "--input", "x=abc"], 2, "--input"),
        (["compile", "x.pt", "--recipe", "none.yaml"], 2, "none.yaml"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_wrong_use_exits_two_with_one_sentence(arguments, code, message):
    result = run(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_missing_package_exits_three_and_says_how_to_get_it(ecg_weights, monkeypatch):
    import sys

    for name in [name for name in sys.modules if name.startswith(("edgeattn.compiler", "edgeattn.dense", "edgeattn.candidates"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "onnx_ir", None)
    result = run("compile", ecg_weights)
    assert result.exit_code == 3
    assert "pip install 'edgeattn[compile]'" in result.stderr.replace("\n", " ")


def test_bench_saves_its_figures_as_evidence(bundle_copy):
    result = run("bench", bundle_copy, "--runs", 5, "--save", "--json")
    assert result.exit_code == 0
    kept = json.loads((bundle_copy / "evidence" / "bench.json").read_text())
    assert kept == json.loads(result.stdout)
    assert run("verify", bundle_copy).exit_code == 0


def test_inspect_shows_the_contract(ecg_bundle):
    plain = json.loads(run("inspect", ecg_bundle, "--json").stdout)
    assert plain["inputs"][0]["shape"] == ["batch", 256, 1]
    assert "float32" in run("inspect", ecg_bundle).stdout


def test_devices_lists_aliases_and_shows_the_source_of_every_figure():
    plain = json.loads(run("devices", "--json").stdout)
    assert plain["aliases"]["jetson"] == "jetson-orin-nano"
    assert "Data Sheet" in run("devices", "jetson-orin-nano").stdout
    assert "cpu stands for" in run("devices", "cpu").stdout


def test_models_lists_the_zoo():
    names = {model["name"] for model in json.loads(run("models", "--json").stdout)["models"]}
    assert {"ecg_nat", "rpattention", "ister"} <= names


def test_doctor_is_content_here():
    result = run("doctor", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["ok"]


def test_tables_are_printed_for_people(ecg_bundle):
    assert "verified" in run("verify", ecg_bundle).stdout
    assert "p99" in run("bench", ecg_bundle, "--runs", 5).stdout
