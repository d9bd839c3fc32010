"""The load test against a scripted server with known numbers; test_server.py does it with vLLM through the bench."""

import asyncio
import json
import math

import pytest
from aiohttp import web

from kit.errors import ParameterError, ServerError
from kit.serving import load, wire
from kit.serving.chat import connect
from kit.serving.load import Level, LoadTest, Quantiles, drive, load_test, prompts


@pytest.fixture
def chat(scripted):
    scripted.actions = [stream]
    with connect(scripted.url, timeout_s=5) as chat:
        yield chat


async def stream(request, gap=0.03):
    """Four tokens: the first after one gap, the others one gap apart."""
    if not (await request.json()).get("stream"):
        choice = {"message": {"content": "あ"}, "finish_reason": "stop"}
        return web.json_response({"model": "tiny", "choices": [choice]})
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for number in range(4):
        await asyncio.sleep(gap)
        finish = "length" if number == 3 else None
        choice = {"index": 0, "delta": {"content": "あ"}, "finish_reason": finish}
        await response.write(event({"model": "tiny", "choices": [choice]}))
    usage = {"prompt_tokens": 9, "completion_tokens": 4}
    await response.write(event({"model": "tiny", "choices": [], "usage": usage}) + b"data: [DONE]\n\n")
    return response


def event(data):
    return b"data: " + json.dumps(data).encode() + b"\n\n"


async def fails(request):
    return web.json_response({"error": {"message": "field refused"}}, status=400)


def test_what_is_measured(scripted, chat):
    level = drive(chat, [(prompt, 4) for prompt in prompts(6)], 3)
    assert (level.concurrency, level.requests, level.errors, level.tokens) == (3, 6, (), 24)
    assert scripted.most_at_once == 3
    assert 0.03 <= level.ttft.p50 < 0.3 and 0.02 < level.itl.p50 < 0.3 and 0.12 <= level.e2e.p50 < 1.2
    seconds = 6 / level.requests_per_s
    assert level.tokens_per_s == pytest.approx(4 * level.requests_per_s)
    assert 2 * 0.12 <= seconds < 3, "six requests, three at once: two rounds of 0.12 s"
    assert all((body["ignore_eos"], body["stream"], body["max_tokens"]) == (True, True, 4) for body in scripted.seen)


def test_no_prompt_begins_like_another(scripted, chat):
    load_test(chat, concurrency=[2], tokens=4)
    asked = [body["messages"][0]["content"] for body in scripted.seen]
    assert len({text[:9] for text in asked}) == len(asked) == 1 + 8  # the first only opens the connection


def test_levels_one_after_another_with_progress(chat):
    seen = []
    found = load_test(chat, concurrency=[1, 4], tokens=4, requests=4, progress=lambda *done: seen.append(done))
    assert seen == [(n, 8) for n in range(1, 9)]
    assert [(level.concurrency, level.requests) for level in found.levels] == [(1, 4), (4, 4)]
    assert (found.model, found.tokens) == ("tiny", 4)
    assert found.levels[1].tokens_per_s > 1.5 * found.levels[0].tokens_per_s


def test_at_least_eight_requests_and_three_for_each_in_flight(chat, monkeypatch):
    numbers = []
    monkeypatch.setattr(load, "drive", lambda chat, work, at_once, **_: numbers.append((len(work), at_once)))
    load_test(chat, concurrency=(1, 2, 4, 8))
    assert numbers == [(8, 1), (8, 2), (12, 4), (24, 8)]


def test_a_slow_server_is_measured_by_fewer_requests(chat):
    seen = []
    found = load_test(chat, concurrency=[1], tokens=4, limit_s=0.2, progress=lambda *done: seen.append(done))
    assert 1 <= found.levels[0].requests < 8
    assert seen[-1] == (8, 8), "the bar comes to its end"


def test_failures_are_counted_and_named(scripted, chat):
    scripted.actions = [stream, stream, fails, stream]
    level = drive(chat, [(prompt, 4) for prompt in prompts(4)], 1)
    assert (level.requests, level.tokens) == (3, 12)
    (error,) = level.errors
    assert "HTTP 400" in error and "field refused" in error
    assert "失敗の内容: モデルサーバー" in LoadTest("tiny", 4, (level,))._repr_html_()


def test_where_nothing_was_answered(scripted, chat):
    scripted.actions = [fails]
    level = drive(chat, [(prompt, 4) for prompt in prompts(2)], 1)
    assert (level.requests, level.tokens_per_s, len(level.errors), str(level.ttft)) == (0, 0.0, 2, "－")
    assert math.isnan(level.ttft.p50)


def test_a_server_that_is_gone_is_told_at_once(scripted, chat, monkeypatch):
    monkeypatch.setattr(wire, "_BACKOFF_S", 0.01)
    scripted.close()
    with pytest.raises(ServerError, match="通信できません"):
        load_test(chat, concurrency=[1])


def test_in_a_running_loop_as_in_jupyter(chat):
    async def cell():
        return drive(chat, [(prompt, 4) for prompt in prompts(2)], 2)

    assert asyncio.run(cell()).requests == 2


def test_ctrl_c_drops_the_requests_under_way(scripted, chat):
    def pressed():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive(chat, [(prompt, 4) for prompt in prompts(9)], 2, finished=pressed)
    assert len(scripted.seen) < 9
    assert chat.ask("まだ使える").text == "あ"


@pytest.mark.parametrize("wrong", [{"concurrency": []}, {"concurrency": [1, 0]}, {"tokens": 0}, {"requests": -1}])
def test_numbers_below_one_are_refused(chat, wrong):
    with pytest.raises(ParameterError, match="測れません"):
        load_test(chat, **wrong)


@pytest.mark.parametrize(
    ("seconds", "quantiles"),
    [([5, 1, 4, 2, 3], (3, 4.6, 4.96)), ([0.25], (0.25, 0.25, 0.25)), ([0, 1], (0.5, 0.9, 0.99))],
)
def test_quantiles(seconds, quantiles):
    found = Quantiles.of(seconds)
    assert (found.p50, found.p90, found.p99) == pytest.approx(quantiles)


def test_the_table_says_what_it_holds_for():
    third = Quantiles(0.0301, 0.0402, 1.5)
    level = Level(8, 24, (), 1536, 19.44, 1244.2, third, third, third)
    html = LoadTest("tiny", 64, (level,))._repr_html_()
    assert "30／40／1,500" in html and "1,244" in html and "19.4" in html
    assert "このマシン・このモデル・この長さ（出力 64 トークン、短い入力）での値です" in html
