"""Faults made on purpose, on real stores: kills, power cuts, Ctrl-C, flipped bits, full disks, many writers.

    python -m tests.faults kill|power|interrupt|flip|full|crowd --count N [--seed S]

Each prints one line of JSON. The process that counts has imported LanceDB but never used it, so that forked children may;
every opened store lives in such a child. ``tests/test_store_faults.py`` runs the short form.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from functools import partial
from pathlib import Path

import lancedb
import lancedb.background_loop
import lancedb.expr
import lancedb.index
import lancedb.query  # noqa: F401

from kit.errors import DataError, StoreError
from kit.knowledge import japanese, store as module
from kit.records import Block, Document, Place
from kit.trust import checksums

japanese.words("辞書を読み込む")
module._BATCH_DOCUMENTS = 3
WORDS = ["設備", "点検", "工場", "保管", "規程", "出張", "日当", "休暇", "承認", "申請", "部長", "課長", "契約", "請求", "納品", "検収", "在庫", "棚卸", "品質", "安全"]


def document(name, edition):
    """A document of one to four chunks whose every sentence is its own."""
    pages = 1 + edition % 4
    mark = f"{name}の第{edition}版"
    texts = [f"{mark}、{page}頁の控えは{WORDS[(edition + page) % 20]}課が保管する。" * 3 for page in range(pages)]
    readers = ("everyone",) if edition % 3 else ("hr",)
    blocks = tuple(Block(text, Place(page=page + 1)) for page, text in enumerate(texts))
    return Document(hashlib.sha256(mark.encode()).hexdigest(), f"{name}.txt", f"{mark}の題", blocks, readers)


def child(function, *arguments):
    """Start a function in a forked process; its exit code is 0, or 1 with the error on stderr."""
    sys.stdout.flush()
    with warnings.catch_warnings(action="ignore"):
        pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        with warnings.catch_warnings(action="ignore"):
            function(*arguments)
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def done(pid, seconds=120):
    """Wait for a child and return its exit code; minus the signal where one ended it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "hangs"


# --- what was promised ---------------------------------------------------------------------------------------------


class Log:
    """What a worker began and what the store acknowledged, outside of the store; survives a kill."""

    def __init__(self, path):
        self.path = path

    def write(self, **record):
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def state(self):
        """The editions acknowledged by name, those that may stand there instead, and the name that is being forgotten."""
        sure, maybe, forgetting, counts = {}, {}, "", Counter()
        for line in self.path.read_text().splitlines() if self.path.exists() else []:
            record = json.loads(line)
            act = record["act"]
            if act == "begin":
                maybe, forgetting = record["to"], record.get("forgetting", "")
                counts[record["what"]] += 1
            elif act == "told":  # by ``progress``: its batch is on disk
                sure[record["name"]] = maybe.pop(record["name"])
            elif act == "done":
                sure.update(maybe)
                sure = {name: edition for name, edition in sure.items() if edition is not None}
                maybe, forgetting = {}, ""
            elif act == "found":  # the check after a kill: this is what it came to
                sure, maybe, forgetting = record["state"], {}, ""
        return sure, maybe, forgetting, counts


def work(folder, log, seed, store=None):
    """Change a store at random for ever: add, replace, sync, remove, optimise, forget, go back; and search in it."""
    choose = random.Random(seed)
    store = store or module.Store(folder)
    log.write(act="open")
    while True:
        now = log.state()[0]
        names = sorted(now)
        what = choose.choice(["add", "add", "update", "update", "sync", "search", "remove", "optimise", "forget", "rollback"])
        picked = choose.sample(names, min(len(names), choose.randint(1, 4)))
        if what == "add" or not picked:
            new = {f"文書{choose.randrange(10**9)}": choose.randrange(100) for _ in range(choose.randint(1, 7))}
            _add(store, log, "add", new)
        elif what == "update":
            _add(store, log, "update", {name: choose.randrange(100, 200) for name in picked})
        elif what == "sync":
            change = {f"文書{choose.randrange(10**9)}": choose.randrange(100)} | dict.fromkeys(picked)
            log.write(act="begin", what=what, to=change)
            store.sync(document(*one) for one in (now | change).items() if one[1] is not None)
        elif what == "search":
            log.write(act="begin", what=what, to={})
            assert store.search(f"{picked[0]}の第{now[picked[0]]}版", k=1, as_user="hr", fold=False)[0].chunk.document == f"{picked[0]}.txt"
        elif what == "remove":
            log.write(act="begin", what=what, to=dict.fromkeys(picked))
            store.remove([f"{name}.txt" for name in picked])
        elif what == "forget":
            log.write(act="begin", what=what, to={picked[0]: None}, forgetting=picked[0])
            store.forget(f"{picked[0]}.txt")
        elif what == "rollback":
            extra = {f"取消{choose.randrange(10**9)}": 7}
            _add(store, log, "add", extra)
            log.write(act="done")
            log.write(act="begin", what=what, to=dict.fromkeys(extra))
            store.rollback()
        else:
            log.write(act="begin", what=what, to={})
            with store._writing("optimise"):
                store._index()
        log.write(act="done")


def _add(store, log, what, editions):
    log.write(act="begin", what=what, to=editions)
    documents = [document(name, edition) for name, edition in editions.items()]
    store.add(documents, progress=lambda one: log.write(act="told", name=one.name.removesuffix(".txt")))


def check(folder, log):
    """Everything acknowledged is there, whole, counted and found; nothing else is."""
    sure, maybe, forgetting, _ = log.state()
    store = module.Store(folder)
    assert not store.notices, store.notices
    held = {name.removesuffix(".txt"): content for name, content in store.documents().items()}
    state = {}
    for name in sure.keys() | maybe.keys() | held.keys():
        allowed = [sure.get(name), *([maybe[name]] if name in maybe else [])]
        fits = [edition for edition in allowed if (document(name, edition).id if edition is not None else None) == held.get(name)]
        assert fits, (name, allowed, held.get(name))
        if fits[0] is not None:
            state[name] = fits[0]
            whole = module.split(document(name, fits[0]))
            assert store.chunks(f"{name}.txt") == whole, (name, fits)
    assert len(store) == sum(len(module.split(document(*one))) for one in state.items())
    health = store.verify()
    assert health.ok, str(health)
    for name, edition in sorted(state.items())[:3]:
        hits = store.search(f"{name}の第{edition}版", k=1, as_user="hr", fold=False)
        assert hits and hits[0].chunk.document == f"{name}.txt", (name, edition)
    if forgetting and forgetting not in state:  # what is half forgotten can be forgotten for good
        erase(store, forgetting)
    log.write(act="found", state=state)


def erase(store, name):
    """Forget a document that may be gone already."""
    with contextlib.suppress(DataError):
        store.forget(f"{name}.txt")
    found = [path for path in store.path.rglob("*") if path.is_file() and f"{name}の第".encode() in path.read_bytes()]
    assert not found, found


# --- faults --------------------------------------------------------------------------------------------------------


def kill(count, seed, folder, amnesia=False):
    """Kill a writer at a random moment, every third time while it indexes; after 25 times begin with an empty store."""
    choose, told, operations, late = random.Random(seed), Counter(), Counter(), 0
    for number in range(count):
        home = folder / str(number // 25)
        home.mkdir(exist_ok=True)
        log = Log(home / "log")
        before = log.path.stat().st_size if log.path.exists() else 0
        pid = child(work, home / "store", log, choose.random())
        while not log.path.exists() or '"open"' not in log.path.read_bytes()[before:].decode():
            time.sleep(0.005)
            if choose.random() < 0.0005:  # now and then while it opens
                break
        if number % 3:
            time.sleep(choose.uniform(0, 1.2))
        else:
            await_new(home / "store", "_indices", choose.uniform(0, 0.03))
        os.kill(pid, signal.SIGKILL)
        assert done(pid) == -signal.SIGKILL, "the writer failed by itself"
        told["inside an index"] += any("_indices" in path.parts for path in unvouched(home / "store"))
        if amnesia:
            told["files lost"] += forget_unsynced(home / "store", choose)
        late += log.state()[1] != {}
        assert done(child(check, home / "store", log)) == 0, f"see {home}, fault {number}"
        operations = sum((Log(path).state()[3] for path in folder.glob("*/log")), Counter())
        if number % 25 == 24:
            shutil.rmtree(home / "store")
    return {"faults": count, "inside an operation": late, "operations": dict(operations), **told}


def await_new(folder, kind, longer, seconds=3):
    """Wait until a writer begins a new file (``data``) or index (``_indices``), and a little longer."""
    before, end = set(folder.glob(f"chunks.lance/{kind}/*")), time.monotonic() + seconds
    while before >= set(folder.glob(f"chunks.lance/{kind}/*")) and time.monotonic() < end:
        time.sleep(0.001)
    time.sleep(longer)


def unvouched(folder):
    """The files of a store that nobody vouched for."""
    listed = checksums.read(folder / "checksums.txt")
    found = [*folder.glob("chunks.lance/**/*"), *folder.glob("corpus.sqlite-*")]
    return [path for path in found if path.is_file() and path.relative_to(folder).as_posix() not in listed]


def interrupt(count, seed, folder):
    """Press Ctrl-C at a random moment, every third time in a commit, in a process that goes on as a notebook's kernel does."""
    choose, operations, again, late = random.Random(seed), Counter(), 0, 0
    for number in range(0, count, 25):
        home = folder / str(number)
        home.mkdir()
        log = Log(home / "log")
        pid = child(_kernel, home / "store", log, min(25, count - number), choose.random())
        for press in range(1, min(25, count - number) + 1):
            assert acts(log, "open", press), f"see {home}"
            if press % 3:
                time.sleep(choose.uniform(0, 1.2))
            else:
                await_new(home / "store", "data", choose.uniform(0, 0.004))
            late += log.state()[1] != {}
            os.kill(pid, signal.SIGINT)
            while not acts(log, "interrupted", press, 10):  # Python drops one that comes inside a destructor
                again += 1
                os.kill(pid, signal.SIGINT)
        assert done(pid) == 0, f"see {home}"
        assert done(child(check, home / "store", log)) == 0, f"see {home}"
        operations += log.state()[3]
        shutil.rmtree(home / "store")
    return {"faults": count, "inside an operation": late, "pressed again": again, "operations": dict(operations)}


def _kernel(folder, log, count, seed):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    store = module.Store(folder)
    for number in range(count):
        try:
            work(folder, log, seed + number, store if number % 2 else None)  # the store of an earlier cell, or a new one
        except KeyboardInterrupt:
            log.write(act="interrupted")
        check(folder, log)  # at once: what the interrupted call had begun may still be going on


def acts(log, act, number, seconds=60):
    """Wait until a log holds an act that often, and tell whether it does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if log.path.exists() and log.path.read_text().count(f'"act": "{act}"') >= number:
            return True
        time.sleep(0.005)
    return False


def forget_unsynced(folder, choose):
    """Do to a store what a power cut may do: of files that nobody vouched for, some are empty, cut, zeroed or gone."""
    lost = 0
    for path in unvouched(folder):
        if choose.random() < 0.8:
            size, lost = path.stat().st_size, lost + 1
            match choose.randrange(4):
                case 0:
                    path.unlink()
                case 1:
                    path.write_bytes(bytes(size))
                case 2:
                    path.write_bytes(b"")
                case _:
                    os.truncate(path, size // 2)
    return lost


def flip(count, seed, folder):
    """Flip one bit of a store's file: ``verify`` names it, or opening or searching is refused, or nothing differs."""
    choose, original = random.Random(seed), folder / "original"
    assert done(child(_flippable, original)) == 0
    files = sorted(path for path in original.rglob("*") if path.is_file() and path.stat().st_size)
    plan = []
    for number in range(count):
        path = files[number % len(files)]
        plan.append((path.relative_to(original).as_posix(), choose.randrange(8 * path.stat().st_size)))
    results = folder / "results"
    results.touch()
    while len(lines := results.read_text().splitlines()) < count:  # a child that crashes is replaced, and its flip counted
        code = done(child(_flips, folder, original, plan, results), 3600)
        if code != 0 and len(results.read_text().splitlines()) == len(lines):
            with results.open("a") as file:
                file.write(json.dumps(["crash", *plan[len(lines)], str(code)]) + "\n")
    outcomes = [json.loads(line) for line in lines]
    bad = [outcome for outcome in outcomes if outcome[0] in ("crash", "silent", "error")]
    return {"flips": count, "files": len(files), **Counter(outcome[0] for outcome in outcomes), "bad": bad[:20]}


def _flippable(folder):
    store = module.Store(folder)
    store.add([document(f"文書{number}", number) for number in range(12)])
    store.add([document("文書3", 103)])
    store.remove(["文書5.txt"])


def _seen(store):
    """All that users and operators see of a store."""
    hits = [store.search(f"文書{n}の第{n}版の{word}", as_user="hr") for n, word in enumerate(WORDS[:6])]
    hits += [store.keyword_search("控えは設備課が保管する", k=5, as_user=user) for user in ("", "hr")]
    scores = [[hit.score for hit in found] for found in hits]  # who of equals comes first differs from one opening to the next
    return store.documents(), [store.chunks(name) for name in sorted(store.documents())], scores, store.tags()


def _flips(folder, original, plan, results):
    expected = _seen(module.Store(shutil.copytree(original, folder / "pristine", dirs_exist_ok=True)))
    for name, bit in plan[len(results.read_text().splitlines()) :]:
        copy = folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(original, copy)
        content = bytearray((copy / name).read_bytes())
        content[bit // 8] ^= 1 << bit % 8
        (copy / name).write_bytes(content)
        with results.open("a") as file:
            file.write(json.dumps([_outcome(copy, name, expected), name, bit]) + "\n")


def _outcome(copy, name, expected):
    try:
        store = module.Store(copy)
        health = store.verify()
        if not health.ok:
            base = name.removesuffix(".manifest")
            named = (*health.damage.changed, *health.damage.missing, *health.notices)
            return "named" if any(base.rpartition("/")[2] in line for line in named) or health.counts is False else "silent"
        return "harmless" if _seen(store) == expected else "silent"
    except StoreError:
        return "refused"
    except Exception as error:
        return f"error {type(error).__name__}"


def full(count, seed, folder):
    """Fill tmpfs disks of growing size; needs the right to mount (root, or a user namespace)."""
    told = []
    for number in range(count):
        size = 1 + number * 15 / max(1, count - 1)
        assert done(child(_full, folder / "disk", size, told), 600) == 0, f"{size} MB"
    return {"disks": count}


def _full(disk, size, told):
    disk.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={int(size * 1024)}k", "none", disk], check=True)
    acknowledged, refused, store = {}, 0, None
    for number in range(2000):
        name = f"文書{number}"
        try:
            store = store or module.Store(disk / "store")
            store.add([document(name, number % 100)])
            acknowledged[name] = number % 100
        except StoreError as error:
            assert "ディスクの空きがありません" in str(error), str(error)
            refused += 1
            if refused == 3:
                break
    assert refused == 3
    if store:
        for each in (store, module.Store(disk / "store")):
            assert acknowledged.keys() <= {one.removesuffix(".txt") for one in each.documents()}
            for name, edition in acknowledged.items():
                assert each.chunks(f"{name}.txt") == module.split(document(name, edition))
    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
    store = module.Store(disk / "store")
    store.add([document("後から", 1)])
    health = store.verify()
    assert health.ok, str(health)
    assert acknowledged.keys() | {"後から"} <= {one.removesuffix(".txt") for one in store.documents()}
    subprocess.run(["umount", "-l", disk], check=True)


def crowd(count, seed, folder):
    """Let sixteen processes add, replace and remove at once, ``count`` times each."""
    begun = time.monotonic()
    writers = [child(_crowd, folder / "store", number, count) for number in range(16)]
    codes = [done(writer, 1800) for writer in writers]
    assert codes == [0] * 16, codes
    log = Log(folder / "log")
    log.write(act="found", state={f"{n}番{turn}": turn + 50 for n in range(16) for turn in range(count) if turn % 3 != 2})
    assert done(child(check, folder / "store", log)) == 0
    return {"processes": 16, "operations": 16 * count * 2, "seconds": round(time.monotonic() - begun)}


def _crowd(folder, number, count):
    store = module.Store(folder)
    for turn in range(count):
        name = f"{number}番{turn}"
        store.add([document(name, turn)])
        if turn % 3 == 2:
            store.remove([f"{name}.txt"])
        else:
            store.add([document(name, turn + 50)])


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fault", choices=["kill", "power", "interrupt", "flip", "full", "crowd"])
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    faults = {"kill": kill, "interrupt": interrupt, "flip": flip, "full": full, "crowd": crowd, "power": partial(kill, amnesia=True)}
    folder = Path(tempfile.mkdtemp(prefix=f"faults-{options.fault}-"))
    begun = time.monotonic()
    result = faults[options.fault](options.count, options.seed, folder)
    shutil.rmtree(folder)
    sys.stdout.write(json.dumps(result | {"seconds": round(time.monotonic() - begun)}, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
