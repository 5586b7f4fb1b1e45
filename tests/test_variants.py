"""Several forms of one network in a bundle: each gated, each verified, and the one that is fastest on the device taken from then on."""

from __future__ import annotations

import importlib.util
import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

import edgeattn
from edgeattn.cli import main
from edgeattn.errors import BundleError, InputError
from edgeattn.models.registry import find
from edgeattn.plots import Point, front, pareto
from edgeattn.runtime import cache, tune, tuned
from edgeattn.runtime.bundle import Bundle
from edgeattn.runtime.manifest import seal
from edgeattn.runtime.tune import Row, choose
from edgeattn.runtime.verify import session_here

WEIGHTS = find("rpattention").weights
LIMIT = 0.8  # MB: two forms in float32 have more
X = np.random.default_rng(0).random((1, 8, 8), np.float32)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    return edgeattn.compile(WEIGHTS, variants=3, size_limit=LIMIT, output=tmp_path_factory.mktemp("variants") / "a.edge")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """Nothing is remembered from one test to the next."""
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path / "kept"))


@pytest.fixture
def bundle(compiled):
    return compiled.bundle


def test_each_variant_passed_the_gate_and_verifies(compiled):
    plain = compiled.to_json()
    delivered = [candidate for candidate in plain["candidates"] if candidate["delivered"]]
    assert len(delivered) == 3 and all(candidate["passed"] for candidate in delivered)
    assert {candidate["variant"] for candidate in delivered} == set(compiled.manifest.forms())
    result = edgeattn.verify(compiled.bundle)
    assert result.ok
    for name in list(compiled.manifest.forms())[1:]:
        assert any(check.name == f"{name}: golden vectors" for check in result.checks)


def test_every_engine_that_is_here_has_a_variant(compiled):
    engines = {form.engine for form in compiled.manifest.forms().values()}
    assert engines == {"onnxruntime", *(["openvino"] if importlib.util.find_spec("openvino") else [])}


def test_each_form_alone_computes_nearly_the_same(bundle):
    outputs = [session_here(form).run(x=X)["scores"] for form in Bundle.open(bundle).forms().values()]
    for other in outputs[1:]:
        assert np.linalg.norm(other - outputs[0]) < 0.1 * np.linalg.norm(outputs[0])


def test_a_changed_variant_is_refused_by_name(bundle, tmp_path):
    copy = shutil.copytree(bundle, tmp_path / "copy.edge")
    path = next((copy / "variants").rglob("model.onnx"))
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(BundleError, match="model.onnx was changed"):
        edgeattn.load(copy)


def test_a_bundle_of_the_first_schema_is_still_read(ecg_bundle, tmp_path):
    copy = shutil.copytree(ecg_bundle, tmp_path / "old.edge")
    plain = json.loads((copy / "manifest.json").read_bytes())
    del plain["variant"], plain["variants"]
    sealed = seal({**plain, "schema": 1})
    (copy / "manifest.json").write_bytes(sealed)
    index = json.loads((copy / "evidence" / "index.json").read_bytes())
    (copy / "evidence" / "index.json").write_bytes(seal({**index, "manifest": cache.hashlib.sha256(sealed).hexdigest()}))
    assert edgeattn.verify(copy).ok


def test_a_size_limit_holds_for_all_variants_together(bundle):
    opened = Bundle.open(bundle)
    assert sum(len(opened.files[form.artifact]) for form in opened.manifest.forms().values()) <= 1e6 * LIMIT


def test_where_nothing_fits_the_smallest_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing that passes fits into 0\.01 MB: the smallest, fp32, has 0\.4"):
        edgeattn.compile(WEIGHTS, precision="fp32", size_limit=0.01, output=tmp_path / "b.edge")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variants": 0}, "--variants must be at least 1"),
        ({"size_limit": -1.0}, "--size-limit positive"),
        ({"variants": 2, "precision": "int8"}, "leave --precision and --recipe out"),
        ({"variants": 2, "target": "jetson-orin-nano"}, "'auto' is not one of"),
    ],
)
def test_wrong_options_are_named(options, message, tmp_path):
    with pytest.raises(InputError, match=message):
        edgeattn.compile(WEIGHTS, output=tmp_path / "b.edge", **options)


def test_tune_measures_every_form_and_load_takes_the_choice(bundle, monkeypatch):
    monkeypatch.setattr(tune, "choose", lambda rows: max(rows, key=lambda row: (row.threads, row.variant)))
    result = edgeattn.tune(bundle, seconds=0.5, threads=2)
    assert {row.variant for row in result.rows} == set(Bundle.open(bundle).manifest.forms())
    session = edgeattn.load(bundle)
    assert (session.manifest.variant, session.threads) == (result.variant, result.threads)
    assert edgeattn.load(bundle, threads=1).threads == 1
    assert edgeattn.bench(bundle, runs=3).variant == result.variant


def test_what_tune_takes_is_the_best_of_the_rows_it_shows(bundle):
    result = edgeattn.tune(bundle, seconds=0.5, threads=2)
    shown = {(row.variant, row.threads): row.ms for row in result.rows}
    assert len(shown) == len(result.rows)
    assert {variant for variant, threads in shown if threads == 1} == set(Bundle.open(bundle).manifest.forms())
    assert {threads for _, threads in shown} == {1, 2}
    assert shown[result.variant, result.threads] <= (1 + tune.NEAR) * min(shown.values())


def test_tune_measures_once_until_an_engine_changes(bundle, monkeypatch):
    first = edgeattn.tune(bundle, seconds=0.2, threads=1)
    assert not first.remembered
    assert edgeattn.tune(bundle, seconds=0.2, threads=1).remembered
    assert not edgeattn.tune(bundle, seconds=0.2, threads=1, again=True).remembered
    choice = tuned.recall(Bundle.open(bundle).manifest)
    tuned.remember(Bundle.open(bundle).manifest, tuned.Choice(choice.variant, 1, dict.fromkeys(choice.engines, "another 1.0")))
    assert not edgeattn.tune(bundle, seconds=0.2, threads=1).remembered


def test_another_engine_version_than_the_tuned_one_is_said_and_not_taken(bundle):
    manifest = Bundle.open(bundle).manifest
    other = list(manifest.forms())[1]
    tuned.remember(manifest, tuned.Choice(other, 2, dict.fromkeys(("onnxruntime", "openvino"), "another 1.0")))
    with pytest.warns(UserWarning, match=r"was tuned with another 1\.0.*edgeattn tune"):
        session = edgeattn.load(bundle)
    assert (session.manifest.variant, session.threads) == (manifest.variant, 1)


def test_a_variant_that_fails_its_golden_vectors_here_is_not_taken(bundle, monkeypatch):
    own = Bundle.open(bundle).manifest.variant
    real = tune.check_golden

    def failing(session):
        parity, checks = real(session)
        return parity, [type(check)(check.name, session.manifest.variant != own, "differs here") for check in checks]

    monkeypatch.setattr(tune, "check_golden", failing)
    result = edgeattn.tune(bundle, seconds=0.2, threads=1)
    assert result.variant != own
    assert next(row for row in result.rows if row.variant == own).ms is None


def test_a_variant_whose_instructions_are_lacking_is_left_out(bundle, monkeypatch):
    monkeypatch.setattr("edgeattn.runtime.verify.isa_flags", lambda: ())
    others = list(Bundle.open(bundle).manifest.forms().items())[1:]
    left_out = {check.name for check in edgeattn.verify(bundle).checks if check.name.endswith(": left out")}
    assert left_out == {f"{name}: left out" for name, form in others if form.isa}


def test_where_nothing_can_be_remembered_tune_says_so(bundle, monkeypatch):
    monkeypatch.setenv(cache.VARIABLE, "")
    assert any("cannot be remembered" in note for note in edgeattn.tune(bundle, seconds=0.2, threads=1).notes)


@pytest.mark.parametrize("options", [{"seconds": 0.0}, {"threads": 0}])
def test_tuning_without_time_or_threads_is_wrong_use(bundle, options):
    with pytest.raises(InputError, match="positive time"):
        edgeattn.tune(bundle, **options)


def test_the_command_prints_one_object_and_a_table(bundle):
    result = CliRunner().invoke(main, ["tune", str(bundle), "--seconds", "0.2", "--threads", "1", "--json"])
    assert result.exit_code == 0
    assert set(json.loads(result.stdout)) == {"variant", "threads", "remembered", "rows", "cpu", "notes"}
    shown = CliRunner().invoke(main, ["tune", str(bundle), "--seconds", "0.2", "--threads", "1"])
    assert "remembered" in shown.stdout


def test_fewer_threads_win_where_more_bring_little():
    rows = [Row("a", "e", 1, 1.04), Row("a", "e", 2, 1.0), Row("b", "e", 1, 1.02), Row("c", "e", 1, None, "missing")]
    assert choose(rows) == rows[2]
    assert choose([Row("a", "e", 1, 1.5), Row("a", "e", 2, 1.0)]).threads == 2


def test_the_front_holds_what_nothing_beats_in_everything():
    fast, small, exact = Point("fast", 1, 9, 0.1), Point("small", 5, 1, 0.1), Point("exact", 5, 9, 0.0)
    beaten = Point("beaten", 6, 9, 0.1)
    assert front([fast, beaten, small, exact]) == [fast, small, exact]


def test_the_candidates_are_plotted_in_the_evidence(bundle):
    drawn = (bundle / "evidence" / "candidates.svg").read_text()
    assert "int8" in drawn and "relative error" in drawn
    points = [Point("a", 1, 2, 0.1), Point("b", 2, 1, 0.2)]
    assert pareto(points) == pareto(points)
