"""Fetch a published file from the Hugging Face Hub, or from its local cache without a network."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import hf_hub_download

from med3d_components.weights.cards import WeightCard

__all__ = ["download"]


def download(card: WeightCard) -> Path:
    """Return the local path of a card's file, downloading it if it is not in the Hub's cache.

    Raises:
        FileNotFoundError: if it is not cached and cannot be downloaded; says what to download by hand.
    """
    try:
        return Path(hf_hub_download(card.repo_id, card.filename, revision=card.revision))
    except Exception as error:  # which classes mean "no network" changes with the Hub's HTTP library
        raise FileNotFoundError(
            f"{card.filename} of {card.repo_id} is not cached and could not be downloaded ({type(error).__name__}); "
            f"download {card.url} by hand and give the file's path instead of {card.source!r}."
        ) from error
