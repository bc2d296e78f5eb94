"""A file over its type's limit holds if the base loses as much in the same type, on the same texts."""

from __future__ import annotations

import dataclasses

import pytest
from gguf_models import PROMPTS, exported, needs_llama

from gdpo.export.formats import FORMATS, limit_beside
from gdpo.export.pipeline import export_gguf
from gdpo.export.report import judge
from gdpo.export.verify import FileCheck
from gdpo.policies.policy import Policy


def test_the_limit_beside_the_base_of_hand_worked_cases():
    assert limit_beside("Q8_0", "fp32", 1e-4) == 0.005  # never less than the type's own
    assert limit_beside("Q8_0", "fp32", 0.004) == pytest.approx(0.008)  # twice what the base loses
    assert limit_beside("Q8_0", "fp32", 0.1) == pytest.approx(
        0.02
    )  # and never more than four times
    assert limit_beside("Q8_0", "bf16", 0.1) == pytest.approx(0.028)


@pytest.mark.parametrize(("base_kl", "holds"), [(None, False), (0.001, False), (0.006, True)])
def test_a_file_over_its_limit_is_judged_beside_the_base(base_kl, holds):
    check = FileCheck(0.0077, 0.95, 300, (), (), base_kl)
    found, why = judge("Q8_0", "fp32", check, {"Q8_0": 5})
    assert found is holds
    assert "KL" in why
    assert ("the base" in why) == (base_kl is not None)
    other = FileCheck(0.0077, 0.95, 300, ("another chat template",), (), base_kl)
    assert judge("Q8_0", "fp32", other, {"Q8_0": 5})[0] is False
    assert judge("Q8_0", "fp32", FileCheck(0.03, 0.95, 300, (), (), 0.1), {"Q8_0": 5})[0] is False


@needs_llama
def test_the_base_is_quantised_only_where_a_file_is_over_its_limit(tmp_path, monkeypatch):
    policy, types = exported().policy, ("Q8_0", "Q4_0")
    before = export_gguf(policy, tmp_path / "a", "m", types=types, prompts=PROMPTS)
    assert [file.report.base_kl for file in before] == [None, None]
    lost = before[1].report.kl
    assert lost is not None
    tight = lost / 2
    monkeypatch.setitem(FORMATS, "Q4_0", dataclasses.replace(FORMATS["Q4_0"], max_kl=tight))
    after = export_gguf(policy, tmp_path / "b", "m", types=types, prompts=PROMPTS)
    assert after[0].report.base_kl is None
    assert after[1].report.kl == pytest.approx(lost)
    base = after[1].report.base_kl
    assert base is not None
    assert tight / 4 < base < 8 * tight
    assert after[1].report.holds is True
    assert "what Q4_0 costs: the base alone loses" in after[1].report.why
    assert {path.suffix for path in (tmp_path / "b").iterdir()} == {".gguf", ".json"}
    (alone,) = export_gguf(
        Policy(policy.base), tmp_path / "c", "m", types=["Q4_0"], prompts=PROMPTS
    )
    assert alone.report.base_kl in {None, alone.report.kl}
    assert alone.report.holds is True
