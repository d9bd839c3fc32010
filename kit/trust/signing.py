"""Ed25519 signatures: statements that whoever lacks the private key cannot make, nor change unnoticed.

A signed statement is a JSON object that holds, beside what it says, the public key and the signature over all the rest.
"""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kit.errors import DataError
from kit.trust.durable import canonical, sync_folder, unwritable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def machine_key() -> Path:
    """Return where the key of this user on this machine lies: in the user's configuration, never beside the runs."""
    home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(home).expanduser() / "sovereign-ai-notebook-kit" / "ledger-key.pem"


def make_key(file: Path) -> None:
    """Make a private key (PKCS#8 PEM, mode 0600, no passphrase); of two who do so at once, the first wins.

    Raises:
        DataError: The file is there already.
        RunError: The folder cannot be written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent) as made:  # mode 0600 from its first byte on
            made.write(Ed25519PrivateKey.generate().private_bytes(*form))
            made.flush()
            os.fsync(made.fileno())
            os.link(made.name, file)
        sync_folder(file.parent)
    except FileExistsError as error:
        cause, remedy = "前に作った鍵を上書きすると、その鍵で署名し続けられなくなります。", "別の名前を指定してください。"
        raise DataError(f"鍵 {file} は、もうあります。", cause, remedy) from error
    except OSError as error:
        raise unwritable(file, error) from error


def read_key(file: Path) -> "Ed25519PrivateKey":
    """Read a private key.

    Raises:
        DataError: It is missing, no unencrypted Ed25519 key in PEM, or others than its owner may read it.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        if file.stat().st_mode & 0o077:
            raise ValueError("others may read it")
        key = load_pem_private_key(file.read_bytes(), None)
        if isinstance(key, Ed25519PrivateKey):
            return key
        raise ValueError("another kind of key")
    except (OSError, ValueError, TypeError) as error:
        raise DataError(
            f"署名の鍵 {file} を使えません。",
            "ファイルがないか、パスワードのない Ed25519 の秘密鍵（PEM）ではないか、ほかの利用者にも読める権限になっています。",
            f"権限を直すには: chmod 600 '{file}'　新しく作るには: kit audit key 鍵のファイル名.pem",
        ) from error


def sign(statement: Mapping[str, Any], key: "Ed25519PrivateKey") -> dict[str, Any]:
    """Return a statement (plain JSON values) with the key's fingerprint, its public key (PEM) and the signature over all."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    whole = {**statement, "key": _fingerprint(public), "public_key": public}
    return {**whole, "signature": key.sign(canonical(whole).encode()).hex()}


def stands(statement: Mapping[str, Any]) -> bool:
    """Whether a statement is as it was signed, by the key that it names. Whose key that is, it cannot say."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    whole = {name: value for name, value in statement.items() if name != "signature"}
    try:
        key: Any = load_pem_public_key(statement["public_key"].encode())
        key.verify(bytes.fromhex(statement["signature"]), canonical(whole).encode())
        return bool(statement["key"] == _fingerprint(statement["public_key"]))
    # A key of another kind asks for other arguments, or cannot verify at all.
    except (InvalidSignature, UnsupportedAlgorithm, LookupError, ValueError, TypeError, AttributeError):
        return False


def _fingerprint(public: str) -> str:
    """Return the SHA-256 of a public key as it is written: short enough to be compared with one on paper."""
    return hashlib.sha256(public.encode()).hexdigest()
