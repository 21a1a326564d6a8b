"""`judge:URL#MODEL` against a server on this machine, well and badly behaved."""

import itertools
import json
import math
import signal
import threading
import time

import pytest
import torch

from nlhf.config import get_judge
from nlhf.config.judges import SourcesConfig
from nlhf.errors import InputError, OutsideFailed
from nlhf.language.judges.endpoint import EndpointJudge, EndpointSettings
from nlhf.language.remote.client import Budget, Client, read_address
from nlhf.language.remote.workers import each
from tests.nlhf.language.chat_server import longer, serving

KEY = "sk-secret-1234567890"
FAST = {"cache": "off", "backoff": 0.001, "retries": 2, "timeout": 20.0}


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def make(server, budget=None, **settings):
    return EndpointJudge(server.url, "m", EndpointSettings(**(FAST | settings)), budget=budget)


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def test_both_orders_are_averaged_and_the_bias_for_the_first_place_is_told():
    a, b = ["four", "ab", "same", "x"], ["fourteen", "a", "same", "xxxxxxxxx"]
    with serving(lambda e: longer(e, bias=0.5)) as server:
        judge = make(server, price_in=2.0, price_out=5.0)
        p = judge(["q", "r", "s", "t"], a, b)
        gaps = [(len(x) - len(y)) / 4 for x, y in zip(a, b, strict=True)]
        both = [(sigmoid(z + 0.5), sigmoid(-z + 0.5)) for z in gaps]
        wanted = torch.tensor([(f + 1 - s) / 2 for f, s in both], dtype=torch.float64)
        torch.testing.assert_close(p, wanted, rtol=0, atol=1e-9)
        assert p[2] == 0.5
        # equal answers are not asked about, and what was asked once is not asked again
        assert len(server.requests) == 6
        torch.testing.assert_close(judge(["q", "t"], b[:1] + b[3:], a[:1] + a[3:]), 1 - p[[0, 3]])
        assert len(server.requests) == 6
        judge(["q", "r", "s", "t"], a, b)
    counts = judge.counts()
    firsts = [sum(both[i]) / 2 for i in (0, 1, 3, 0, 3, 0, 1, 3)]
    assert counts["first_place"] == pytest.approx(sum(firsts), abs=1e-9)
    assert (counts["pairs"], counts["flips"]) == (8, 2)  # of answers of one character's difference
    assert (counts["calls"], counts["cached"], counts["questions"]) == (6, 10, 16)
    assert counts["cost"] == pytest.approx((6 * 100 * 2 + 6 * 1 * 5) / 1e6)
    assert set(server.keys) == {f"Bearer {KEY}"}
    assert set(server.paths) == {"/v1/chat/completions"}
    assert KEY not in repr((judge.facts(), vars(judge)))


def test_the_question_has_the_template_and_what_it_holds_is_not_read_again():
    tricky = 'say {b} {prompt} \\g<0> \ud800 "quote" \u2028 ✓'
    with serving(longer) as server:
        judge = make(
            server,
            template="P:{prompt} 1:{a} 2:{b} 3:{a}",
            system="be fair",
            temperature=0.5,
            max_tokens=0,
            logprobs=False,
            extra={"seed": 7},
            labels=("1", "2"),
            retries=0,
        )
        with pytest.raises(OutsideFailed):  # the server speaks of A and B
            judge([[{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"},
                    {"role": "user", "content": "z"}]], [tricky], ["b"])  # fmt: skip
    said = {request["messages"][1]["content"] for request in server.requests}
    shown = "P:user: x\n\nassistant: y\n\nuser: z"
    assert said <= {f"{shown} 1:{tricky} 2:b 3:{tricky}", f"{shown} 1:b 2:{tricky} 3:b"}
    for request in server.requests:
        rest = {k: v for k, v in request.items() if k != "messages"}
        assert rest == {"model": "m", "temperature": 0.5, "seed": 7}
        assert request["messages"][0] == {"role": "system", "content": "be fair"}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (lambda e: e.send(500, "oh no"), "HTTP 500 .*oh no"),
        (lambda e: e.send(503, b"\xff\xfe"), "HTTP 503"),
        (lambda e: e.send(429, '{"error": {"message": "slow down"}}'), "HTTP 429 .*slow down"),
        (lambda e: e.send(200, b"\xff\xfe<html>"), "it is no JSON: .*<html>"),
        (lambda e: e.send(200, b""), "it is no JSON"),
        (lambda e: e.send(200, "[" * 100_000), "it is no JSON"),
        (lambda e: e.send(200, "[1]"), "list in JSON, no chat completion"),
        (lambda e: e.send(200, '{"choices": []}'), "it has no choices"),
        (lambda e: e.send(200, '{"error": {"message": "overloaded"}}'), "no choices: .*overloaded"),
        (lambda e: e.send(200, '{"choices": [{"message": {"content": null}}]}'), "has no text"),
        (lambda e: e.say("I cannot say."), "names none of A, B: 'I cannot say.'"),
        (lambda e: e.close(), "RemoteDisconnected"),
    ],
)
def test_what_may_pass_is_tried_again_and_named_when_it_does_not(bad, said):
    with serving(bad) as server:
        judge = make(server, concurrency=1)
        with pytest.raises(OutsideFailed, match=said) as caught:
            judge(["why?"], ["an answer"], ["another"])
        assert len(server.requests) == 3
        counts = judge.counts()
    text = str(caught.value)
    assert text.startswith(f"call 1 of preference judge:{server.url}#m (prompt 'why?', answers 'an")
    assert "failed 3 times, at last with" in text
    assert (counts["calls"], counts["retries"], counts["failures"]) == (3, 2, 1)
    with serving(lambda e: bad(e) if e.number % 3 else longer(e)) as server:
        p = make(server, concurrency=1)(["why?"], ["an answer"], ["another"])
        assert float(p) == pytest.approx(sigmoid(0.5))


@pytest.mark.parametrize("slow", [lambda e: time.sleep(3), lambda e: e.drip(3)])
def test_a_slow_server_is_left_after_the_time_out(slow):
    with serving(slow) as server:
        judge = make(server, timeout=0.2, retries=1)
        began = time.monotonic()
        with pytest.raises(OutsideFailed, match=r"no whole reply within 0\.2 s"):
            judge(["x"], ["a"], ["b"])
        assert time.monotonic() - began < 2.5
        assert judge.counts()["timeouts"] >= 2


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (lambda e: e.send(401, json.dumps({"error": {"message": f"Incorrect key {KEY}"}})),
         r"refuses its key: .*Incorrect key \*\*\*'; set OPENAI_API_KEY"),
        (lambda e: e.send(404, "no model"), "no such model"),
        (lambda e: e.send(400, "logprobs are not supported"), r"sources.judge.logprobs=false"),
        (lambda e: e.send(302, "", Location="http://127.0.0.1:1/v2"), "moved: .*/v2'; give that"),
        (lambda e: e.send(422, "{"), "refuses the question: HTTP 422"),
    ],
)  # fmt: skip
def test_what_will_not_pass_is_told_at_once(bad, said):
    with serving(bad) as server:
        judge = make(server, concurrency=1)
        with pytest.raises(InputError, match=said) as caught:
            judge(["x"], ["a"], ["b"])
        assert len(server.requests) == 1
    assert KEY not in str(caught.value)


def test_no_server_at_all_is_named():
    with serving(longer) as server:
        pass
    with pytest.raises(OutsideFailed, match="ConnectionRefusedError: Connection refused"):
        make(server)(["x"], ["a"], ["b"])


def test_the_wait_is_what_the_server_asks_for_and_grows_otherwise(monkeypatch):
    monkeypatch.setattr("random.uniform", lambda a, b: b)
    asked = iter(["7", None, None, "Fri, 01 Jan 2100 00:00:00 GMT", None])
    waits = []

    class Stopped(threading.Event):
        def wait(self, timeout=None):
            waits.append(timeout)
            return False

    def bad(exchange):
        after = next(asked)
        exchange.send(429, "", **({"Retry_After": after} if after else {}))

    with serving(bad) as server:
        client = Client(read_address(server.url), retries=4, backoff=0.5, _stopped=Stopped())
        with pytest.raises(OutsideFailed, match="it failed 5 times"):
            client.ask({}, lambda reply: reply, "it")
    assert waits == [7, 1, 2, 60]
    assert client.usage.rate_limited == 5


def test_as_many_requests_are_under_way_as_wanted():
    def slowly(exchange):
        time.sleep(0.05)
        longer(exchange)

    with serving(slowly) as server:
        make(server, concurrency=4)([str(i) for i in range(8)], ["a"] * 8, ["bb"] * 8)
        assert server.most_at_once == 4
        assert len(server.requests) == 16


def test_a_failure_and_ctrl_c_end_what_is_under_way():
    """An interrupt waits for no request; a failure waits for open requests and starts no others."""

    def hang(exchange):
        if exchange.number == 4:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(5)

    with serving(hang) as server:
        judge = make(server, concurrency=4)
        began = time.monotonic()
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                judge(list("abcdef"), ["a"] * 6, ["b"] * 6)
        finally:
            signal.signal(signal.SIGINT, before)
        assert time.monotonic() - began < 3
        assert len(server.requests) == 4
    ended = threading.Event()

    begun = []

    def work(item):
        begun.append(item)
        if item == 1:
            raise ValueError("one")
        ended.wait(5)
        return item

    with pytest.raises(ValueError, match="one"):
        each(work, [0, 1, 2], 2, drain=ended.set)
    assert begun == [0, 1]
    assert each(lambda item: -item, range(50), 7) == [-i for i in range(50)]


def test_the_cache_answers_again_and_knows_every_part_of_the_question(tmp_path):
    cache = str(tmp_path / "cache")
    with serving(longer) as server:
        p = make(server, cache=cache)(["x"], ["aa"], ["b"])
        again = make(server, cache=cache, timeout=5.0, concurrency=1)
        assert torch.equal(again(["x"], ["aa"], ["b"]), p)
        assert (again.counts()["calls"], again.counts()["cached"]) == (0, 2)
        assert len(server.requests) == 2
        for other in ({"temperature": 1.0}, {"system": "s"}, {"template": "{a} {b}"},
                      {"extra": {"seed": 1}}):  # fmt: skip
            with pytest.raises(OutsideFailed):
                make(server, Budget(0), cache=cache, **other)(["x"], ["aa"], ["b"])
        with pytest.raises(OutsideFailed, match="max_calls=0"):
            make(server, Budget(0), cache=cache)(["y"], ["aa"], ["b"])
    kept = "".join(path.read_text() for path in tmp_path.rglob("*.json"))
    assert KEY not in kept


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-20]),
        lambda path: path.write_text(path.read_text().replace('"p": 0.', '"p": 0.1')),
        lambda path: path.write_bytes(b"\xff" * 100),
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.write_text('{"key": 1, "reply": [], "sha256": 2}'),
        lambda path: (path.unlink(), path.mkdir()),
    ],
)
def test_a_damaged_cache_is_asked_anew(tmp_path, damage):
    with serving(longer) as server:
        p = make(server, cache=str(tmp_path))(["x"], ["aa"], ["b"])
        for path in list(tmp_path.rglob("*.json")):
            damage(path)
        judge = make(server, cache=str(tmp_path))
        assert torch.equal(judge(["x"], ["aa"], ["b"]), p)
        counts = judge.counts()
        assert (counts["calls"], counts["cache_damaged"]) == (2, 2)
        (line,) = judge.new_warnings()
        assert "is damaged" in line
        assert judge.new_warnings() == []


def test_a_cache_that_cannot_be_written_is_told_and_done_without(tmp_path):
    (tmp_path / "file").write_text("")
    with serving(longer) as server:
        judge = make(server, cache=str(tmp_path / "file" / "cache"))
        judge(["x"], ["aa"], ["b"])
        judge(["x"], ["b"], ["aa"])
        assert len(server.requests) == 2
        (line,) = judge.new_warnings()
        assert "cannot be written (Not a directory)" in line
        assert judge.counts()["cache_unwritten"] >= 1


def test_max_calls_counts_every_try_of_all_judges_together():
    with serving(lambda e: e.send(500, "") if e.number == 1 else longer(e)) as server:
        name = f"judge:{server.url}#"
        sources = SourcesConfig(judge=FAST | {"concurrency": 1})
        judge = get_judge(f"1*{name}m+1*{name}n", sources=sources, max_calls=6)
        judge(["x"], ["aa"], ["b"])
        assert len(server.requests) == 5
        with pytest.raises(OutsideFailed, match=r"max_calls=6 requests are used up.*--max-calls"):
            judge(["y"], ["aa"], ["b"])
        assert len(server.requests) == 6


def test_replies_without_probabilities_go_by_their_text_and_that_is_told():
    with serving(lambda e: e.say("A" if len(e.shown[0]) > 2 else "B")) as server:
        judge = make(server)
        # A wins from both places, or B does: no preference is left
        assert judge(list("xyz"), ["aaa", "aaa", "a"], ["b", "bbb", "b"]).tolist() == [1, 0.5, 0.5]
        assert judge.counts()["without_logprobs"] == 6
        assert judge.counts()["flips"] == 2
        (line,) = judge.new_warnings()
        assert "without the probabilities" in line


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://me:secret@host/v1", "user name or a password"),
        ("http://host/v1?api_key=abc", "'api_key' in its query looks like a secret"),
        ("ftp://host/v1", "no URL of http"),
        ("http:///v1", "no URL of http"),
        ("http://host:99999/v1", "out of range|Port"),
        ("http://ho st/v1", "no URL of http"),
        ("localhost:8000/v1", "no URL of http"),
    ],
)
def test_an_address_that_cannot_be_used_or_holds_a_secret_is_refused(url, said):
    with pytest.raises(InputError, match=said) as caught:
        read_address(url)
    assert "me:secret" not in str(caught.value)


def test_addresses_are_completed():
    found = read_address("https://host:8443/openai/é/?api-version=2024-1")
    assert (found.scheme, found.host, found.port) == ("https", "host", 8443)
    assert found.target == "/openai/%C3%A9/chat/completions?api-version=2024-1"
    assert read_address("http://h/v1/chat/completions").target == "/v1/chat/completions"
    assert read_address("http://[::1]:8000").host == "::1"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"template": "{a}"}, r"template lacks \{b\}"),
        ({"labels": ("A", "A")}, "all different"),
        ({"labels": ("A",)}, "give two words"),
        ({"labels": ("[[A]]", "B")}, "give two words"),
        ({"timeout": 0.0}, "timeout=0.0 must be 0.001 or more"),
        ({"retries": -1}, "retries=-1 must be 0 or more"),
        ({"concurrency": 0}, "concurrency=0 must be 1 or more"),
        ({"extra": {"api_key": "x"}}, "looks like a secret"),
        ({"extra": {"messages": []}}, "set by the program"),
    ],
)
def test_settings_that_no_question_can_be_made_of_are_refused(settings, said):
    with pytest.raises(InputError, match=said):
        EndpointJudge("http://h/v1", "m", EndpointSettings(**settings))


def test_a_key_that_no_header_can_hold_is_refused_unseen(monkeypatch):
    for bad in ("sk-a b", "sk-a\nb", "sk-ü"):
        monkeypatch.setenv("OPENAI_API_KEY", bad)
        with pytest.raises(
            InputError, match="in the environment variable OPENAI_API_KEY"
        ) as caught:
            EndpointJudge("http://h/v1", "m")
        assert bad not in str(caught.value)


def test_the_bias_is_told_for_every_pair_of_labels():
    """Whatever the labels, a judge that always names the first place is all bias."""
    for labels in itertools.permutations(("first", "second")):
        with serving(lambda e, labels=labels: e.say(labels[0])) as server:
            judge = make(server, labels=labels)
            assert judge(["x"], ["a"], ["b"]).tolist() == [0.5]
            assert judge.counts()["first_place"] == 1
