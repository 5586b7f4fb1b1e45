"""Running a bundle: right inputs give the reference's answers, wrong ones a sentence that names the input."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import edgeattn
from edgeattn.errors import InputError
from edgeattn.runtime.golden import FILE, unpack_golden
from edgeattn.runtime.manifest import TensorSpec
from edgeattn.runtime.session import SMALL, _InputCheck


@pytest.fixture(scope="module")
def session(ecg_bundle):
    return edgeattn.load(ecg_bundle)


@pytest.fixture(scope="module")
def golden(session):
    return unpack_golden(session.bundle.read(FILE))


def test_the_golden_inputs_give_the_golden_outputs(session, golden):
    outputs = session.run(x=golden.inputs["x"])
    np.testing.assert_allclose(outputs["scores"], golden.artifact["scores"], atol=1e-5)


def test_one_sample_gives_what_it_gives_in_a_batch(session, golden):
    alone = session.run(golden.inputs["x"][:1])["scores"]
    np.testing.assert_allclose(alone[0], golden.artifact["scores"][0], atol=1e-4)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the operating system has no affinity of processes")
def test_computing_threads_keep_to_the_cores_of_the_process(ecg_bundle):
    code = (
        "import glob, os, sys; core = max(os.sched_getaffinity(0)); os.sched_setaffinity(0, {core});"
        "import edgeattn; from edgeattn.runtime.golden import queries_of; session = edgeattn.load(sys.argv[1], threads=2);"
        "session.run(**queries_of(session.bundle)[0]);"
        "allowed = {os.sched_getaffinity(int(task.rsplit('/')[-1])) == {core} for task in glob.glob('/proc/self/task/*')}; print(allowed)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(ecg_bundle)], capture_output=True, text=True, check=True).stdout.strip() == "{True}"


def test_threads_may_share_a_session(session, golden):
    results = [None] * 8

    def work(index):
        results[index] = session.run(x=golden.inputs["x"][index : index + 1])["scores"][0]

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]
    np.testing.assert_allclose(np.stack(results), golden.artifact["scores"][:8], atol=1e-4)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "missing x"),
        ({"y": np.zeros((1, 256, 1), np.float32)}, "unknown y"),
        ({"x": np.zeros((1, 256, 1))}, "x is float64.*float32"),
        ({"x": [1, 2, 3]}, "x is list"),
        ({"x": np.zeros((1, 255, 1), np.float32)}, r"x has shape \(1, 255, 1\).*batch, 256, 1"),
        ({"x": np.zeros((256, 1), np.float32)}, "x has shape"),
        ({"x": np.zeros((0, 256, 1), np.float32)}, "x has shape"),
    ],
)
def test_a_wrong_input_is_named(session, inputs, message):
    with pytest.raises(InputError, match=message):
        session.run(**inputs)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_found_with_its_place(session, bad):
    x = np.zeros((2, 256, 1), np.float32)
    x[1, 17, 0] = bad
    with pytest.raises(InputError, match=r"x holds .* at \(1, 17, 0\)"):
        session.run(x=x)


def test_opposite_infinities_do_not_hide_each_other(session):
    x = np.zeros((1, 256, 1), np.float32)
    x[0, 3, 0], x[0, 4, 0] = np.inf, -np.inf
    with pytest.raises(InputError, match="2 such values"):
        session.run(x=x)


@pytest.mark.parametrize("elements", [SMALL, SMALL + 1])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_one_value_that_is_no_number_is_found_in_an_input_of_any_size(elements, dtype):
    check = _InputCheck(TensorSpec(name="x", shape=(elements,), dtype=dtype))
    x = np.full(elements, np.finfo(dtype).max)
    check(x, {})
    x[-1] = np.nan
    with pytest.raises(InputError, match=rf"x holds nan at \({elements - 1},\)"):
        check(x, {})


def test_large_finite_values_are_not_mistaken_for_infinity(session):
    x = np.full((1, 256, 1), 3e38, np.float32)
    session.run(x=x)


def test_threads_below_one_are_refused(ecg_bundle):
    with pytest.raises(InputError, match="threads"):
        edgeattn.load(ecg_bundle, threads=0)
