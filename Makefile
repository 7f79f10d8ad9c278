# What a contributor runs.
.PHONY: check test slow readme speed

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
