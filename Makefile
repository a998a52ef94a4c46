# One verb per task; each does its own set-up.
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo
RUN := $(BIN)/python -m monai.bundle run

.PHONY: demo test test-slow test-gpu lint clean

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

# Sample data, a small Med3D pre-trained on it, and where the results lie. Synthetic: it says nothing about medicine.
demo: .venv/installed
	$(BIN)/python scripts/prepare_data.py sample --out $(DEMO)/data --seed 0
	$(RUN) training --config_file bundles/med3d_pretraining/configs/train.json --dataset_dir $(DEMO)/data \
	    --depth 10 --epochs 12 --ckpt_dir $(DEMO)/med3d_pretraining --output_dir $(DEMO)/med3d_pretraining/eval
	@echo
	@echo "Encoder   $(DEMO)/med3d_pretraining/checkpoints/encoder.pt"
	@echo "Metrics   $(DEMO)/med3d_pretraining/eval/metrics.csv"
	@echo "Curves    $(DEMO)/med3d_pretraining/eval/curves.png"
	@echo "Overlays  $(DEMO)/med3d_pretraining/eval/overlays.png"
	@echo "All of it is made from synthetic volumes and says nothing about medicine."

test: .venv/installed
	$(BIN)/python -m pytest --cov --cov-report=term --durations=15

test-slow: .venv/installed
	$(BIN)/python -m pytest -m slow --durations=15

test-gpu: .venv/installed
	$(BIN)/python -m pytest -m gpu -rs

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/sync_bundles.py --check

clean:
	rm -rf .venv $(DEMO) .coverage* .mypy_cache .ruff_cache .pytest_cache *.egg-info
