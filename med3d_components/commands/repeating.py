"""Repeat a training from its run.json, and compare."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from med3d_components.commands.models import HOME, find_bundle
from med3d_components.data.split_file import FILE, PARTS
from med3d_components.records import RECORD, describe_data, describe_environment, differences, read_record
from med3d_components.records.environment import VARIABLES
from med3d_components.utils import write_json
from med3d_components.utils.command_line import check_known
from med3d_components.utils.files import file_digest
from med3d_components.utils.option_help import option_names
from med3d_components.utils.options import OPTIONS, PATHS, check_value, has_expression

__all__ = ["repeat"]

OWN = ("run_dir", "ckpt_dir", "output_dir", "cache_dir", "resume")
"""Options that a replay never takes from a record: it writes into its own folder alone."""
RUN_IDS = ("training", "run")
NAME = re.compile(r"\w+")
CONFIG = re.compile(r"\w+\.json")
VARIABLE = re.compile(r"[\w:,.+=-]{0,64}")
ALWAYS_TOLD = ("package", "versions", "processor")
"""Of an environment, what this process can tell before the run."""


def repeat(record: str, folder: str | None, given: Mapping[str, str | None]) -> Path:
    """Train again and compare, see :func:`med3d_components.commands.training.replay`.

    Args:
        record: the run.json.
        folder: of the bundle, if it is none of those here.
        given: options of the record that are another place now, None for those that are not.
    """
    path = Path(record)
    then = read_record(path)
    configs = _configs(then, path, _find_bundle(then, path, folder))
    options = _options(then, path, configs[0], given)
    variables = _variables(then, path)
    kept = _check_data(then, path, configs, options)
    _check_weights(then, options)
    for line in _warnings(then, configs):
        print(f"warning: {line}")
    place = _make_folder(path)
    arguments = place / "arguments.json"
    changes = {"run_dir": place.absolute().as_posix(), **{name: _typed(value) for name, value in options.items()}}
    files = [config.absolute().as_posix() for config in configs]
    write_json(arguments, {"run_id": then["run_id"], "config_file": files, **changes, **kept})
    command = [sys.executable, "-m", "monai.bundle", "run", "--args_file", str(arguments)]
    print(f"The training runs again, in {place}.", flush=True)
    if subprocess.run(command, env=variables, check=False).returncode:
        raise ValueError(f"The training ended with an error, see above; what it left is in {place}.")
    _compare(then, read_record(place / "models" / RECORD))
    return place


def _find_bundle(then: Mapping[str, Any], path: Path, folder: str | None) -> Path:
    name = then["bundle"]["name"]
    if not NAME.fullmatch(name):
        raise ValueError(f"{path} names the bundle {name!r}, which is no name.")
    found = find_bundle(folder or name)
    settings = _read_config(found / "configs" / "train.json").get("settings", {})
    if settings.get("bundle") != name:
        raise ValueError(f"{path} is of {name}, but {found} is {settings.get('bundle')}; name its folder by --bundle.")
    return found


def _read_config(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = ConfigParser.load_config_file(path)
    return content


def _configs(then: Mapping[str, Any], path: Path, folder: Path) -> list[Path]:
    """Return the config files of a record, which must be the bundle's own."""
    if then["run_id"] not in RUN_IDS:
        raise ValueError(f"{path} is of {then['run_id']!r}, but only a training is repeated.")
    if then["changed"] or not then["configs"]:
        raise ValueError(
            f"{path} is of a training whose config was changed beyond its options ({_join(then['changed'])}), which "
            "is code and not in the record; repeat it by hand, as its entry 'command' says."
        )
    if then["parts"][-1]["environment"].get("processes") != 1:
        raise ValueError(f"{path} is of a training by several processes; repeat it with torchrun, by hand.")
    names = list(then["configs"])
    for name in names:
        if not CONFIG.fullmatch(name) or not (folder / "configs" / name).is_file():
            raise ValueError(f"{path} names the config {name!r}, which {folder.name} has not.")
    if names[0] != "train.json":
        raise ValueError(f"{path} begins with the config {names[0]!r}, not with train.json.")
    return [folder / "configs" / name for name in names]


def _options(then: Mapping[str, Any], path: Path, config: Path, given: Mapping[str, str | None]) -> dict[str, Any]:
    """Return the options of a record as values that were checked, and what was given instead of some."""
    known, options = option_names(_read_config(config)), {}
    for name in (name for name, value in given.items() if value is not None):
        check_known(name, known, f"the training of {then['bundle']['name']}")
    for name, recorded in then["options"].items():
        if name not in known:
            raise ValueError(f"{path} has the option {name!r}, which {then['bundle']['name']} has not.")
        if name in OWN:
            continue
        value = recorded if given.get(name) is None else given[name]
        if has_expression(value):
            raise ValueError(f"{path}: {name} is {value!r}, which MONAI would evaluate; a record holds values alone.")
        if OPTIONS[name].kind in PATHS and isinstance(value, str) and value.endswith(f"<{name}>"):
            raise ValueError(f"{path} does not say where its {name} is; name it by --{name}.")
        try:
            value = check_value(name, value)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        if OPTIONS[name].kind == "device":
            _check_device(path, value)
        if name == "dataset_dir" or (given.get(name) and Path(value).exists()):
            value = Path(value).absolute().as_posix()
        options[name] = value
    for name in ("dataset_dir", "seed"):
        if name not in options:
            raise ValueError(f"{path} is damaged (it has no {name}); a new training writes it anew.")
    return options


def _check_device(path: Path, value: Any) -> None:
    try:
        if not isinstance(value, str):
            raise RuntimeError
        torch.device(value)
    except RuntimeError:
        raise ValueError(f"{path}: device is {value!r}, but must be {OPTIONS['device'].describe()}.") from None


def _typed(value: Any) -> Any:
    """Return a value as MONAI takes it for an option; null stands for an option that was not given there."""
    return "null" if value is None else value


def _variables(then: Mapping[str, Any], path: Path) -> dict[str, str]:
    """Return the environment of the run: this one, with those variables that change numbers as they were."""
    environment = then["parts"][-1]["environment"]
    recorded, threads = environment.get("variables"), environment.get("threads")
    if not isinstance(recorded, dict) or not isinstance(threads, int) or isinstance(threads, bool) or threads < 1:
        raise ValueError(f"{path} is damaged (it does not say how many threads); a new training writes it anew.")
    for name, value in recorded.items():
        if name not in VARIABLES or not isinstance(value, str) or not VARIABLE.fullmatch(value):
            raise ValueError(f"{path} sets the environment variable {name!r} to {value!r}, which is not allowed.")
    kept = {name: value for name, value in os.environ.items() if name not in VARIABLES}
    search = os.pathsep.join(filter(None, (str(HOME), kept.get("PYTHONPATH"))))
    return {**kept, "OMP_NUM_THREADS": str(threads), **recorded, "PYTHONPATH": search}


def _check_data(then: Mapping[str, Any], path: Path, configs: list[Path], options: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse other data than those of the training, before an hour is spent on them.

    Returns:
        What to change in the config so that the cases are those of the training: nothing if they are drawn so.
    """
    place = options["dataset_dir"]
    now = _describe(then, configs, options)
    for before, after in zip(then["data"]["sets"], now["sets"], strict=True):
        if before["dataset_json"] != after["dataset_json"]:
            raise ValueError(f"The dataset.json of {before['name']} in {place} is not that of the training.")
    if now == then["data"]:
        return {}
    # A run that was resumed in a grown folder kept the cases of its first part, which nobody can draw again.
    kept: dict[str, Any] = {}
    if path.with_name(FILE).is_file() and "model_split" in _read_config(configs[0]):
        kept = {"model_split#ckpt_dir": path.absolute().parent.as_posix(), "model_split#resume": True}
        now = _describe(then, configs, {**options, **kept})
    why = "" if kept else f" (which cases these were is not known, since {path.with_name(FILE)} does not exist)"
    for part in PARTS:
        if then["data"][part] != now[part]:
            had = then["data"][part]
            raise ValueError(f"{place} has {now[part]} cases for {part}, but the training had {had}{why}.")
    if then["data"]["listing"] != now["listing"]:
        raise ValueError(f"The files in {place} are not those of the training: names, sizes or headers differ.")
    return kept


def _describe(then: Mapping[str, Any], configs: list[Path], changes: Mapping[str, Any]) -> dict[str, Any]:
    parser = ConfigParser(ConfigParser.load_config_files(configs))
    parser.update({"bundle_root": str(configs[0].parents[1]), "resume": False, **changes})
    names = [one["name"] for one in then["data"]["sets"]]
    return describe_data(parser.get_parsed_content("datalist"), changes["dataset_dir"], names)


def _check_weights(then: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Refuse other weights than those that the training started from; published ones are checked by their loader."""
    for weights in then["weights"]:
        place = Path(str(options.get(weights["option"])).rpartition(":")[2])
        if weights["sha256"] and place.is_file() and file_digest(place) != weights["sha256"]:
            raise ValueError(f"{place} is not what the training started from, whose sha256 is {weights['sha256']}.")


def _warnings(then: Mapping[str, Any], configs: list[Path]) -> list[str]:
    """Return what is known to differ before the run: the package, its configs, versions and processor."""
    part, now = then["parts"][-1], describe_environment()
    lines = differences(*({name: each.get(name) for name in ALWAYS_TOLD} for each in (part["environment"], now)))
    lines += [
        f"{config.name} of {then['bundle']['name']} is not as it was"
        for config in configs
        if then["configs"][config.name] != file_digest(config)
    ]
    others = dict.fromkeys(name for one in then["parts"] for name in one.get("options", {}))
    if others:
        lines.append(f"the training was resumed with another {_join(others)}, and is repeated with the last one")
    if len({str(one["environment"].get("processor")) for one in then["parts"]}) > 1:
        lines.append("the parts of the training ran on different processors")
    return lines


def _make_folder(path: Path) -> Path:
    """Make the next free replay_N in the folder of the run."""
    run = path.absolute().parent
    run = run.parent if run.name == "models" else run
    number = 1
    while True:
        folder = run / f"replay_{number}"
        try:
            folder.mkdir()
            return folder
        except FileExistsError:
            number += 1


def _compare(then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Print the scores of both runs, and raise if one differs."""
    metric = then["best"]["metric"]
    before, after = ({row["epoch"]: row for row in each["scores"]} for each in (then, now))
    if not before:
        raise ValueError("The training has no scores to compare with: it was not validated.")
    print(f"\n{'epoch':>5}  {metric + ' then':>24}  {'now':>20}")
    unequal = []
    for epoch, row in before.items():
        repeated = after.get(epoch, {})
        names = [name for name in dict.fromkeys((*row, *repeated)) if row.get(name) != repeated.get(name)]
        unequal += [epoch] if names else []
        shown = "" if not names else f"  differs: {_join(names)}"
        print(f"{epoch:>5}  {_score(row, metric):>24}  {_score(repeated, metric):>20}{shown}")
    scores = len(next(iter(before.values()))) - 1
    if not unequal:
        print(f"All {len(before)} epochs are equal to the last bit, in {scores} score{'s' * (scores > 1)} each.")
        return
    parts = [each["parts"][-1] for each in (then, now)]
    lines = differences(*({**part["environment"], "precision": part["precision"].get("name")} for part in parts))
    lines += differences(*({one["option"]: one["sha256"] for one in each["weights"]} for each in (then, now)))
    for line in lines:
        print(f"differs: {line}")
    why = "see above for what else differs" if lines else "processor, versions, threads and package are the same"
    raise ValueError(f"{len(unequal)} of {len(before)} epochs have other scores; {why}.")


def _score(row: Mapping[str, Any], metric: str) -> str:
    return str(row.get(metric, "-")) if row else "-"


def _join(names: Any, most: int = 4) -> str:
    names = [str(name) for name in names]
    return ", ".join(names[:most]) + (" and more" if len(names) > most else "")
