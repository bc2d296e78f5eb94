"""Export to GGUF on real parts: peft merge, llama.cpp's converter, its quantiser and its runtime."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_model, make_tokenizer
from gguf_models import (
    LLAMA3_RULE,
    PROMPTS,
    REWARDS,
    change_json,
    copied,
    exported,
    model_folder,
    needs_converter,
    needs_llama,
    tuned,
    with_split,
)
from rounding import same_scores

from gdpo.errors import ExportError
from gdpo.export import converter
from gdpo.export.checks import plan_export
from gdpo.export.convert_worker import pre_tokenizer_type
from gdpo.export.formats import DIRECT_TYPES, EXPORT_TYPES
from gdpo.export.material import gather, reference_logits
from gdpo.export.merge import full_precision, save_merged
from gdpo.export.model_checks import row_lengths
from gdpo.export.pipeline import export_gguf
from gdpo.export.report import judge
from gdpo.export.verify import FileCheck, compare_file, divergence, tensor_types
from gdpo.policies.adapter import Adapter
from gdpo.policies.loading import load_policy
from gdpo.policies.policy import Policy, attached
from gdpo.progress import Progress


class Interrupt(Exception):
    """What a host raises to stop."""


class StopAt(Progress):
    """Raises as soon as a phase begins whose name starts with `name`."""

    def __init__(self, name: str) -> None:
        self.name, self.reached = name, False

    def phase(self, name: str, done: int, total: int) -> None:
        self.reached |= name.startswith(self.name)

    def poll(self) -> None:
        if self.reached:
            raise Interrupt


def logits_of(policy: Policy):
    material = gather(policy, PROMPTS, Progress())
    with attached(policy) as model:
        return material, reference_logits(model, material, Progress())


# --- what the exported files are ------------------------------------------------------------------


@needs_llama
def test_every_exported_type_holds_and_loses_more_with_fewer_bits():
    reports = {kind: file.report for kind, file in exported().files.items()}
    assert all(report.holds is True for report in reports.values())
    assert reports["F16"].kl <= 1e-3
    assert reports["F16"].top1 > 0.98
    assert reports["F16"].kl < reports["Q8_0"].kl < reports["Q4_K_M"].kl
    assert reports["F16"].positions > 100


@needs_llama
def test_files_have_their_types_and_reports_and_nothing_else_is_left():
    files = exported().files
    names = {f"tiny-{kind}.gguf{end}" for kind in files for end in ("", ".json")}
    assert {path.name for path in exported().folder.iterdir()} == names
    for kind, main in (("F16", "F16"), ("Q8_0", "Q8_0"), ("Q4_K_M", "Q4_K")):
        file = files[kind]
        assert (
            json.loads(Path(f"{file.path}.json").read_text(encoding="utf-8"))
            == file.report.to_json()
        )
        assert file.report.tensor_types == tensor_types(file.path)
        assert file.report.tensor_types[main] > 10
        assert file.report.bytes == file.path.stat().st_size


@needs_llama
def test_rewards_of_the_f16_file_are_those_of_the_policy():
    # Greedy answers of nearly equal distributions are equal, so the means are too.
    rewards = exported().files["F16"].report.rewards
    assert set(rewards) == {reward.name for reward in REWARDS}
    for means in rewards.values():
        assert means["gguf"] == pytest.approx(means["policy"], abs=1e-6)


@needs_llama
def test_a_file_with_the_adapter_does_not_hold_against_the_base_alone(tmp_path):
    base = Policy(exported().policy.base)
    material, reference = logits_of(base)
    file = exported().files["F16"]
    found = compare_file(file.path, base, material, reference, tmp_path, Progress())
    holds, why = judge("F16", "fp32", found, file.report.tensor_types)
    assert found.kl > 0.01
    assert holds is False
    assert "distributions differ" in why


@needs_llama
def test_changed_weights_are_noticed(tmp_path):
    material, reference = logits_of(exported().policy)
    data = bytearray(exported().files["F16"].path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 60_000] = bytes(60_000)  # zeros: about 3 % of the weights
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(data)
    found = compare_file(damaged, exported().policy, material, reference, tmp_path, Progress())
    assert judge("F16", "fp32", found, {"F16": 1})[0] is False


@needs_llama
def test_a_truncated_file_is_an_error_with_llama_cpps_reason(tmp_path):
    material, reference = logits_of(exported().policy)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(exported().files["F16"].path.read_bytes()[:-100_000])
    with pytest.raises(
        ExportError, match=r"cut\.gguf cannot be loaded: .*not within the file bounds"
    ):
        compare_file(cut, exported().policy, material, reference, tmp_path, Progress())


@needs_llama
def test_a_file_with_another_tokenizer_is_refused_with_both_tokenisations(tmp_path):
    policy = exported().policy
    fewer = make_tokenizer(300)  # fewer merges: other tokens for the same text
    other = dataclasses.replace(policy, base=dataclasses.replace(policy.base, tokenizer=fewer))
    material, reference = logits_of(other)
    with pytest.raises(ExportError, match=r"tokenises .* differently: .*\[.*\].* gives \[.*\]"):
        compare_file(exported().files["F16"].path, other, material, reference, tmp_path, Progress())


@needs_llama
def test_another_chat_template_does_not_hold(tmp_path):
    policy = exported().policy
    changed = make_tokenizer()
    changed.chat_template = changed.chat_template.replace("assistant\n", "assistant:")
    other = dataclasses.replace(policy, base=dataclasses.replace(policy.base, tokenizer=changed))
    material, reference = logits_of(other)
    path = exported().files["F16"].path
    found = compare_file(path, other, material, reference, tmp_path, Progress())
    holds, why = judge("F16", "fp32", found, {"F16": 1})
    assert holds is False
    assert "chat template renders" in why


def test_divergence_of_a_hand_worked_case():
    # p = (3/4, 1/4), q = (1/2, 1/2): KL = 3/4 ln(3/2) + 1/4 ln(1/2) = 0.13081; a second position with
    # p = q adds 0. The likeliest token is equal where q prefers token 0 as well: here a tie goes to 0.
    reference = [torch.tensor([[math.log(3.0), 0.0], [0.0, 2.0]])]
    logits = np.array([[0.0, 0.0], [0.0, 2.0]], dtype=np.float32)
    kl, top1 = divergence(reference, logits)
    assert kl == pytest.approx((0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2)
    assert top1 == 1.0


def test_a_kl_that_is_no_number_or_a_fallen_back_type_does_not_hold():
    nan = FileCheck(math.nan, 0.0, 10, (), ())
    assert judge("F16", "fp32", nan, {"F16": 5})[0] is False
    good = FileCheck(1e-3, 0.9, 10, (), ())
    assert judge("Q4_K_M", "fp32", good, {"Q4_K": 5, "F32": 2})[0] is True
    holds, why = judge("Q4_K_M", "fp32", good, {"Q5_0": 5, "F32": 2})
    assert holds is False
    assert "no Q4_K tensor but Q5_0, F32" in why


def test_a_file_whose_likeliest_tokens_differ_does_not_hold():
    holds, why = judge("Q8_0", "fp32", FileCheck(1e-3, 0.5, 10, (), ()), {"Q8_0": 5})
    assert holds is False
    assert "50% of the positions only, under 75%" in why


# --- merging ---------------------------------------------------------------------------------------


@needs_llama
def test_a_4_bit_base_is_merged_in_full_precision(tmp_path):
    pytest.importorskip("bitsandbytes")
    folder = model_folder()
    quantised = load_policy(folder, precision="nf4", device="cpu")
    policy = Policy(quantised.base, exported().policy.adapter)
    (file,) = export_gguf(policy, tmp_path / "gguf", "nf4", types=["F16"])
    assert file.report.holds is True
    # The same adapter on the fp32 base is the reference: nothing of the 4 bits is left.
    material, reference = logits_of(exported().policy)
    found = compare_file(file.path, exported().policy, material, reference, tmp_path, Progress())
    assert found.kl <= 1e-3


def test_the_merged_folder_is_the_trained_model_and_the_policy_stays_as_it_was(tmp_path):
    base = load_policy(model_folder(), device="cpu")
    policy = tuned(base)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad(), attached(policy) as model:
        wanted = model(ids).logits
    with attached(full_precision(policy, model_folder(), "fp32")) as model:
        save_merged(model, model_folder(), tmp_path)
    merged = load_policy(tmp_path, device="cpu").base
    with torch.no_grad():
        same_scores(merged.model(ids).logits, wanted, merged.model)
        assert not torch.allclose(base.base.model(ids).logits, wanted, atol=1e-2)
    for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
        assert (tmp_path / name).read_bytes() == (model_folder() / name).read_bytes()


# --- converting ------------------------------------------------------------------------------------


@needs_converter
def test_a_split_rule_that_llama_cpp_does_not_know_is_named(tmp_path):
    policy = load_policy(with_split(copied(tmp_path), r"\p{L}+|[^\p{L}]"), device="cpu")
    with pytest.raises(ExportError, match=r"no name for the tokenizer's split rule .*L\}\+"):
        export_gguf(policy, tmp_path / "gguf", "m", types=["F16"])
    assert not list((tmp_path / "gguf").iterdir())


def test_split_rules_get_llama_cpps_names():
    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    digits = {"type": "Digits", "individual_digits": True}
    silent = level | {"use_regex": False}
    llama3 = {"type": "Split", "pattern": {"Regex": LLAMA3_RULE}}
    qwen2 = {"type": "Split", "pattern": {"Regex": LLAMA3_RULE.replace("{1,3}", "")}}

    def name(*parts: dict, **model: object) -> str | None:
        top = {"type": "Sequence", "pretokenizers": list(parts)} if len(parts) > 1 else parts[0]
        return pre_tokenizer_type({"pre_tokenizer": top, "model": model})

    assert name(level) == "gpt-2"
    assert name(digits, level) == "smollm"
    assert name(llama3, silent) == "smaug-bpe"
    assert name(llama3, silent, ignore_merges=True) == "llama-bpe"
    assert name(qwen2, silent) == "qwen2"
    assert name(level | {"add_prefix_space": True}) is None
    assert name(llama3, level) is None  # it would split twice
    assert pre_tokenizer_type({}) is None


# --- what is refused before work starts --------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"types": ["Q9_X"]}, r"`types` should be of F32, .*Found 'Q9_X'"),
        ({"types": []}, r"`types` is empty; choose from F32"),
        ({"name": "../up"}, r"`name` should be a plain file name .*Found '\.\./up'"),
        ({"name": ""}, r"`name` should be a plain file name .*Found ''"),
    ],
)
def test_bad_arguments_are_refused_and_name_the_value(tmp_path, changes, message):
    policy = load_policy(model_folder(), device="cpu")
    with pytest.raises(ExportError, match=message):
        export_gguf(policy, tmp_path / "gguf", **({"name": "m", "types": ["F16"]} | changes))
    assert not (tmp_path / "gguf").exists()


def test_an_existing_file_is_never_overwritten(tmp_path):
    policy = load_policy(model_folder(), device="cpu")
    (tmp_path / "m-Q8_0.gguf").write_bytes(b"precious")
    with pytest.raises(ExportError, match=r"m-Q8_0\.gguf' exists and is never overwritten"):
        export_gguf(policy, tmp_path, "m", types=["F16", "Q8_0"])
    assert (tmp_path / "m-Q8_0.gguf").read_bytes() == b"precious"
    assert [path.name for path in tmp_path.iterdir()] == ["m-Q8_0.gguf"]


@needs_converter
@pytest.mark.parametrize(
    ("width", "kind", "message"),
    [
        (
            176,
            "Q4_K_M",
            r"Q4_K_M .*256, but intermediate_size is 176, .*these fit: F32, F16, BF16\.$",
        ),
        (176, "Q8_0", r"Q8_0 .*multiples of 32.*176.*these fit: F32, F16, BF16\.$"),
        (352, "IQ4_XS", r"IQ4_XS .*352.*these fit: .*Q8_0, Q5_0, IQ4_NL, Q4_0\.$"),
    ],
)
def test_rows_that_do_not_fit_a_type_are_named_with_the_types_that_do(
    tmp_path, width, kind, message
):
    folder = make_model(tmp_path / "model", hidden_size=256, intermediate_size=width)
    policy = load_policy(folder, device="cpu")
    with pytest.raises(ExportError, match=message):
        plan_export(policy, tmp_path / "gguf", "m", [kind])
    assert plan_export(policy, tmp_path / "gguf", "m", ["F16"]).direct == ("F16",)


def test_row_lengths_are_read_from_any_familys_configuration():
    from transformers import GPT2Config, LlamaConfig

    llama = LlamaConfig(hidden_size=256, intermediate_size=512, num_attention_heads=4, head_dim=32)
    assert row_lengths(llama) == {
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_attention_heads * head_dim": 128,
    }
    assert row_lengths(GPT2Config(n_embd=96, n_inner=384)) == {
        "hidden_size": 96,
        "intermediate_size": 384,
    }


@needs_converter
def test_experts_that_llama_cpp_would_normalise_wrongly_are_refused(tmp_path):
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    tokenizer = make_tokenizer()
    sizes = dict.fromkeys(("hidden_size", "intermediate_size", "moe_intermediate_size"), 32)
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
    for normalises in (False, True):
        config = Qwen3MoeConfig(
            **sizes,
            **heads,
            num_hidden_layers=1,
            num_experts=4,
            num_experts_per_tok=2,
            norm_topk_prob=normalises,
            vocab_size=len(tokenizer),
        )
        Qwen3MoeForCausalLM(config).save_pretrained(tmp_path / str(normalises))
        tokenizer.save_pretrained(tmp_path / str(normalises))
    with pytest.raises(ExportError, match=r"norm_topk_prob=False, which llama\.cpp ignores"):
        plan_export(load_policy(tmp_path / "False", device="cpu"), tmp_path, "m", ["F16"])
    plan_export(load_policy(tmp_path / "True", device="cpu"), tmp_path, "m", ["F16"])


@needs_converter
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architectures": ["NovelForCausalLM"]},
            r"does not know the architecture 'NovelForCausalLM'",
        ),
        ({"quantization_config": {"quant_method": "gptq"}}, r"is itself quantised \(gptq\)"),
    ],
)
def test_models_that_cannot_be_converted_are_refused(tmp_path, changes, message):
    folder = copied(tmp_path)
    policy = load_policy(folder, device="cpu")
    change_json(folder / "config.json", **changes)
    with pytest.raises(ExportError, match=message):
        export_gguf(policy, tmp_path / "gguf", "m", types=["F16"])
    assert not (tmp_path / "gguf").exists()


@needs_converter
def test_an_adapter_that_is_no_lora_is_refused(tmp_path):
    base = load_policy(model_folder(), device="cpu")
    policy = Policy(base.base, Adapter({"peft_type": "PROMPT_TUNING"}, {}))
    with pytest.raises(ExportError, match=r"Only LoRA adapters .*'PROMPT_TUNING'"):
        plan_export(policy, tmp_path, "m", ["F16"])


@needs_converter
def test_a_full_disk_is_noticed_beforehand(tmp_path, monkeypatch):
    policy = load_policy(model_folder(), device="cpu")
    usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ExportError, match=r"takes about .* GB .* has 0\.0 GB free"):
        export_gguf(policy, tmp_path / "gguf", "m", types=["F16"])
    assert not (tmp_path / "gguf").exists()


@needs_converter
def test_without_llama_cpp_python_only_direct_types_can_be_written(tmp_path, monkeypatch):
    policy = load_policy(model_folder(), device="cpu")
    monkeypatch.setattr("gdpo.export.checks.runtime_version", lambda: None)
    with pytest.raises(ExportError, match=r"Q4_K_M needs llama-cpp-python.*pip install llama-cpp"):
        plan_export(policy, tmp_path, "m", ["F16", "Q4_K_M"])
    assert set(plan_export(policy, tmp_path, "m", DIRECT_TYPES).targets) == set(DIRECT_TYPES)


@needs_converter
def test_without_llama_cpp_python_a_file_is_written_unverified_and_says_so(tmp_path, monkeypatch):
    policy = load_policy(model_folder(), device="cpu")
    monkeypatch.setattr("gdpo.export.pipeline.runtime_version", lambda: None)
    (file,) = export_gguf(policy, tmp_path / "gguf", "m", types=["Q8_0"], prompts=PROMPTS)
    assert file.path.is_file()
    assert file.report.holds is None
    assert file.report.kl is None
    assert "pip install llama-cpp-python" in file.report.why


# --- interrupts --------------------------------------------------------------------------------------


@needs_llama
@pytest.mark.parametrize("phase", ["Merge", "Convert", "Quantise"])
def test_an_interrupt_leaves_nothing_behind(tmp_path, phase):
    policy = exported().policy
    stop = StopAt(phase)
    with pytest.raises(Interrupt):
        export_gguf(
            policy, tmp_path, "m", types=["F16", "Q4_0"], prompts=PROMPTS[:1], progress=stop
        )
    assert stop.reached
    assert not list(tmp_path.iterdir())


# --- where the converter comes from -------------------------------------------------------------------


def test_the_users_checkout_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv("GDPO_LLAMA_CPP", str(tmp_path))
    with pytest.raises(converter.ConverterError, match=r"has no convert_hf_to_gguf\.py"):
        converter.find_converter()
    (tmp_path / "convert_hf_to_gguf.py").touch()
    assert converter.find_converter() == tmp_path


def test_a_missing_converter_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv("GDPO_LLAMA_CPP", raising=False)
    monkeypatch.setattr(converter, "_roots", lambda: [tmp_path])
    with pytest.raises(converter.ConverterError, match=r"install\.py` once, or set GDPO_LLAMA_CPP"):
        converter.find_converter()
    version = converter.runtime_version() or converter.DEFAULT_VERSION
    (tmp_path / version).mkdir()
    (tmp_path / version / "convert_hf_to_gguf.py").touch()
    assert converter.find_converter() == tmp_path / version
    assert converter.fetch_converter(tmp_path) == tmp_path / version  # there: nothing is downloaded


def make_archive(path: Path, names: list[str]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = 2
            tar.addfile(entry, io.BytesIO(b"x\n"))
    return path


def test_only_the_converter_is_unpacked(tmp_path):
    top = "llama_cpp_python-1/vendor/llama.cpp"
    wanted = ["convert_hf_to_gguf.py", "LICENSE", "conversion/llama.py", "gguf-py/gguf/a/b.py"]
    other = ["src/llama.cpp", "models/v.gguf", "conversion/x.bin", "tools/convert_hf_to_gguf.py"]
    archive = make_archive(tmp_path / "a.tar.gz", [f"{top}/{name}" for name in wanted + other])
    converter._unpack(archive, tmp_path / "out")
    files = {path for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert files == {tmp_path / "out" / top / name for name in wanted}


def test_an_archive_cannot_write_outside_its_folder(tmp_path):
    evil = "x/vendor/llama.cpp/conversion/../../../../../evil.py"
    archive = make_archive(tmp_path / "a.tar.gz", [evil])
    with pytest.raises(tarfile.OutsideDestinationError):
        converter._unpack(archive, tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("evil.py"))


def test_the_menu_of_types_holds_what_was_promised():
    assert EXPORT_TYPES[:4] == DIRECT_TYPES
    assert {"Q6_K", "Q5_K_M", "Q4_K_M", "Q4_0", "IQ4_XS", "Q3_K_M", "Q2_K"} <= set(EXPORT_TYPES)


def test_a_base_that_changed_since_the_training_is_refused(tmp_path):
    folder = make_model(tmp_path / "base", hidden_size=256)
    policy = load_policy(folder, device="cpu")
    make_model(folder, seed=1, hidden_size=256)
    with pytest.raises(ExportError, match="has changed since it was loaded"):
        export_gguf(policy, tmp_path / "gguf", "changed", types=("F16",))
    assert not list((tmp_path / "gguf").glob("*"))
