"""Every way to name a preference, in `nash-md --model` and `tournament`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.checkpoint import checkpoints
from bridge.runlog import read_run
from bridge.session import checkpoint_folder
from nlhf.config import LanguageConfig, get_judge
from nlhf.errors import InputError
from nlhf.language.judging import AbstractJudge, FunctionJudge
from nlhf.training import build_language, train_language
from tests.command_line import call, refused
from tests.nlhf.language.chat_server import longer, serving
from tests.nlhf.language.classifier_models import save_classifier
from tests.resuming import fingerprint, same_as

pytest.importorskip("transformers")

KEY = "sk-secret-1234567890"
JUDGES = """
def first(prompts, a, b):
    return [0.9 if x > y else 0.4 if x < y else 0.5 for x, y in zip(a, b)]

class Longer:
    def __call__(self, prompts, a, b):
        return [0.5 + 0.4 * ((len(x) > len(y)) - (len(x) < len(y))) for x, y in zip(a, b)]

class Breaks:
    def __init__(self):
        raise ValueError("no weights")
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(JUDGES)
    (tmp_path / "p.jsonl").write_text('{"prompt": "good"}\n{"prompt": "bad why"}\n')
    for name, answers in (("one", ("good", "fine bad now")), ("two", ("bad why", "poor"))):
        rows = zip(("good", "bad why"), answers, strict=True)
        lines = [json.dumps({"prompt": x, "answer": y}) + "\n" for x, y in rows]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def nash(preference, *more, iterations=3, out="run.h5"):
    given = (
        "--model",
        "tiny:good,bad,why,fine",
        "--prompts",
        "p.jsonl",
        "--preference",
        preference,
    )
    given += ("--out", out, "--set", "generation.max_new_tokens=2", "--set", "batch_size=2")
    return call("nash-md", *given, "--iterations", iterations, "--seed", 3, *more)


def tournament(preference, *more):
    given = ("--policies", "one.jsonl", "two.jsonl", "--prompts", "p.jsonl", "--out", "t.h5")
    return call("tournament", *given, "--preference", preference, "--json", "--quiet", *more)


def events(path, kind):
    return [event["of"] for event in read_run(path).events if event["kind"] == kind]


@pytest.mark.parametrize(
    ("name", "transitive"),
    [
        ("reward:r", [True]),
        ("pair:p", [False]),
        ("mine:Longer", [False]),
        ("mine.py:Longer", [False]),
        ("0.7*reward:r+0.3*mine.py:Longer", [True, False]),
    ],
)
def test_every_source_trains_and_judges_a_tournament(name, transitive):
    save_classifier("r", "causal")
    save_classifier("p", "encoder", 2)
    result = nash(name, "--json", "--quiet")
    assert result.exit_code == 0, result.output
    assert [each["transitive"] for each in events("run.h5", "judge")] == transitive
    said = json.loads(tournament(name).stdout)
    P = said["P"]
    (row,) = json.loads(call("runs", "list", "t.h5", "--json").stdout)
    assert row["label"] == "best mean preference"
    assert row["result"] == pytest.approx(max(P[0][1], P[1][0]), rel=1e-12)
    judge = get_judge(name)
    x, a, b = ["good", "bad why"], ["good", "fine bad now"], ["bad why", "poor"]
    assert P[0][1] == pytest.approx(float(judge(x, a, b).mean()), abs=1e-6)
    code = [event for event in read_run("run.h5").events if event["kind"] == "code"]
    assert [event["file"].endswith("mine.py") for event in code] == (
        [True] if "mine" in name else []
    )


def test_an_endpoint_trains_and_its_bill_is_in_the_log():
    with serving(lambda e: longer(e, bias=0.5)) as server:
        name = f"judge:{server.url}#org/m:1"
        more = ("--set", "sources.judge.price_in=3", "--set", "sources.judge.price_out=6")
        result = nash(name, *more, "--json", "--quiet")
        assert result.exit_code == 0, result.output
        ((bill,),) = [json.loads(result.stdout)["judged"]]
        asked = len(server.requests)
        assert bill["calls"] == asked > 0
        assert bill["cost"] == pytest.approx(asked * (100 * 3 + 1 * 6) / 1e6)
        assert bill["position_bias"] > 0.05
        assert {request["model"] for request in server.requests} == {"org/m:1"}
        (told,) = events("run.h5", "judge")
        assert (told["name"], told["has_key"]) == (name, True)
        assert events("run.h5", "judged")[-1] == [bill]
        # another run asks only what was not asked before
        shown = nash(name, out="again.h5")
        assert len(server.requests) == asked
        assert "answers from the cache" in shown.stdout
        assert "position bias +0." in shown.stdout
        assert json.loads(tournament(name).stdout)["P"][0][1] != 0.5
        for each in ("run.h5", "again.h5", "t.h5"):
            with open(each, "rb") as file:
                assert KEY.encode() not in file.read()


def test_an_endpoint_that_fails_costs_no_step_and_the_run_goes_on_with_more_patience():
    """The error names the call; settings that affect no number may change on resumption."""
    fails = []

    def now_and_then(exchange):
        if fails and len(server.requests) > fails[0]:
            exchange.send(503, "maintenance")
        else:
            longer(exchange)

    with serving(now_and_then) as server:
        name = f"judge:{server.url}#m"
        quick = ("--set", "sources.judge.backoff=0.001", "--set", "sources.judge.retries=1")
        quick += ("--set", "sources.judge.concurrency=1")
        off = ("--set", "sources.judge.cache=off", "--quiet")
        assert nash(name, *quick, *off, out="whole.h5", iterations=6).exit_code == 0
        wanted = len(server.requests)
        fails.append(len(server.requests) + wanted - 2)
        result = nash(name, *quick, *off, iterations=6)
        assert result.exit_code == 1
        (line,) = result.stderr.splitlines()
        assert f"of preference {name} (prompt '" in line
        assert "failed 2 times, at last with HTTP 503 Service Unavailable: 'maintenance'" in line
        (kept,) = checkpoints(checkpoint_folder(Path("run.h5")))
        assert f"a checkpoint of step {int(kept.name[-3:])} is written" in line
        assert line.endswith("go on with --resume --out run.h5")
        (bill,) = events("run.h5", "judged")[-1]
        assert bill["failures"] == 1
        fails.clear()
        more = ("--set", "sources.judge.retries=9", "--set", "sources.judge.timeout=99")
        result = call("nash-md", "--resume", "--out", "run.h5", "--quiet", *more)
        assert result.exit_code == 0, result.output
        assert same_as(Path("run.h5"), fingerprint(read_run("whole.h5")))
        other = call(
            "nash-md", "--resume", "--out", "run.h5", "--set", "sources.judge.max_tokens=9"
        )
        assert refused(other, "written with sources.judge.max_tokens=8, not 9")


def test_max_calls_stops_a_run_that_goes_on_with_more():
    with serving(longer) as server:
        name = f"judge:{server.url}#m"
        result = nash(name, "--max-calls", 6, "--quiet")
        assert result.exit_code == 1
        assert len(server.requests) == 6
        (line,) = result.stderr.splitlines()
        assert "max_calls=6 requests are used up before call" in line
        assert "--resume --out run.h5" in line
        again = call("nash-md", "--resume", "--out", "run.h5", "--quiet", "--max-calls", 1000)
        assert again.exit_code == 0, again.output
        whole = nash(name, "--quiet", out="whole.h5")
        assert whole.exit_code == 0
        paths = [Path(each) for each in ("run.h5", "whole.h5")]
        assert same_as(paths[0], fingerprint(read_run(paths[1])))


def test_a_key_that_is_refused_is_the_users_to_mend():
    with serving(lambda e: e.send(401, f"no {KEY}")) as server:
        result = nash(f"judge:{server.url}#m", "--quiet")
        assert refused(result, "refuses its key", "'no ***'", "set OPENAI_API_KEY")
        result = tournament(f"judge:{server.url}#m", "--set", "sources.judge.key_env=OTHER_KEY")
        assert refused(result, "refuses a request without a key", "set OTHER_KEY")


def test_what_is_not_antisymmetric_is_refused_with_the_way_to_symmetrise():
    assert refused(nash("mine:first", "--quiet"), "is not antisymmetric", "--set symmetrise=true")
    mixed = "0.5*mine:first+0.5*mine:Longer"
    assert refused(nash(mixed, "--quiet", out="m.h5"), "mine:first is not", "symmetrise=true")
    for name in ("mine:first", mixed):
        result = nash(name, "--set", "symmetrise=true", "--json", "--overwrite", "--quiet")
        assert result.exit_code == 0, result.output
        bill = json.loads(result.stdout)["judged"][0]
        assert bill["position_bias"] > 0
        assert events("run.h5", "judge")[0]["symmetrised"]
    P = json.loads(tournament("mine:first", "--set", "symmetrise=true").stdout)["P"]
    assert P[0][1] == pytest.approx((0.75 + 0.25) / 2)  # good > bad why, and fine... < poor


def test_a_reward_model_is_a_reward_for_rlhf(tmp_path):
    save_classifier("r", "causal")
    result = nash("reward:r", "--algorithm", "rlhf", "--json", "--quiet")
    assert result.exit_code == 0, result.output
    own = json.loads(result.stdout)["reward"]
    more = ("--algorithm", "rlhf", "--set", "reward=reward:r", "--json", "--quiet", "--overwrite")
    assert json.loads(nash("mine:Longer", *more).stdout)["reward"] == own
    assert refused(nash("mine:Longer", "--algorithm", "rlhf", "--overwrite"), "no scalar reward")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("judge:http://h/v1", ("names no model", "judge:URL#MODEL")),
        ("judge:#m", ("names no model",)),
        ("judge:h:8000/v1#m", ("no URL of http",)),
        ("judge:http://me:pw@h/v1#m", ("user name or a password",)),
        ("reward:./nowhere", ("nowhere", "cannot be loaded")),
        ("reward:", ("cannot be loaded",)),
        ("rewards:nowhere", ("no module 'rewards'",)),
        ("0.5*mine:Longer+0*mine:Longer", ("weight 0 of preference mine:Longer must be positive",)),
        ("-1*mine:Longer", ("weight -1",)),
        ("nan*mine:Longer", ("weight nan",)),
        ("0.5*mine:Longer+0.5*", ("preference=''", "reward:MODEL")),
        ("mine:Longer+mine:first", ("0.7*A+0.3*B",)),
        ("reward:A+pair:B", ("0.7*A+0.3*B",)),
        ("nowhere", ("neither a folder", "reward:MODEL", "judge:URL#MODEL")),
        ("mine:Breaks", ("mine.py:11", "no weights")),
        ("mine:god", ("mine has no 'god'",)),
    ],
)
def test_what_is_no_preference_is_refused(name, words):
    for result in (nash(name, "--quiet"), tournament(name)):
        assert refused(result, *words)
    assert not list(Path().glob("*.h5"))


def test_settings_that_no_judge_reads_are_refused():
    bad = nash("mine:Longer", "--set", "sources.judge.timeout=3")
    assert refused(bad, "sources.judge.timeout", "has no effect", "judge:URL#MODEL")
    bad = nash("mine:Longer", "--max-calls", 3)
    assert refused(bad, "--max-calls 3: has no effect", "judge:URL#MODEL")
    assert refused(call("nash-md", "--max-calls", 3), "give --model too")
    bad = nash("judge:http://h/v1#m", "--set", "sources.judge.retries=-1")
    assert refused(bad, "sources.judge.retries", "0")
    bad = nash("judge:http://h/v1#m", "--set", "sources.judge.key_env=abc")
    assert refused(bad, "sources.judge.key_env must name an environment variable")
    assert not list(Path().glob("*.h5"))
    bad = nash("judge:http://h/v1#m", "--set", "sources.judge.template='only {a}'")
    assert refused(bad, "sources.judge.template lacks {b}")


def test_the_template_comes_out_of_a_config_file(tmp_path):
    with serving(lambda e: e.say("A")) as server:
        (tmp_path / "run.toml").write_text(
            f'preference = "judge:{server.url}#m"\n[sources.judge]\nlogprobs = false\n'
            'template = """\nShorter?\n1: {a}\n2: {b}"""\n[sources.judge.extra]\nseed = 5\n'
        )
        given = ("--model", "tiny:good,bad,why", "--prompts", "p.jsonl", "--out", "run.h5")
        result = call("nash-md", "run.toml", *given, "--iterations", 1, "--quiet")
        assert result.exit_code == 0, result.output
        assert server.requests[0]["messages"][0]["content"].startswith("Shorter?\n1: ")
        assert server.requests[0]["seed"] == 5


def test_a_warning_of_the_cache_is_told_once_and_logged(tmp_path):
    (tmp_path / "file").write_text("")
    with serving(longer) as server:
        result = nash(f"judge:{server.url}#m", "--set", "sources.judge.cache=file/c", "--quiet")
    assert result.exit_code == 0, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("warning: cache file/c cannot be written")
    remarks = [e["text"] for e in read_run("run.h5").events if e["kind"] == "remark"]
    assert [f"warning: {text}" for text in remarks] == [line]


class Alphabetical(AbstractJudge):
    """What comes later in the alphabet."""

    name = "alphabetical"

    def __call__(self, prompts, a, b):
        import torch

        pairs = zip(a, b, strict=True)
        return torch.tensor([0.5 + 0.3 * ((x > y) - (x < y)) for x, y in pairs])


def test_objects_judge_too():
    import torch

    x, a, b = ["x"], ["b"], ["a"]

    def one_sided(prompts, a, b):
        return [0.9] * len(a)

    assert float(get_judge(Alphabetical())(x, a, b)) == pytest.approx(0.8)
    assert float(get_judge(Alphabetical().__call__)(x, a, b)) == pytest.approx(0.8)
    assert get_judge(one_sided, symmetrise=True)(x, a, b).tolist() == [0.5]
    with pytest.raises(InputError, match="preference one_sided is not antisymmetric"):
        get_judge(one_sided)(x, a, b)
    with pytest.raises(InputError, match="preference is a int; give a name, a judge"):
        get_judge(3)  # pyright: ignore[reportArgumentType]
    config = LanguageConfig(model="tiny:a,b", prompts="p.jsonl", preference="mine", iterations=1)
    run = build_language(config, preference=FunctionJudge(Alphabetical(), "mine"))
    records = []
    train_language(run, on_record=records.append)
    assert torch.isfinite(torch.tensor(records[0].loss))


def test_a_users_module_called_as_a_source_is_still_a_module(tmp_path):
    (tmp_path / "judge.py").write_text(JUDGES)
    (tmp_path / "reward.py").write_text(JUDGES)
    for name in ("judge:Longer", "reward:Longer"):
        assert float(get_judge(name)(["x"], ["aa"], ["b"])) == pytest.approx(0.9)


@pytest.mark.slow
def test_a_file_is_all_that_another_source_needs(tmp_path, monkeypatch):
    source = """
from dataclasses import dataclass
import torch
from nlhf.language.judges.base import AbstractSource

@dataclass(frozen=True)
class Settings:
    p: float = 0.5

class Coin(AbstractSource):
    prefix, form, Settings, antisymmetric = "coin", "coin:NAME", Settings, True
    def __init__(self, name, p):
        self.name, self.p = name, p
    @classmethod
    def open(cls, name, settings, opening):
        return cls(name, settings.p)
    def __call__(self, prompts, a, b):
        return torch.full((len(a),), self.p)
"""
    (tmp_path / "coin.py").write_text(source)
    code = (
        "import nlhf.language.judges as j, sys; j.__path__.append(sys.argv[1])\n"
        "sys.modules.pop('nlhf.language.judges.registry')\n"
        "import nlhf.language.judges.registry as r; j.SOURCES = r.SOURCES\n"
        "j.source_of, j.operational = r.source_of, r.operational\n"
        "from nlhf.config import TournamentConfig, make_judge\n"
        "c = TournamentConfig(policies=('a', 'b'), prompts='p', preference='coin:x',"
        " sources={'coin': {'p': 0.25}})\n"
        "print(make_judge(c)(['x'], ['a'], ['b']).tolist())"
    )
    root = Path(__file__).parents[1]
    line = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(line, cwd=root, capture_output=True, text=True)
    assert done.stdout == "[0.25]\n", done.stderr
