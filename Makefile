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

# A small Med3D pre-trained on sample data, its encoder transferred to two tasks, and where the results lie.
# All of it is synthetic: it says nothing about medicine.
demo: .venv/installed
	$(BIN)/python scripts/prepare_data.py sample --out $(DEMO)/data
	$(BIN)/python scripts/prepare_data.py sample --out $(DEMO) --of lungs
	$(BIN)/python scripts/prepare_data.py sample --out $(DEMO) --of nodules
	$(call train,med3d_pretraining) --dataset_dir $(DEMO)/data --epochs 12
	$(call train,lung_segmentation) --dataset_dir $(DEMO)/Synthetic_Lungs --epochs 6 --max_region 56,56,56 \
	    --pretrained_weights $(DEMO)/med3d_pretraining/checkpoints/encoder.pt
	$(call train,lung_nodule_ct_classification) --dataset_dir $(DEMO)/Synthetic_Nodules --epochs 12 \
	    --pretrained_weights $(DEMO)/med3d_pretraining/checkpoints/encoder.pt
	@echo
	@echo "Encoder  $(DEMO)/med3d_pretraining/checkpoints/encoder.pt"
	@ls $(DEMO)/*/eval/metrics.csv | sed 's/^/Metrics  /'
	@ls $(DEMO)/*/eval/*.png | sed 's/^/Picture  /'
	@echo "All of it is made from synthetic volumes and says nothing about medicine."

train = $(RUN) training --config_file bundles/$(1)/configs/train.json --depth 10 \
    --ckpt_dir $(DEMO)/$(1) --output_dir $(DEMO)/$(1)/eval

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
