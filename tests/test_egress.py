import socket

import pytest

from kit.errors import SettingsError
from kit.trust import egress

NAMES = {
    "localhost": ["127.0.0.1", "::1"],
    "gpu.corp.example": ["10.1.2.3"],
    "split.example": ["10.1.2.3", "8.8.8.8"],
    "api.example.com": ["203.0.113.9", "2001:db8::9"],
    "xn--r8jz45g.jp": ["198.51.100.7"],
    "metadata.example": ["169.254.169.254"],
    "any.example": ["0.0.0.0"],
}


@pytest.fixture(autouse=True)
def names(monkeypatch):
    """Known names; addresses go to the real resolver, which opens no connection for them."""
    real = socket.getaddrinfo
    asked = []

    def resolve(host, port, **kwargs):
        asked.append(host)
        if host in NAMES:
            return [answer for address in NAMES[host] for answer in real(address, port, **kwargs)]
        if host.strip("0123456789abcdefxABCDEF.:%"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return real(host, port, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/v1",
        "https://localhost/v1",
        "HTTP://LOCALHOST./v1",
        "http://[::1]:8000/v1",
        "http://127.255.255.254",
        "http://10.0.0.1",
        "http://172.31.255.255",
        "http://192.168.0.1",
        "http://[fd00::1]",
        "http://2130706433",  # 127.0.0.1 as one number
        "http://0x7f.1",
        "http://127.1",
        "http://１２７.0.0.1",
        "http://gpu.corp.example:8000/v1",
    ],
)
def test_stays_inside(url):
    assert egress.check_url(url, ()) is True


@pytest.mark.parametrize(
    "url",
    [
        "http://8.8.8.8",
        "http://134744072",  # 8.8.8.8 as one number
        "http://[::ffff:8.8.8.8]",
        "http://[64:ff9b::a00:1]",  # 10.0.0.1 through a translator
        "http://[2002:a00:1::]",  # 10.0.0.1 through a tunnel
        "http://[2001:db8::1]",
        "http://172.32.0.1",
        "http://192.169.0.1",
        "http://11.0.0.1",
        "http://100.64.0.1",
        "http://198.18.0.1",
        "http://255.255.255.255",
        "http://224.0.0.1",
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]",
        "http://0.0.0.0:8000",
        "http://0",
        "http://[::]",
        "http://[::ffff:0.0.0.0]",
        "http://any.example",
        "http://metadata.example",
        "http://split.example",  # one address inside does not make the other so
        "http://api.example.com",
        "http://api.example.com.",
        "http://localhost.api.example.com.attacker.example",
        "http://unknown.example",
    ],
)
def test_outside_is_refused(url):
    with pytest.raises(SettingsError):
        egress.check_url(url, ("allowed.example",))


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "127.0.0.1:8000",
        "localhost:8000/v1",
        "//127.0.0.1/v1",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        "data:text/plain,x",
        "unix:///run/x.sock",
        "http:/127.0.0.1",
        "http://",
        "http://:8000/v1",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:port",
        "http://[::1",
        "http://127.0.0.1 /v1",
        "http://127.0.0.1\\@api.example.com",
        "http://127.0.0.1\x00.api.example.com",
        "http://localhost..",
        "http://%31%32%37.0.0.1",
        "http://user@127.0.0.1/v1",
        "http://user:secret@127.0.0.1/v1",
    ],
)
def test_malformed_is_refused(url):
    with pytest.raises(SettingsError) as caught:
        egress.check_url(url, ("127.0.0.1",))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://api.example.com/v1", "api.example.com"),
        ("https://api.example.com./v1", "API.Example.COM"),
        ("https://API.EXAMPLE.COM/v1", " api.example.com"),
        ("http://例え.jp", "xn--r8jz45g.jp"),
        ("http://8.8.8.8", "8.8.8.8"),
        ("http://[2001:db8::1]:8000", "2001:db8::1"),
    ],
)
def test_outside_but_named(url, allowed):
    assert egress.check_url(url, ("other.example", allowed)) is False


@pytest.mark.parametrize("allowed", ["example.com", "*.example.com", "", "xapi.example.com", "https://api.example.com"])
def test_only_the_very_name_is_allowed(allowed):
    with pytest.raises(SettingsError):
        egress.check_url("https://api.example.com", (allowed,))


def test_only_the_host_counts():
    assert egress.resolve("http://127.0.0.1#@api.example.com@", ()).url == "http://127.0.0.1"


def test_a_host_is_resolved_once_and_its_addresses_are_handed_on(names):
    destination = egress.resolve("http://LocalHost:8000/v1?x=1#y", ())
    assert names == ["localhost"]
    assert destination == egress.Destination("http://localhost:8000/v1", True, ("127.0.0.1", "::1"))


def test_the_refusal_says_which_line_to_write():
    with pytest.raises(SettingsError) as caught:
        egress.check_url("https://api.example.com/v1", ("old.example",))
    what, cause, remedy = str(caught.value).splitlines()
    assert "api.example.com" in what and "203.0.113.9" in what
    assert "社外" in cause
    assert 'allowed_hosts = ["old.example", "api.example.com"]' in remedy


def test_a_listening_address_is_explained():
    with pytest.raises(SettingsError, match=r"http://127\.0\.0\.1:8000/v1"):
        egress.check_url("http://0.0.0.0:8000/v1", ())
