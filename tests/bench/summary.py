"""How long a summary takes in all formats, and a workbook of many rows.

    python -m tests.bench.summary RUN      RUN: a decided run's folder; files go to a temporary folder

All formats are written twice in one process: the second time tells what the work takes, the first what ``kit summary`` does
beside starting Python. The rows of the workbook are the run's own, again and again; the peak is that of the whole process.
"""

import itertools
import resource
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

from kit.evaluation.decide import read_decision
from kit.reporting import spreadsheet
from kit.reporting.export import FORMATS, draw_summary, write_summary
from kit.reporting.samples import samples

LIMIT_S = 5.0
ROWS = (2_000, 100_000)


def main(run: Path) -> int:
    decision = read_decision(run)
    with tempfile.TemporaryDirectory() as folder:
        for time_of in ("first", "second"):
            begun, worked = time.perf_counter(), time.process_time()
            write_summary(decision, to=folder, formats=FORMATS)
            took, busy = time.perf_counter() - begun, time.process_time() - worked
            print(f"all formats, {time_of} time: {took:.2f} s, of a processor {busy:.2f} s (limit {LIMIT_S:g})")
        for name in FORMATS:
            begun = time.perf_counter()
            path, = write_summary(decision, to=folder, formats=[name])
            print(f"  {name:<5} {time.perf_counter() - begun:5.2f} s  {path.stat().st_size / 1e6:.2f} MB")
    summary, kept = draw_summary(decision), list(samples(decision, "ja"))
    for count in ROWS:
        rows = itertools.islice(itertools.cycle(kept), count)
        begun = time.perf_counter()
        with mock.patch.object(spreadsheet, "samples", return_value=rows):
            book = spreadsheet.workbook(summary, replace(decision, states={"candidate": {"answered": count}}))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"workbook of {count:,} rows: {time.perf_counter() - begun:.1f} s, {len(book) / 1e6:.2f} MB, peak {peak:.0f} MiB")
    return int(took > LIMIT_S)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
