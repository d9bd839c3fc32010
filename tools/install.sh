# shellcheck shell=bash
# What tools/setup.sh and tools/server.sh share: find a Python, make an environment, install a lock, explain failures.
# Sourced, never run. Everything is said on stderr: the stdout of `make poc` belongs to the program.
#
# An environment is complete when DIR/.stamp holds the digest of what it was made from. The stamp is removed before
# anything is changed and written last, so an environment without one was interrupted and is made anew: a half
# unpacked package looks installed to pip, and cannot be trusted.

say() { printf '%s\n' "$*" >&2; }

# fail WHAT CAUSE NEXT: the three lines every error of the kit has, then stop.
fail() {
    say "何が起きたか: $1"
    say "考えられる原因: $2"
    say "次にすること: $3"
    exit 1
}

require_linux() {
    local system machine
    system=$(uname -s) machine=$(uname -m)
    [ "$system" = Linux ] && [ "$machine" = x86_64 ] && return
    fail "この環境（$system $machine）では準備を進められません。" \
        "対応しているのは Linux x86-64（Debian、Ubuntu、RHEL 9、WSL2）だけです。" \
        "Windows は WSL2、Mac や ARM 機は Linux x86-64 のサーバーにログインし、そこで同じコマンドを実行してください。"
}

# usable COMMAND: true for a Python 3.11–3.14 that can make virtual environments.
usable() {
    command -v "$1" >/dev/null 2>&1 &&
        "$1" -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' >/dev/null 2>&1
}

# find_python [VERSION]: sets PYTHON. A given PYTHON= is used or refused, never replaced. An offline bundle wants VERSION.
find_python() {
    local candidates="python3.11 python3.12 python3.13 python3.14 python3" wanted=${1:-} name version seen="" without_venv=""
    if [ -n "${PYTHON:-}" ]; then
        candidates=$PYTHON
    elif [ -n "$wanted" ]; then
        candidates="python$wanted python3"
    fi
    for name in $candidates; do
        if usable "$name" && { [ -z "$wanted" ] || "$name" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$wanted')"; }; then
            PYTHON=$(command -v "$name")
            return
        fi
        version=$("$name" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue
        seen="$seen $version"
        # shellcheck disable=SC2254  # a pattern
        case $version in ${wanted:-3.1[1-4]}) without_venv=$version ;; esac
    done
    if [ -n "$without_venv" ]; then
        fail "Python $without_venv はありますが、仮想環境を作る部品（venv）がありません。" \
            "Debian と Ubuntu では venv が別パッケージになっています。" \
            "sudo apt install python$without_venv-venv の後で、もう一度同じコマンドを実行してください。"
    fi
    if [ -n "${PYTHON:-}" ]; then
        fail "PYTHON=$PYTHON は使えません（Python ${wanted:-3.11〜3.14} が必要です）。" "場所の誤りか、対応していない版です。" \
            "PYTHON= を外すか、$PYTHON -V で版を確かめてから、もう一度同じコマンドを実行してください。"
    fi
    fail "Python ${wanted:-3.11〜3.14} が見つかりません（見つかった版:${seen:- なし}）。" \
        "Python が導入されていないか、対応していない版です。" \
        "sudo apt install python3 python3-venv（RHEL 9 は sudo dnf install python3.11）の後でもう一度。場所の指定は PYTHON=/usr/bin/python3.11"
}

# digest FILE...: what an environment is made from, the place included (an environment cannot be moved).
digest() { { cat "$@"; pwd -P; } | sha256sum | cut -d' ' -f1; }

# complete DIR DIGEST: true when the environment was finished from just that.
complete() { [ "$(cat "$1/.stamp" 2>/dev/null)" = "$2" ] && "$1/bin/python" -c '' 2>/dev/null; }

# make_venv DIR: keeps a finished environment that still runs here, makes a new one otherwise.
make_venv() {
    local finished
    finished=$(cat "$1/.stamp" 2>/dev/null || true)
    if [ -n "$finished" ] && "$1/bin/python" -m pip --version >/dev/null 2>&1 && [ "$(cat "$1/.place" 2>/dev/null)" = "$(pwd -P)" ]; then
        rm -f "$1/.stamp"
        return
    fi
    [ -e "$1" ] && say "      途中で止まった、または移動された $1 を作り直します。"
    rm -rf "$1"
    "$PYTHON" -m venv "$1" >>"$LOG" 2>&1 || explain
    pwd -P >"$1/.place"
}

# quiet COMMAND...: runs it with its output in the log; on a terminal a counter shows that it lives.
quiet() {
    local pid code=0 start=$SECONDS
    echo "+ $*" >>"$LOG"
    "$@" >>"$LOG" 2>&1 &
    pid=$!
    # A background child ignores Ctrl-C in a script: pass it on, and leave no stamp behind.
    trap 'interrupted "$pid"' INT TERM
    while [ -t 2 ] && kill -0 "$pid" 2>/dev/null; do
        printf '\r      %d 秒 ' $((SECONDS - start)) >&2
        sleep 1
    done
    wait "$pid" || code=$?
    trap - INT TERM
    [ -t 2 ] && printf '\r                    \r' >&2
    return "$code"
}

# interrupted PID: stop the child, say how to go on, and leave.
interrupted() {
    trap '' INT TERM
    kill "$1" 2>/dev/null || true
    wait "$1" 2>/dev/null || true
    say ""
    say "中断しました。同じコマンドをもう一度実行すると、準備をやり直します。"
    exit 130
}

# install_lock DIR LOCK ARGUMENTS...: pip by default, with the user's own pip configuration; uv with UV=1 where present.
install_lock() {
    local venv=$1 lock=$2
    shift 2
    if [ -n "${OFFLINE:-}" ]; then
        quiet "$venv/bin/python" -m pip install --no-input --disable-pip-version-check --progress-bar off \
            --no-index --find-links "$OFFLINE" --require-hashes --no-deps -r "$lock" || explain
    elif [ -n "${UV:-}" ] && [ "$UV" != 0 ] && command -v uv >/dev/null 2>&1; then
        # uv does not read pip's configuration; hand over what the environment says.
        UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-}} UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-}} \
            SSL_CERT_FILE=${SSL_CERT_FILE:-${PIP_CERT:-}} quiet with_set uv pip install --python "$venv/bin/python" \
            --compile-bytecode --index-strategy unsafe-best-match "$@" \
            ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -r "$lock" || explain
    else
        quiet "$venv/bin/python" -m pip install --no-input --disable-pip-version-check --progress-bar off "$@" \
            ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} -r "$lock" || explain
    fi
}

# with_set COMMAND...: run it without the UV_/SSL_ variables that are empty (uv reads an empty one as a value).
with_set() {
    local name
    for name in UV_DEFAULT_INDEX UV_FIND_LINKS SSL_CERT_FILE; do
        [ -n "${!name:-}" ] || unset "$name"
    done
    "$@"
}

# explain: what the log ends with, and its likely cause in Japanese; stops.
explain() {
    local what="パッケージの導入に失敗しました（記録: $LOG）。"
    # pip's own words: its errors if it named any, else whatever came last.
    { tail -n 60 "$LOG" | grep -iE '^ *(error|fatal|.*errno)' | grep -v '^ERROR: Ignored' | tail -n 3 | grep . || tail -n 3 "$LOG"; } |
        sed -E 's/^(.{200}).*/\1…/; s/^/      | /' >&2
    in_log() { tail -n 60 "$LOG" | grep -qiE "$1"; }
    if in_log 'no space left on device|errno 28|disk quota'; then
        fail "$what" "ディスクの空きが足りません（.venv に約 3 GB と .venv-server に約 3 GB、CUDA 版は約 7 GB と約 9 GB、ほかに一時領域が必要です）。" \
            "df -h . /tmp で空きを確かめ、空けるか TMPDIR=空きのある場所 を付けて、もう一度同じコマンドを実行してください。"
    elif [ -n "${OFFLINE:-}" ] && in_log 'no matching distribution found|do not match the hashes'; then
        fail "$what" "持ち込んだフォルダ $OFFLINE のファイルが足りないか、作ったときの内容と一致しません（破損または改ざん）。" \
            "そのフォルダで sha256sum -c --quiet SHA256SUMS を実行し、表示されたファイルを持ち込み直してください。"
    elif in_log 'torch==[0-9.]+\+cpu'; then
        fail "$what" "CPU 版の torch は PyPI になく、PyTorch の CPU 用インデックスにあります。" \
            "TORCH_INDEX=https://download.pytorch.org/whl/cpu（または社内のミラー）を付けて、もう一度同じコマンドを実行してください。"
    elif in_log 'certificate_verify_failed|sslerror|certificate verify|invalid peer certificate'; then
        fail "$what" "社内プロキシーの証明書が信頼されていません。" \
            "社内 CA 証明書を指定します: export PIP_CERT=/path/to/company-ca.pem の後で、もう一度同じコマンドを実行してください。"
    elif in_log 'proxyerror|cannot connect to proxy|407 proxy|tunnel connection failed'; then
        fail "$what" "プロキシーに接続できないか、認証に失敗しました。" \
            "export HTTPS_PROXY=http://利用者:パスワード@プロキシー:ポート を確かめて、もう一度同じコマンドを実行してください。"
    elif in_log 'name resolution|name or service not known|failed to establish a new connection|connection refused|timed out|network is unreachable|dns error|error sending request'; then
        fail "$what" "パッケージの配布元に届きません（ネットワーク、プロキシー、社内ミラーの設定）。" \
            "プロキシーは HTTPS_PROXY、社内ミラーは PIP_INDEX_URL に設定してください。閉域では別の機械で make bundle を実行し、OFFLINE=持ち込んだフォルダ を付けます。"
    elif in_log 'no matching distribution found'; then
        fail "$what" "指定した版のパッケージが、使っている配布元（社内ミラーやフォルダ）にありません。" \
            "上の行のパッケージを配布元に追加するか、PIP_INDEX_URL を確かめて、もう一度同じコマンドを実行してください。"
    elif in_log 'permission denied'; then
        fail "$what" "このフォルダに書き込む権限がありません。" \
            "ls -ld . で所有者を確かめ、自分のフォルダに git clone し直してください（sudo は不要です）。"
    fi
    fail "$what" "記録からは原因を特定できませんでした。" "$LOG を開いて最初の ERROR の行を確かめ、もう一度同じコマンドを実行してください。"
}

# bundle_header NAME FILE: the value of "# NAME: value" at the top of a bundle's list.
bundle_header() { sed -n "1,8s/^# $1: *//p" "$2"; }

# check_bundle FILE: OFFLINE must hold FILE; OFFLINE becomes absolute.
check_bundle() {
    if [ ! -f "$OFFLINE/$1" ]; then
        fail "オフライン用のフォルダ $OFFLINE に $1 がありません。" "フォルダ名の誤り、または make bundle が最後まで終わっていません。" \
            "ネットワークのある同じ種類の Linux で make bundle を実行し、できた bundle/ を丸ごと持ち込んで OFFLINE=そのパス を指定してください。"
    fi
    OFFLINE=$(cd "$OFFLINE" && pwd -P)
}

# alone: one set-up of an environment at a time; a second one waits for the first.
alone() {
    touch "$LOG" 2>/dev/null || fail "$(pwd) に書き込めません。" "別の利用者が git clone したフォルダか、読み取り専用の場所です。" \
        "自分のフォルダに git clone し直してから、もう一度同じコマンドを実行してください。"
    exec 9>>"$LOG"
    if ! flock -n 9; then
        say "別の準備が進んでいます。終わるまで待ちます。"
        flock 9
    fi
}
