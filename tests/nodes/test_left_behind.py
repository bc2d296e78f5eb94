"""What a training and an import leave behind: nothing but their result."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from collections import Counter

import torch
from loaded_pack import ROOT, call, submodule
from node_training import TINY, train

host = submodule("nodes.comfy.host")
progress = submodule("nodes.comfy.progress")
paths = submodule("nodes.checks.paths")
errors = submodule("gdpo.errors")
runs = submodule("gdpo.runs.choose")
policies = submodule("gdpo.policies.policy")
bases = submodule("gdpo.policies.base")
runtime = submodule("gdpo.llamacpp.runtime")
rewards = submodule("gdpo.rewards")
history = submodule("gdpo.runs.history")
converter = submodule("gdpo.export.converter")


def test_training_leaves_nothing_in_memory_but_the_policy(parts, folders):
    def alive():
        gc.collect()
        kinds = Counter(type(item).__name__ for item in gc.get_objects())
        # Storages that parameters and buffers share count once.
        tensors = [
            item for item in gc.get_objects() if type(item) in {torch.Tensor, torch.nn.Parameter}
        ]
        storages = {
            item.untyped_storage().data_ptr(): item.untyped_storage().nbytes() for item in tensors
        }
        wanted = (
            "AdamW",
            "RewardGradients",
            "Rollouts",
            "_Loop",
            "LoraModel",
            "PeftModelForCausalLM",
            "Linear",
        )
        return {name: kinds[name] for name in wanted}, sum(storages.values())

    train(**parts, run_name="warm-up", **TINY)  # libraries keep caches of their own
    kinds, size = alive()
    given = call("GDPOTrain", **parts, run_name="a", **TINY)
    adapter = given["result"][0].adapter
    own = sum(tensor.untyped_storage().nbytes() for tensor in adapter.state.values())
    kinds_after, size_after = alive()
    assert kinds_after == kinds
    assert size_after - size <= own


def test_a_base_in_use_is_not_put_away(starter):
    assert bases.put_away(starter.base)
    outcome: list[bool] = []
    with policies.attached(starter):
        assert not bases.put_away(starter.base)  # from the thread that uses it
        other = threading.Thread(target=lambda: outcome.append(bases.put_away(starter.base)))
        other.start()
        other.join()
    assert outcome == [False]
    assert bases.put_away(starter.base)


def test_a_base_goes_when_its_last_policy_goes(folders):
    import weakref

    (policy,) = call("GDPOLoadModel", model="starter (bundled)", device="cpu")
    model = weakref.ref(policy.base.model)
    del policy
    gc.collect()
    assert model() is None


AUDIT = """
import importlib.util, sys
import torch
found = []
def watch(event, arguments):
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & 3:
        found.append(f"open {arguments[0]}")
    elif event.split(".")[0] in {"socket", "subprocess", "shutil", "tempfile"} or event in {
        "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.system", "os.exec"}:
        found.append(event)
sys.addaudithook(watch)
sys.dont_write_bytecode = True
spec = importlib.util.spec_from_file_location("pack", sys.argv[1], submodule_search_locations=[sys.argv[2]])
pack = importlib.util.module_from_spec(spec)
sys.modules["pack"] = pack
spec.loader.exec_module(pack)
for node in pack.NODE_CLASS_MAPPINGS.values():
    node.INPUT_TYPES()
print("\\n".join(found))
"""


def test_import_and_the_page_s_first_look_write_nothing_and_start_nothing(tmp_path):
    command = [sys.executable, "-c", AUDIT, str(ROOT / "__init__.py"), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == []
    assert list(tmp_path.iterdir()) == []
