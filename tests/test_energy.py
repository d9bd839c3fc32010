"""Electricity and CO2: metered by the driver's counters, else estimated."""

import os
import subprocess
import sys

import pytest

from kit.evaluation.decide import decide
from kit.reporting.energy import energy
from kit.serving import meter
from kit.trust import ledger
from tests.evaluations import Oracle, make_answer, make_cases, sealed_run
from tests.test_qpd import made, sample

SECONDS = [sample(number, 1) for number in range(10)]  # 1.5 s each


def test_estimated_from_time_and_watts(tmp_path):
    found = energy(made(tmp_path, {"candidate": SECONDS}), {"candidate": SECONDS})["candidate"]
    assert found.kwh == pytest.approx(1.5 * 100 * 1.5 * 1000 / 3.6e6)  # 0.0625
    assert found.kg_co2 == pytest.approx(0.025) and (found.metered, found.grade) == (False, "C")


def test_metered_joules_go_to_the_arms_by_their_time(tmp_path):
    arms = {"baseline": [sample(n, 1) for n in range(4)], "candidate": [sample(n, 1) for n in range(4)]}
    arms["candidate"] = [type(s)(s.case, s.state, 4.5, s.yen, s.scores) for s in arms["candidate"]]
    facts = {"energy": {"joules": 2400.0, "seconds": 24.0, "samples": 8, "how": "NVML"}, "mode": "throughput"}
    found = energy(made(tmp_path, arms, **facts), arms)
    assert found["candidate"].kwh == pytest.approx(300 * 1.5 * 1.5 * 1000 / 3.6e6) and found["candidate"].metered
    assert found["candidate"].kwh == pytest.approx(3 * found["baseline"].kwh)


@pytest.mark.parametrize("facts", [{"external": True}, {"mode": "throughput"}, {"prices": None}])
def test_nothing_is_told_of_what_is_not_known(tmp_path, facts):
    assert energy(made(tmp_path, {"candidate": SECONDS}, **facts), {"candidate": SECONDS}) == {}


def test_the_sessions_of_a_run_add_up_and_stand_in_the_ledger(tmp_path, monkeypatch):
    counter = iter((100.0, 160.0, 1000.0, 1040.0))
    monkeypatch.setattr("kit.evaluation.evaluate.server.running", lambda: object())
    monkeypatch.setattr(meter, "joules", lambda: next(counter))
    cases = make_cases(3)
    replies = {case.question: make_answer("1日", completion_tokens=7, prompt_tokens=30) for case in cases}
    with pytest.raises(KeyboardInterrupt):
        sealed_run(tmp_path, cases, {"candidate": Oracle(cases, replies | {"Q3": KeyboardInterrupt()})}, workers=1)
    evaluation = sealed_run(tmp_path, cases, {"candidate": Oracle(cases, replies)}, workers=1)
    facts = decide(evaluation).facts
    assert (facts["energy"]["joules"], facts["energy"]["samples"], facts["energy"]["how"]) == (100.0, 3, "NVML")
    assert facts["tokens"] == {"candidate": [90, 21]}
    assert ledger.find(tmp_path / ledger.NAME, "stopped")[0].content["energy"]["joules"] == 60.0


def test_no_server_of_ours_no_reading(tmp_path, monkeypatch):
    monkeypatch.setattr(meter, "joules", lambda: pytest.fail("read"))
    evaluation = sealed_run(tmp_path, make_cases(1), {"candidate": Oracle(make_cases(1))}, workers=1)
    assert "energy" not in decide(evaluation).facts and meter.Meter(False).read(1) == {}


def test_a_driver_that_was_loaded_anew_is_not_believed(monkeypatch):
    counter = iter((50.0, 3.0))
    monkeypatch.setattr(meter, "joules", lambda: next(counter))
    assert meter.Meter().read(1) == {}


DRIVER = """
static unsigned long long taken[] = {%s};
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = sizeof taken / sizeof *taken; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned at, void **card) { *card = &taken[at]; return 0; }
int nvmlDeviceGetTotalEnergyConsumption(void *card, unsigned long long *millijoules) { *millijoules = *(unsigned long long *)card; return %d; }
"""


@pytest.mark.parametrize(("cards", "code", "told"), [("5000000000123ULL, 2000", 0, "5000000002.123"), ("1", 3, "None")])
def test_the_counters_are_read_through_a_library_of_c(tmp_path, cards, code, told):
    source = tmp_path / "driver.c"
    source.write_text(DRIVER % (cards, code), encoding="ascii")
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "libnvidia-ml.so.1", source], check=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    script = "from kit.serving.meter import joules; print(joules())"
    said = subprocess.run([sys.executable, "-c", script], env=os.environ | {"LD_LIBRARY_PATH": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=True)
    assert said.stdout.strip() == told
