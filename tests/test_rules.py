"""The request rules: whatever comes, it is refused in Japanese or passed on within its bounds."""

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from kit.serving import rules
from kit.serving.rules import Refused, Rules

TABLE = tomllib.loads(Path(rules.__file__).with_name("gateway.toml").read_text(encoding="utf-8"))
FIELDS = sorted({name for groups in TABLE["routes"].values() for group in groups for name in TABLE[group]})
RULES = Rules(100)
CHAT = "POST /v1/chat/completions"

names = st.sampled_from([*FIELDS, "role", "content", "type", "text", "items", "anyOf", "a.b[0]", "{x}", "%s", ""])
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(["user", "text"]))
values = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=12)


@settings(max_examples=1000, deadline=None)
@given(st.sampled_from(sorted(TABLE["routes"])), st.dictionaries(names, values, max_size=4))
def test_whatever_comes_is_refused_or_passed_on_within_bounds(route, body):
    try:
        content, _ = RULES.made_anew(route, json.dumps(body).encode(), "salt")
    except Refused as refused:
        assert refused.status == 400 and any("ぁ" <= letter <= "ん" for letter in str(refused))
        return
    sent = json.loads(content)
    assert sent.keys() <= {*FIELDS} and sent["cache_salt"] == "salt" and None not in sent.values()
    assert all(0 < sent.get(name, 1) <= most for name, most in (("n", 8), ("max_tokens", 100), ("max_completion_tokens", 100)))


def constraints(schema):
    if isinstance(schema, dict):
        for word, inner in schema.items():
            if word in ("properties", "definitions"):
                yield from (found for each in inner.values() for found in constraints(each))
            else:
                yield word
                yield from constraints(inner)
    elif isinstance(schema, list):
        yield from (found for each in schema for found in constraints(each))


def test_each_rule_that_can_be_broken_has_its_words():
    fields = {name: TABLE[group][name] for groups in TABLE["routes"].values() for group in groups for name in TABLE[group]}
    used = set(constraints({"properties": fields, "definitions": TABLE["definitions"]}))
    assert used - {"$ref", "items", "allOf"} == set(TABLE["refusals"])


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"n": 9}, "「n」: 8 までです。"),
        ({"max_tokens": 101}, "「max_tokens」: 100 までです。"),
        ({"stream": "true"}, "「stream」: 書ける型は boolean です。"),
        ({"chat_template": "{{ 1 }}"}, "「chat_template」: このゲートウェイでは使えない項目です。"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "text": ""}]}]},
         "「messages.0.content.0.type」: 書けるのは text です（文字だけを送れます）。"),
        ({"stop": "a" * 201}, "「stop」: 200 文字までです。"),
        ({"user": "a" * 200, "structured_outputs": {"choice": ["a" * 200] * 100}},
         "文章以外の指定は合わせて 16,384 バイト、入れ子は 32 段までです。"),
    ],
)  # fmt: skip
def test_a_refusal_names_the_field_and_its_bound(body, told):
    with pytest.raises(Refused) as refused:
        RULES.made_anew(CHAT, json.dumps(body).encode(), "")
    assert str(refused.value) == told


def test_who_names_no_number_gets_the_most():
    said = {"messages": [{"role": "user", "content": "?"}]}
    assert json.loads(RULES.made_anew(CHAT, json.dumps(said).encode(), "")[0])["max_tokens"] == 100
    for named in ({"max_tokens": 5}, {"max_completion_tokens": 5}):
        sent = json.loads(RULES.made_anew(CHAT, json.dumps(said | named).encode(), "")[0])
        assert {name: sent[name] for name in sent if "tokens" in name} == named
    for context, filled in ((64, 64), (100, 100), (101, 100), (0, 100)):
        assert json.loads(RULES.made_anew(CHAT, json.dumps(said).encode(), "", context)[0])["max_tokens"] == filled
    assert "max_tokens" not in json.loads(RULES.made_anew("POST /v1/completions", b'{"prompt": "?"}', "")[0])
