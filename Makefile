# Two commands do everything on a fresh machine with Python 3.11 or newer: `make demo` and `make test`.
PYTHON ?= python3
PIP = .venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test check docs clean

demo: .venv/installed
	.venv/bin/twobe3 demo --out demo

test: .venv/installed-dev
	.venv/bin/pytest

check: .venv/installed-dev
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/mypy
	$(MAKE) --no-print-directory docs

docs: .venv/installed-dev
	.venv/bin/sphinx-build -q -E -W --keep-going docs docs/_build
	@echo docs/_build/index.html

.venv/bin/pip:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/pip pyproject.toml constraints.txt
	$(PIP) -e '.[codecs]'
	touch $@

.venv/installed-dev: .venv/installed
	$(PIP) -e '.[codecs,timm,docs,dev]'
	touch $@

clean:
	rm -rf .venv demo docs/_build docs/_generated
