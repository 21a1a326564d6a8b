"""A run that others watch while it goes on, and a policy that is pushed when it has ended."""

import sys
import types
from importlib.machinery import ModuleSpec

import pytest

from bridge.live import TensorBoard, Watchers
from bridge.runlog import read_run
from tests.nlhf.language.running import files, nash

__all__ = ["files"]


class Recorder(types.ModuleType):
    """Stands for wandb and trackio, which have one interface."""

    def __init__(self, name):
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)  # others look whether it is installed
        self.said = []

    def init(self, **given):
        self.said.append(("init", given))

    def log(self, values, step):
        self.said.append(("log", step, values))

    def finish(self):
        self.said.append(("finish",))


@pytest.mark.parametrize("kind", ["wandb", "trackio"])
def test_services_are_told_while_a_run_goes_on(files, monkeypatch, kind):
    service = Recorder(kind)
    monkeypatch.setitem(sys.modules, kind, service)
    monkeypatch.setenv(f"{kind.upper()}_PROJECT", "mine")
    assert nash("--set", f"report_to=['{kind}']").exit_code == 0
    (first, given), *logged, last = service.said
    assert first == "init"
    assert (given["project"], given["name"]) == ("mine", "r")
    assert given["config"]["algorithm"] == "nash-md"
    assert last == ("finish",)
    assert [step for _, step, _ in logged] == [1, 2, 3]
    assert logged[0][2]["metrics/loss"] == read_run("r.h5").table("metrics")["loss"][0]


def test_watchers_leave_out_what_is_no_number(tmp_path):
    record = types.SimpleNamespace(step=3, loss=0.5, name="x", missing=float("nan"))
    with Watchers(("tensorboard",), tmp_path / "r.h5", {}) as watchers:
        watchers.log("metrics", record)
    (events,) = (tmp_path / "r.tensorboard").iterdir()
    loaded = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    seen = loaded.EventAccumulator(str(events))
    seen.Reload()
    assert seen.Tags()["scalars"] == ["metrics/loss"]
    board = TensorBoard(tmp_path / "other")
    board.close()
    assert len(list((tmp_path / "other").iterdir())) == 1


def test_a_policy_is_pushed_when_it_is_saved(files, monkeypatch):
    hub = pytest.importorskip("huggingface_hub")
    pushed = []

    class Api:
        def create_repo(self, name, private, exist_ok):
            assert private
            assert exist_ok
            return f"https://hub/{name}"

        def upload_folder(self, repo_id, folder_path, commit_message):
            pushed.append(
                (repo_id, sorted(p.name for p in __import__("pathlib").Path(folder_path).iterdir()))
            )

    monkeypatch.setattr(hub, "HfApi", Api)
    done = nash("--set", "push_to_hub=me/policy")
    assert done.exit_code == 0
    assert "pushed: https://hub/me/policy" in done.stderr
    ((name, saved),) = pushed
    assert name == "me/policy"
    assert {"README.md", "config.json", "model.safetensors"} <= set(saved)

    def fails(self, name, private, exist_ok):
        raise OSError("no way to the hub")

    monkeypatch.setattr(Api, "create_repo", fails)
    done = nash("--set", "push_to_hub=me/policy", out="again.h5")
    assert done.exit_code == 2
    assert "no way to the hub; the policy is in again" in done.stderr
    assert (files / "again" / "model.safetensors").is_file()
