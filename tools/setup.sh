#!/usr/bin/env bash
# Make .venv, the environment of the notebooks and of the kit, from requirements/notebooks.lock.
# Safe to call at any time: finished, it returns at once; interrupted, it repairs.
#
#   PYTHON=/usr/bin/python3.12   which Python (default: the first of 3.11 to 3.14 that has venv)
#   TORCH_INDEX=URL              a further index for torch's build (PyTorch's CPU index on machines without a GPU)
#   OFFLINE=DIR                  install from the wheelhouse that `make bundle` wrote, with no network at all
#   UV=1                         use uv where it is present (faster, same result; uv does not read pip.conf)
set -euo pipefail
cd "$(dirname "$0")/.."
LOG=.venv-setup.log
# shellcheck source=tools/install.sh
. tools/install.sh

require_linux
LOCK=requirements/notebooks.lock
if [ -n "${OFFLINE:-}" ]; then
    check_bundle notebooks.txt
    LOCK=$OFFLINE/notebooks.txt
fi
WANT=$(digest requirements/notebooks.lock pyproject.toml)
complete .venv "$WANT" && exit 0

alone
complete .venv "$WANT" && exit 0 # the one we waited for did it
: >"$LOG"
START=$SECONDS
find_python "$([ -z "${OFFLINE:-}" ] || bundle_header python "$LOCK")"
say "[1/3] Python 環境 .venv を用意しています（$("$PYTHON" -V 2>&1)、$PYTHON）。"
make_venv .venv
if [ -z "${OFFLINE:-}${TORCH_INDEX:-}${PIP_FIND_LINKS:-}" ] && ! nvidia-smi -L >/dev/null 2>&1; then
    say "      GPU が見つかりません。TORCH_INDEX=https://download.pytorch.org/whl/cpu を付けると、ダウンロードが数 GB 減ります。"
fi
say "[2/3] パッケージ $(grep -c '==' "$LOCK") 個を導入しています（初回は数分。記録: $LOG）。"
install_lock .venv "$LOCK"
say "[3/3] 本キットを .venv に登録しています。"
# setuptools is in the lock: building needs no index, so the same command serves the closed network.
quiet .venv/bin/python -m pip install --no-input --disable-pip-version-check --no-deps --no-build-isolation \
    ${OFFLINE:+--no-index} -e . || explain
echo "$WANT" >.venv/.stamp
say "      準備ができました（$((SECONDS - START)) 秒）。"
