"""What may be asked for through the gateway: a request's body is checked by ``gateway.toml`` and written anew."""

import json
import tomllib
from pathlib import Path
from typing import Any

import fastjsonschema

BODY = 256 * 1024
"""Most bytes of a body."""
_OPTIONS, _DEPTH = 16 * 1024, 32  # bytes of all in it but its texts, and levels


class Refused(Exception):
    """A request that is not passed on, with its HTTP status and the body that the OpenAI protocol wants."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        kind = "server_error" if status >= 500 else "invalid_request_error"
        self.status, self.body = status, {"error": {"message": message, "type": kind, "param": None, "code": status}}


class Rules:
    """The routes and their fields, with the most tokens of a reply: more are refused, naming none means these."""

    def __init__(self, max_tokens: int) -> None:
        table = tomllib.loads(Path(__file__).with_name("gateway.toml").read_text(encoding="utf-8"))
        self._max_tokens, self._refusals = max_tokens, table["refusals"]
        table["definitions"]["tokens"]["maximum"] = max_tokens
        common = {"type": "object", "additionalProperties": False, "definitions": table["definitions"]}
        self._checks = {}
        for route, groups in table["routes"].items():
            fields = {name: rule for group in groups for name, rule in table[group].items()}
            self._checks[route] = fastjsonschema.compile(common | {"properties": fields})

    def __contains__(self, route: str) -> bool:
        return route in self._checks

    def made_anew(self, route: str, content: bytes, salt: str, context: int = 0) -> tuple[bytes, bool]:
        """Return the body to pass on, and whether the client asked to be shown a stream's usage.

        Args:
            route: Method and path.
            content: What the client sent.
            salt: Keeps the prompt cache of its user apart, so that nobody can time what others have asked.
            context: Longest conversation of the model, in tokens: vLLM refuses to be asked for more, and cuts what
                the prompt leaves no room for by itself. 0 where it is unknown.

        Raises:
            Refused: It is no JSON object, or holds something that the route does not allow.
        """
        try:
            body = {name: value for name, value in json.loads(content).items() if value is not None}
            options = json.dumps({name: body[name] for name in body.keys() - {"messages", "prompt", "input"}})
            if len(options) > _OPTIONS or _depth(body) > _DEPTH:
                raise Refused(400, f"文章以外の指定は合わせて {_OPTIONS:,} バイト、入れ子は {_DEPTH} 段までです。")
            self._checks[route](body)
            shown = body.pop("stream_options", {}).get("include_usage", False)
            if body.get("stream"):
                body["stream_options"] = {"include_usage": True}
            if "messages" in body and not body.keys() & {"max_tokens", "max_completion_tokens"}:
                body["max_tokens"] = min(self._max_tokens, context or self._max_tokens)
            return json.dumps(body | {"cache_salt": salt}, ensure_ascii=False, allow_nan=False).encode(), shown
        except fastjsonschema.JsonSchemaValueException as wrong:
            raise Refused(400, self._told(wrong)) from None
        except (ValueError, AttributeError, RecursionError):  # NaN, half a letter, not an object, a thousand levels
            raise Refused(400, "要求の本文は JSON のオブジェクトで書いてください。") from None

    def _told(self, wrong: fastjsonschema.JsonSchemaValueException) -> str:
        place, bound = wrong.path[1:], wrong.rule_definition
        if wrong.rule == "additionalProperties":
            place += sorted(set(wrong.value) - set(wrong.definition["properties"]))[:1]
        shown = "、".join(map(str, bound)) if isinstance(bound, list) else bound
        return f"「{'.'.join(place)[:80]}」: {self._refusals[wrong.rule].format(bound=shown)}。"


def _depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)
