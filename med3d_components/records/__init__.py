"""What a training was made from, kept in run.json: to repeat it, and to tell others of its model."""

from med3d_components.records.environment import describe_environment, differences, package_digest
from med3d_components.records.origins import data_licences, describe_data, describe_weights
from med3d_components.records.reading import FORMAT, RECORD, read_record

__all__ = [
    "FORMAT",
    "RECORD",
    "data_licences",
    "describe_data",
    "describe_environment",
    "describe_weights",
    "differences",
    "package_digest",
    "read_record",
]
