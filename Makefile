# One verb per task; each does its own set-up.
PYTHON ?= python3
BIN := .venv/bin
DEMO := demo
RUN := $(BIN)/python -m monai.bundle run

.PHONY: demo demo-all test test-slow test-zips test-apps test-device test-gpu test-newest \
    bundles benchmark lint clean

.venv/installed: requirements.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --requirement requirements.txt
	touch $@

# A small Med3D pre-trained on sample data, its encoder transferred to the lungs, the model scored beside a guess that
# never looks at a scan, and a new scan segmented. It fails where the model is no better than the guess.
# All of it is synthetic: it says nothing about medicine.
demo: .venv/installed
	$(call say,1 of 6: draw synthetic scans of eight domains and of lungs. Half a minute.)
	$(BIN)/python scripts/prepare_data.py sample --out $(DEMO)/data
	$(BIN)/python scripts/prepare_data.py sample --out $(DEMO) --of lungs --cases 16
	$(BIN)/python scripts/prepare_data.py sample --out $(DEMO)/new --of lungs --cases 1 --seed 1
	$(call say,2 of 6: pre-train a small Med3D on the eight domains. A minute and a half.)
	$(call train,med3d_pretraining) --dataset_dir $(DEMO)/data --epochs 6 --val_interval 6
	$(call say,3 of 6: transfer its encoder to the lungs. Two minutes.)
	$(call train,lung_segmentation) --dataset_dir $(DEMO)/Synthetic_Lungs --val_fraction 0.25 \
	    --epochs 24 --val_interval 8 --spacing 8,8,8 --patch_size 40,40,40 --pretrained_weights $(ENCODER)
	$(call say,4 of 6: score the model on four scans that it was not trained on. Seconds.)
	$(call evaluate,lung_segmentation) --dataset_dir $(DEMO)/Synthetic_Lungs
	$(call say,5 of 6: segment a new scan. Seconds.)
	$(RUN) inference --config_file bundles/lung_segmentation/configs/inference.json \
	    --dataset_dir $(DEMO)/new/Synthetic_Lungs/imagesTr --ckpt_dir $(DEMO)/lung_segmentation/models \
	    --output_dir $(DEMO)/lung_segmentation/inference
	$(call say,6 of 6: what there is now.)
	@$(BIN)/python scripts/demo_summary.py $(DEMO)

# After the demo: the nodules, the cascade of the liver, an encoder pre-trained without labels, and a comparison of both
# encoders with a start from scratch.
demo-all: demo
	$(call say,Sample data of nodules and livers. Half a minute.)
	$(BIN)/python scripts/prepare_data.py sample --out $(DEMO) --of nodules
	$(BIN)/python scripts/prepare_data.py sample --out $(DEMO) --of livers
	$(call say,Classify nodules from the pre-trained encoder.)
	$(call train,lung_nodule_ct_classification) --dataset_dir $(DEMO)/Synthetic_Nodules --epochs 12 \
	    --pretrained_weights $(ENCODER)
	$(call say,Find the liver in the whole scan; then segment it with its tumours in the region that was found.)
	$(call train,liver_ct_coarse_segmentation) --dataset_dir $(DEMO)/Synthetic_Livers --epochs 16 --val_interval 4 \
	    --val_fraction 0.25 --patch_size 64,64,64 --pretrained_weights $(ENCODER)
	$(call train,liver_ct_fine_segmentation) --dataset_dir $(DEMO)/Synthetic_Livers --epochs 48 --val_interval 24 \
	    --val_fraction 0.25 --patch_size 80,80,80 --spacing 2.5,2.5,2.5 --decoder_rate_multiple 5 \
	    --pretrained_weights $(ENCODER) --coarse_checkpoint $(DEMO)/liver_ct_coarse_segmentation/models/model.pt
	$(call evaluate,liver_ct_fine_segmentation) --dataset_dir $(DEMO)/Synthetic_Livers
	$(call say,Pre-train an encoder without labels as Models Genesis does.)
	$(call train,genesis_pretraining) --dataset_dir $(DEMO)/Synthetic_Livers --architecture resnet --epochs 8 \
	    --val_interval 4 --draws_per_epoch 1 --max_tissue 1 --margin 0,0,0 --patch_size 48,48,32
	$(call say,Compare both encoders with a start from scratch on the nodules.)
	$(BIN)/python scripts/transfer_study.py run --bundle lung_nodule_ct_classification \
	    --dataset_dir $(DEMO)/Synthetic_Nodules --out $(DEMO)/study --epochs 6 --seeds 0,1 \
	    --options '{"patch_size": [32, 32, 32]}' \
	    --inits "scratch,med3d=$(ENCODER),genesis=$(DEMO)/genesis_pretraining/checkpoints/encoder.pt"
	$(call say,What there is now; the demo's own part first.)
	@$(BIN)/python scripts/demo_summary.py $(DEMO)
	@echo
	@ls $(DEMO)/*/eval/metrics.csv | sed 's/^/Tables    /'
	@ls $(DEMO)/*/eval*/*.png | sed 's/^/Pictures  /'
	@echo "Liver on unseen scans: Dice of the cascade and of an intensity window with its largest component"
	@grep -E '"(val_mean_dice|intensity_window_baseline)"' $(DEMO)/liver_ct_fine_segmentation/evaluation/evaluation.json
	@echo "Comparison of initialisations, to open in a browser: $(CURDIR)/$(DEMO)/study/report.html"

ENCODER = $(DEMO)/med3d_pretraining/checkpoints/encoder.pt
train = $(RUN) training --config_file bundles/$(1)/configs/train.json --depth 10 \
    --run_dir $(DEMO)/$(1)
evaluate = $(RUN) evaluating --config_file "['bundles/$(1)/configs/train.json','bundles/$(1)/configs/evaluate.json']" \
    --run_dir $(DEMO)/$(1) --output_dir $(DEMO)/$(1)/evaluation
say = @printf '\n== %s\n' "$(1)"

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

# The suite with MONAI's newest release, whatever requirements.txt pins, in an environment of its own, made anew each
# time. pip may warn that the release is outside the range in pyproject.toml; whether that range can grow is what this
# tells.
test-newest:
	rm -rf .venv-newest
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --requirement requirements.txt
	.venv-newest/bin/python -m pip install --quiet --upgrade monai
	.venv-newest/bin/python -m pip list | grep -i '^monai '
	OMP_NUM_THREADS=1 .venv-newest/bin/python -m pytest --numprocesses=2 --dist=worksteal --durations=15

bundles: .venv/installed
	$(BIN)/python scripts/pack_bundles.py

# What docs/performance.md reports, but for plan_memory.py, into CSV and JSON. Half an hour on two idle cores.
BENCHMARKS := spacing preprocessing caching training reports inference inference_memory cascade shuffling startup growth
benchmark: .venv/installed
	for what in $(BENCHMARKS); do $(BIN)/python scripts/benchmark.py $$what --out benchmarks || exit 1; done

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python scripts/sync_bundles.py --check

clean:
	rm -rf .venv .venv-monailabel .venv-newest dist $(DEMO) .coverage* .mypy_cache .ruff_cache .pytest_cache *.egg-info
