#!/usr/bin/env bash
# Install the system packages that only the full tests use (make test-all); what is there already is left alone.
# Never fails: tests that lack one of these are skipped, or fail by name under --require.
set -uo pipefail
PACKAGES="chromium chromium-driver libreoffice-impress libreoffice-writer libreoffice-calc poppler-utils fonts-noto-cjk strace cron"

by_hand() { # by_hand CAUSE PACKAGE...
    local cause=$1
    shift
    {
        echo "何が起きたか: 全テスト用の部品が足りません（$*）。"
        echo "考えられる原因: $cause"
        echo "次にすること: sudo apt-get install $*（RHEL などでは同等のパッケージ）。なくても続けられますが、該当するテストは省かれます。"
    } >&2
    exit 0
}

if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
    missing=""
    for pair in chromium:chromium soffice:libreoffice pdftoppm:poppler-utils strace:strace; do
        command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair#*:}"
    done
    # shellcheck disable=SC2086  # a list of words
    [ -z "$missing" ] || by_hand "apt のない Linux では自動で導入できません。" $missing
    exit 0
fi

missing=""
for package in $PACKAGES; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing="$missing $package"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    as_root="env"
elif sudo -n true 2>/dev/null; then
    as_root="sudo -n env"
else
    # shellcheck disable=SC2086
    by_hand "導入には管理者権限が必要です。" $missing
fi

echo "全テスト用の部品を導入しています（$(echo "$missing" | wc -w) 個、初回は数分）。" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() { $as_root DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -q --no-install-recommends "$@"; }

$as_root apt-get update -q >"$log" 2>&1
# shellcheck disable=SC2086
if ! install $missing >>"$log" 2>&1; then
    # One name that this release does not know must not cost the others.
    left=""
    for package in $missing; do
        install "$package" >>"$log" 2>&1 || left="$left $package"
    done
    if [ -n "$left" ]; then
        grep '^E:' "$log" | sort -u | tail -n 3 | cut -c1-200 | sed 's/^/      | /' >&2
        # shellcheck disable=SC2086
        by_hand "apt がパッケージを取得または導入できませんでした（上の行）。" $left
    fi
fi
