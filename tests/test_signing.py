import hashlib
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from kit.errors import DataError, RunError
from kit.trust import signing

ROOT = Path(__file__).parents[1]
PEM = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


@pytest.fixture
def file(tmp_path):
    made = tmp_path / "keys" / "部長.pem"
    signing.make_key(made)
    return made


def test_a_key_is_readable_by_its_owner_alone_and_never_replaced(file):
    before = file.read_bytes()
    assert file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in file.parent.iterdir()] == ["部長.pem"]
    with pytest.raises(DataError, match="もうあります") as caught:
        signing.make_key(file)
    assert len(str(caught.value).split("\n")) == 3
    assert file.read_bytes() == before


def test_the_machine_key_lies_in_the_configuration_of_the_user(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert signing.machine_key().parent.parent == tmp_path
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert signing.machine_key().parent.parent == tmp_path / ".config"


def test_a_signed_statement_stands_until_a_letter_of_it_changes(file):
    signed = signing.sign({"head": "ab" * 32, "sequence": 3}, signing.read_key(file))
    assert signing.stands(signed)
    assert signed["key"] == hashlib.sha256(signed["public_key"].encode()).hexdigest()
    assert signing.sign({"sequence": 3, "head": "ab" * 32}, signing.read_key(file)) == signed
    for name, value in signed.items():
        for other in (f"{value}0", None, 1.5, [], "00" * 64, "é"):
            assert not signing.stands(signed | {name: other}), name
        assert not signing.stands({key: value for key, value in signed.items() if key != name})
    assert not signing.stands(signed | {"note": ""})
    assert not signing.stands({})


def test_the_key_named_is_the_key_that_signed(file, tmp_path):
    signing.make_key(tmp_path / "other.pem")
    ours, theirs = (signing.sign({"x": 1}, signing.read_key(key)) for key in (file, tmp_path / "other.pem"))
    assert not signing.stands(ours | {"public_key": theirs["public_key"], "key": theirs["key"]})
    assert not signing.stands(ours | {"signature": theirs["signature"]})
    assert not signing.stands(ours | {"key": theirs["key"]})


def test_a_public_key_of_another_kind_proves_nothing(file):
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()
    signed = signing.sign({"x": 1}, signing.read_key(file))
    assert not signing.stands(signed | {"public_key": pem, "key": hashlib.sha256(pem.encode()).hexdigest()})


def spoilt(file, how):
    """Make a key file unusable in one way."""
    key = {
        "other": ec.generate_private_key(ec.SECP256R1()).private_bytes(*PEM, serialization.NoEncryption()),
        "password": Ed25519PrivateKey.generate().private_bytes(*PEM, serialization.BestAvailableEncryption(b"x")),
        "text": "鍵".encode(),
    }
    if how == "missing":
        file.unlink()
    elif how == "readable":
        file.chmod(0o640)
    else:
        file.write_bytes(key[how])


@pytest.mark.parametrize("how", ["other", "password", "text", "missing", "readable"])
def test_a_key_that_cannot_be_used_is_explained(file, how):
    spoilt(file, how)
    with pytest.raises(DataError, match="使えません") as caught:
        signing.read_key(file)
    assert len(str(caught.value).split("\n")) == 3
    assert "PRIVATE" not in str(caught.value)


def test_a_place_that_cannot_be_written_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="書き込めません"):
        signing.make_key(tmp_path / "file" / "folder" / "key.pem")


def test_of_many_who_make_the_key_at_once_one_wins(tmp_path):
    script = textwrap.dedent("""
        import sys
        from pathlib import Path
        from kit.trust import ledger
        print(ledger.checkpoint(Path(sys.argv[1])).content["key"])
    """)
    environment = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", script, str(tmp_path / "runs" / "ledger.jsonl")]
    begun = [subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    keys = {process.communicate()[0] for process in begun}
    assert [process.returncode for process in begun] == [0] * 4
    assert len(keys) == 1 and len(keys.pop().strip()) == 64
