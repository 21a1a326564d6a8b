"""The experiments of the docs ask for nothing that the command line refuses."""

import importlib

import pytest
from click.testing import CliRunner

from cli import main

SMALL = (
    *("--epochs", "1", "--check-gradients-every", "0", "--quiet"),
    *("--set", "data.train_size=20", "--set", "data.test_size=10"),
)


class Told(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["angle_over_training", "initial_angle", "learning_table", "stability"]
)
def test_every_command_line_runs(name, tmp_path, monkeypatch):
    module = importlib.import_module(f"experiments.{name}")
    jobs = {}

    def note(given, *_):
        jobs.update(given)
        raise Told

    monkeypatch.setattr(module, "run_all", note)
    with pytest.raises(Told):
        module.main.main(["--out", str(tmp_path)], standalone_mode=False)
    seeds = {job: args[args.index("--seed") + 1] for job, args in jobs.items() if "--seed" in args}
    tried = [args for job, args in jobs.items() if seeds.get(job, "0") == "0"]
    assert len(tried) >= 2
    for k, args in enumerate(tried):
        out = str(tmp_path / f"{k}.h5")
        done = CliRunner().invoke(main, ["eqprop-run", *args, *SMALL, "--out", out])
        assert done.exit_code == 0, (args, done.output)
