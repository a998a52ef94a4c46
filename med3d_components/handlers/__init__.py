"""What ignite and MONAI lack: epochs that depend on the seed alone, checkpoints that survive a resume, reports."""

from med3d_components.handlers.average import WeightAverage
from med3d_components.handlers.checkpoint import TrainingCheckpoint
from med3d_components.handlers.early_stop import EarlyStop
from med3d_components.handlers.evaluation import CaseReport, EvaluationReport, Validation
from med3d_components.handlers.inference import FreshOutput, PredictionTable, ScanReport
from med3d_components.handlers.interruption import Interruption
from med3d_components.handlers.loading import PretrainedEncoder, StrictCheckpointLoader
from med3d_components.handlers.pictures import ClassificationPictures, OverlayPictures, RestorationPictures
from med3d_components.handlers.progress import ProgressBar
from med3d_components.handlers.record import RunRecord
from med3d_components.handlers.start import EncoderFreezer, EpochSeeder, RateSchedule
from med3d_components.handlers.summary import RunSummary
from med3d_components.handlers.training import TrainingReport
from med3d_components.handlers.writer import SingleWriter

__all__ = [
    "CaseReport",
    "ClassificationPictures",
    "EarlyStop",
    "EncoderFreezer",
    "EpochSeeder",
    "EvaluationReport",
    "FreshOutput",
    "Interruption",
    "OverlayPictures",
    "PredictionTable",
    "PretrainedEncoder",
    "ProgressBar",
    "RateSchedule",
    "RestorationPictures",
    "RunRecord",
    "RunSummary",
    "ScanReport",
    "SingleWriter",
    "StrictCheckpointLoader",
    "TrainingCheckpoint",
    "TrainingReport",
    "Validation",
    "WeightAverage",
]
