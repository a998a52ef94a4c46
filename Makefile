# One verb per task; each does its own set-up.
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo
RUN := $(BIN)/python -m monai.bundle run

.PHONY: demo test test-slow test-zips test-apps test-device test-gpu bundles benchmark lint clean

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

# A small Med3D pre-trained on sample data, its encoder transferred to three tasks, an encoder pre-trained without
# labels, a comparison of both with a start from scratch, and where the results lie.
# All of it is synthetic: it says nothing about medicine.
demo: .venv/installed
	$(BIN)/python scripts/prepare_data.py sample --out $(DEMO)/data
	$(BIN)/python scripts/prepare_data.py sample --out $(DEMO) --of lungs
	$(BIN)/python scripts/prepare_data.py sample --out $(DEMO) --of nodules
	$(BIN)/python scripts/prepare_data.py sample --out $(DEMO) --of livers
	$(call train,med3d_pretraining) --dataset_dir $(DEMO)/data --epochs 12
	$(call train,lung_segmentation) --dataset_dir $(DEMO)/Synthetic_Lungs --epochs 6 --max_region 56,56,56 \
	    --pretrained_weights $(ENCODER)
	$(call train,lung_nodule_ct_classification) --dataset_dir $(DEMO)/Synthetic_Nodules --epochs 12 \
	    --pretrained_weights $(ENCODER)
	$(call train,liver_ct_coarse_segmentation) --dataset_dir $(DEMO)/Synthetic_Livers --epochs 16 --val_interval 4 \
	    --val_fraction 0.25 --size 64,64,64 --pretrained_weights $(ENCODER)
	$(call train,liver_ct_fine_segmentation) --dataset_dir $(DEMO)/Synthetic_Livers --epochs 48 --val_interval 24 \
	    --val_fraction 0.25 --region 80,80,80 --spacing 2.5,2.5,2.5 --decoder_rate_multiple 5 \
	    --pretrained_weights $(ENCODER) --coarse_checkpoint $(DEMO)/liver_ct_coarse_segmentation/models/model.pt
	$(RUN) evaluating --config_file "['$(LIVER)/train.json','$(LIVER)/evaluate.json']" \
	    --dataset_dir $(DEMO)/Synthetic_Livers --ckpt_dir $(DEMO)/liver_ct_fine_segmentation \
	    --output_dir $(DEMO)/liver_ct_fine_segmentation/evaluation
	$(call train,genesis_pretraining) --dataset_dir $(DEMO)/Synthetic_Livers --architecture resnet --epochs 8 \
	    --val_interval 4 --draws_per_epoch 1 --max_tissue 1 --margin 0,0,0 --region 48,48,32
	$(BIN)/python scripts/transfer_study.py run --bundle lung_nodule_ct_classification \
	    --dataset_dir $(DEMO)/Synthetic_Nodules --out $(DEMO)/study --epochs 6 --seeds 0,1 \
	    --options '{"cube_size": [32, 32, 32]}' \
	    --inits "scratch,med3d=$(ENCODER),genesis=$(DEMO)/genesis_pretraining/checkpoints/encoder.pt"
	@echo
	@echo "Encoder  $(ENCODER)"
	@ls $(DEMO)/*/eval/metrics.csv | sed 's/^/Metrics  /'
	@ls $(DEMO)/*/eval*/*.png | sed 's/^/Picture  /'
	@echo "Liver on unseen scans, Dice of the cascade and of an intensity window with its largest component:"
	@grep -E '"(val_mean_dice|intensity_window_baseline)"' $(DEMO)/liver_ct_fine_segmentation/evaluation/evaluation.json
	@echo "Comparison of initialisations, to open in a browser: $(CURDIR)/$(DEMO)/study/report.html"
	@echo "All of it is made from synthetic volumes and says nothing about medicine."

ENCODER = $(DEMO)/med3d_pretraining/checkpoints/encoder.pt
LIVER = bundles/liver_ct_fine_segmentation/configs
train = $(RUN) training --config_file bundles/$(1)/configs/train.json --depth 10 \
    --ckpt_dir $(DEMO)/$(1) --output_dir $(DEMO)/$(1)/eval

test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=2 --dist=worksteal --cov --cov-report=term --durations=15

test-slow: .venv/installed
	$(BIN)/python -m pytest -m slow --durations=15

# The packed bundles, in an interpreter that has neither this repository nor its package.
test-zips: .venv/installed
	$(BIN)/python -m pytest -m zips --durations=5

# A real MONAI Label server, in an environment of its own (7.5 GB) beside the project's.
test-apps: .venv/installed .venv-monailabel/installed
	$(BIN)/python -m pytest -m apps -rsP

.venv-monailabel/installed: apps/monailabel/requirements.txt
	$(PYTHON) -m venv .venv-monailabel
	.venv-monailabel/bin/python -m pip install --quiet --requirement apps/monailabel/requirements.txt
	touch $@

# All bundles on an emulated device, which shows what a GPU would refuse; built by the C++ compiler in a minute, once.
test-device: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/device -m device --numprocesses=2 --dist=loadgroup -rs --durations=5

# The same on a CUDA device.
test-gpu: .venv/installed
	$(BIN)/python -m pytest tests/device -m gpu -rs

bundles: .venv/installed
	$(BIN)/python scripts/pack_bundles.py

# What docs/performance.md reports, but for plan_memory.py, into CSV and JSON. Half an hour on two idle cores.
BENCHMARKS := spacing preprocessing caching training inference inference_memory cascade shuffling startup growth
benchmark: .venv/installed
	for what in $(BENCHMARKS); do $(BIN)/python scripts/benchmark.py $$what --out benchmarks || exit 1; done

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/sync_bundles.py --check

clean:
	rm -rf .venv .venv-monailabel dist $(DEMO) .coverage* .mypy_cache .ruff_cache .pytest_cache *.egg-info
