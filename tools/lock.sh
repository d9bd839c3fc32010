#!/usr/bin/env bash
# Compile requirements/*.in into requirements/*.lock with uv (a maintainer's verb; users never need uv).
#
# The locks are flat text: one "name==version" a line, valid on Linux x86-64 for every supported Python.
# - The notebooks' torch is written without a local version: the index that pip sees chooses the build (TORCH_INDEX).
#   The CPU server's says "+cpu", so that a CUDA build is never taken by accident.
# - The CUDA libraries of the notebook environment are left out: torch's own metadata pins them exactly, and
#   its CPU build has none. The GPU server lock keeps them: there the build is never in doubt.
# uv reads neither pip.conf nor PIP_*: proxies by HTTPS_PROXY, certificates by SSL_CERT_FILE, mirrors by UV_INDEX_URL,
# a folder with PyTorch's CPU wheels by UV_FIND_LINKS, PyTorch's CPU index by TORCH_INDEX.
set -euo pipefail
cd "$(dirname "$0")/../requirements"

UV=${UV_BIN:-$(command -v uv || true)}
if [ -z "$UV" ]; then
    echo "何が起きたか: uv が見つからないため、ロックファイルを作り直せません。" >&2
    echo "考えられる原因: make lock は保守担当者用で、通常の準備には uv は不要です。" >&2
    echo "次にすること: python3 -m venv /tmp/uv && /tmp/uv/bin/pip install uv && make lock UV_BIN=/tmp/uv/bin/uv" >&2
    exit 1
fi

# Lines that can never apply on Linux/CPython go; markers that always hold there are cut off.
flatten() {
    sed -E -e "/^(appnope|pywinpty|httpx2-jsfetch)==/d" \
        -e "/;.*python_(full_)?version/! s/ ;.*//"
}

compile() { # compile NAME.in arguments... : the flat text on stdout
    "$UV" pip compile "$@" --no-annotate --no-header --quiet ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} | flatten
}

# The new text is moved into place only when uv has succeeded.
trap 'rm -f ./*.lock.new' EXIT
# Without a folder of CPU wheels: they exist for single Python versions and would split the resolution.
UV_FIND_LINKS='' compile notebooks.in --universal --python-version 3.11 --fork-strategy fewest |
    sed -E '/^(nvidia-|cuda-|triton==)/d' >notebooks.lock.new
mv notebooks.lock.new notebooks.lock
# The servers are resolved for one Python each: vLLM and torch publish what they need per version.
compile server-cpu.in --python-version 3.11 --python-platform x86_64-manylinux_2_28 --index-strategy unsafe-best-match \
    --overrides server.overrides >server-cpu.lock.new
mv server-cpu.lock.new server-cpu.lock
UV_FIND_LINKS='' compile server-gpu.in --python-version 3.11 --python-platform x86_64-manylinux_2_28 >server-gpu.lock.new
mv server-gpu.lock.new server-gpu.lock
wc -l ./*.lock >&2
