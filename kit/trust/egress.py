"""May this address be called? Loopback and private ranges stay inside; anything else has to be named in kit.toml.

The verdict is passed on what the name resolves to, not on how it is spelled, and the addresses found are handed on,
so that the name cannot point elsewhere by the time it is called. No connection is opened here.
"""

import ipaddress
import re
import socket
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from yarl import URL

from kit.errors import SettingsError

_INSIDE = tuple(
    ipaddress.ip_network(network)
    for network in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)
# Link-local is left out on purpose (169.254.169.254 hands out cloud credentials), and so is 0.0.0.0.


@dataclass(frozen=True, slots=True)
class Destination:
    """An address that may be called.

    Attributes:
        url: The URL as the client must spell it (lower case, IDNA), without query and fragment.
        inside: Whether every address of the host is loopback or private.
        addresses: What the host resolved to.
    """

    url: str
    inside: bool
    addresses: tuple[str, ...]


def check_url(url: str, allowed_hosts: Sequence[str]) -> bool:
    """Return whether a URL stays inside; False means outside, but named by the user.

    A run that called an outside host must say 外部送信あり in its summary.

    Args:
        url: An http or https URL without a user name.
        allowed_hosts: Host names outside that the user named in kit.toml.

    Raises:
        SettingsError: The URL is malformed, cannot be resolved, or is outside and not named.
    """
    return resolve(url, allowed_hosts).inside


def resolve(url: str, allowed_hosts: Sequence[str]) -> Destination:
    """Check a URL like ``check_url`` and return the destination with the addresses that were checked."""
    parsed = _parse(url)
    host = (parsed.raw_host or "").removesuffix(".")
    addresses = _addresses(host)
    inside = all(any(ipaddress.ip_address(address) in network for network in _INSIDE) for address in addresses)
    if not inside and host not in {name.strip().lower() for name in allowed_hosts}:
        line = ", ".join(f'"{name}"' for name in (*allowed_hosts, host))
        raise SettingsError(
            f"「{host}」（{'、'.join(addresses)}）には接続しませんでした。",
            "この機械や社内のアドレスではなく、質問と資料が社外に送られるおそれがあります。",
            "この機械のサーバーなら http://127.0.0.1:8000/v1 のように書きます。社外への送信を認める場合だけ、kit.toml に"
            f"次の行を書いてください（サマリーに「外部送信あり」と出ます）: allowed_hosts = [{line}]",
        )
    return Destination(str(parsed), inside, addresses)


def _parse(url: str) -> URL:
    with suppress(ValueError):
        parsed = URL(url)  # the client's own parser: what is checked is what is called
        if parsed.scheme in ("http", "https") and parsed.raw_host and "@" not in parsed.raw_authority:
            return parsed.with_query(None).with_fragment(None)
    raise SettingsError(
        f"モデルサーバーの URL「{re.sub(r'[^/]*@', '…@', url)}」は使えません。",
        "http:// か https:// で始まり、空白も、ユーザー名やパスワードも含まない URL ではありません。",
        '例: llm_url = "http://127.0.0.1:8000/v1"。鍵は環境変数で渡します: export KIT_LLM_API_KEY=…',
    )


def _addresses(host: str) -> tuple[str, ...]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"ホスト「{host}」の住所（IPアドレス）が分かりません。",
            f"名前の書き間違いか、名前解決（DNS）に届いていません（{error}）。",
            f"確かめるコマンド: getent hosts {host}",
        ) from error
    return tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
