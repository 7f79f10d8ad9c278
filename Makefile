# What a contributor runs.
.PHONY: check test slow readme speed zoo

check:
	ruff check .
	ruff format --check .
	pytest

test:
	pytest

slow:
	pytest -m slow

# Tables and the figures in README.md and the model cards, from checkpoints/*/results.json
readme:
	python -m benchmarks.figure
	python -m benchmarks.readme

speed:
	python -m benchmarks.speed
	python -m benchmarks.folder

# Train what is due, one after another; after a kill or reboot, the same again: make zoo TRAIN=PHOTOS VAL=HELD_OUT [DATA=SETS]
zoo: runs/pages
	python -m benchmarks.zoo --train $(TRAIN) --val $(VAL) $(if $(DATA),--data $(DATA)) $(NAMES)

runs/pages:
	python -m benchmarks.pages $@
