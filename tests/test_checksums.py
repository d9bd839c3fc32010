import shutil
import subprocess

import pytest

from kit.trust import checksums

ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, example B.1


@pytest.fixture
def listing(tmp_path):
    (tmp_path / "data" / "sub").mkdir(parents=True)
    (tmp_path / "data" / "a").write_bytes(b"abc")
    (tmp_path / "data" / "sub" / "b").write_bytes(b"")
    (tmp_path / "data" / "hint").write_bytes(b"changes")
    listing = tmp_path / "checksums.txt"
    checksums.update(listing, "data", but=frozenset({"hint"}))
    return listing


def damage(listing):
    found = checksums.verify(listing, "data", but=frozenset({"hint"}))
    return found.changed, found.missing


def test_what_is_listed(listing):
    assert checksums.read(listing)["data/a"] == ABC
    assert set(checksums.read(listing)) == {"data/a", "data/sub/b"}
    assert damage(listing) == ((), ())
    assert checksums.verify(listing, "data").files == 3


@pytest.mark.skipif(not shutil.which("sha256sum"), reason="sha256sum is not installed")
def test_sha256sum_reads_the_list(listing):
    done = subprocess.run(["sha256sum", "--strict", "-c", listing.name], cwd=listing.parent, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_changed_and_missing_files_are_named_and_new_ones_are_no_damage(listing):
    (listing.parent / "data" / "a").write_bytes(b"abd")
    (listing.parent / "data" / "sub" / "b").unlink()
    (listing.parent / "data" / "c").write_bytes(b"")
    assert damage(listing) == (("data/a",), ("data/sub/b",))


def test_listed_files_are_not_hashed_again_and_lost_ones_stay_listed(listing):
    (listing.parent / "data" / "a").write_bytes(b"abd")
    (listing.parent / "data" / "sub" / "b").unlink()
    checksums.update(listing, "data", but=frozenset({"hint"}), lost=frozenset({"data/sub/b"}))
    assert damage(listing) == (("data/a",), ("data/sub/b",))
    checksums.update(listing, "data", but=frozenset({"hint"}))
    assert damage(listing) == (("data/a",), ())


def test_pruning_drops_and_vouches_for_nothing_new(listing):
    (listing.parent / "data" / "a").unlink()
    (listing.parent / "data" / "c").write_bytes(b"")
    checksums.update(listing, "data", vouch=False)
    assert set(checksums.read(listing)) == {"data/sub/b"}


def test_every_flipped_bit_of_the_list_is_named(listing):
    content = listing.read_bytes()
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        listing.write_bytes(flipped)
        assert not checksums.read(listing), bit
    assert "checksums.txt" in damage(listing)[0]
    listing.unlink()
    assert "checksums.txt" in damage(listing)[1]
