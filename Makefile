# Two commands for a new user: `make poc`, `make test`. `make` alone lists the verbs.
.DEFAULT_GOAL := help
.PHONY: help setup poc lab test test-all apt server bundle lock clean
SHELL := /bin/bash
PY := .venv/bin/python

# Handed to the tools through the environment, so that spaces and $ in a value stay what they are.
export PYTHON TORCH_INDEX OFFLINE UV SERVER BUNDLE UV_BIN
export URL MODEL CONTEXT STATUS

FAST := not (slow or notebooks or browser or server or real or long)

help:
	@printf '%s\n' \
	  '使い方: make 動詞 [変数=値]' \
	  '' \
	  '  make poc        準備をして、data/sample の PoC を最初から最後まで実行し、判定を出します' \
	  '  make lab        JupyterLab を起動します（接続方法も表示します）' \
	  '  make setup      ノートブック用の環境 .venv だけを用意します' \
	  '  make server     vLLM サーバー用の環境 .venv-server を用意します（GPU があれば GPU 版）' \
	  '  make bundle     閉域網へ持ち込むための一式を bundle/ に作ります' \
	  '  make test       速いテスト（サーバー不要）' \
	  '  make test-all   すべてのテスト（apt の部品と vLLM サーバーを用意してから実行します）' \
	  '  make lock       requirements/*.lock を作り直します（保守担当者用。uv が必要です）' \
	  '  make clean      .venv、.venv-server と一時ファイルを消します（runs/ と bundle/ は残します）' \
	  '' \
	  '変数:' \
	  '  URL=http://127.0.0.1:8000/v1   make poc: すでに動いているサーバーを使います' \
	  '  MODEL=フォルダ                 make poc: このモデルを vLLM で起動して試し、終わったら止めます' \
	  '  CONTEXT=数                     make poc MODEL=…: 1会話の長さの上限〔トークン、既定 8192〕' \
	  '  OFFLINE=bundle                 make bundle で作ったフォルダから、ネットワークなしで導入します' \
	  '  TORCH_INDEX=URL                torch の配布元（GPU なし: https://download.pytorch.org/whl/cpu）' \
	  '  PYTHON=/usr/bin/python3.11     使う Python（3.11〜3.14）' \
	  '  SERVER=cpu|gpu                 make server、make bundle: vLLM の種類（省略時は自動判定）' \
	  '  BUNDLE=フォルダ                make bundle の出力先' \
	  '  UV=1                           uv があれば使います（pip より速く、結果は同じです）'

setup:
	@tools/setup.sh

poc: setup
	$(if $(MODEL),@$(MAKE) --no-print-directory server)
	@$(PY) -m kit poc data/sample $(if $(URL),--url "$$URL") $(if $(MODEL),--model "$$MODEL" $(if $(CONTEXT),--context "$$CONTEXT"))

lab: setup
	@$(PY) -m kit.interface.lab

# ARGS= adds pytest arguments, such as ARGS="-k ledger".
test: setup
	@$(PY) -m pytest -m "$(FAST)" $(ARGS)

# REQUIRE=vllm,shared,chromium,libreoffice turns a skip for want of one of these into a failure.
# STATUS=FILE receives pytest's exit code, which make replaces by its own 2.
test-all: setup apt server
	@$(PY) -m pytest -m "not long" $(if $(REQUIRE),--require=$(REQUIRE)) $(ARGS) || \
	  { code=$$?; [ -z "$$STATUS" ] || echo $$code >"$$STATUS"; exit $$code; }

apt:
	@tools/apt.sh

server:
	@tools/server.sh

bundle: setup
	@$(PY) tools/bundle.py

lock:
	@tools/lock.sh

clean:
	@rm -rf .venv .venv-server .venv-setup.log .venv-server-setup.log .pytest_cache .hypothesis .mypy_cache .ruff_cache \
	  .import_linter_cache build dist *.egg-info
	@find . -path ./.git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
