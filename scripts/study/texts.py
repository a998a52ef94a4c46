"""What the report of a study says about its numbers."""

from __future__ import annotations

__all__ = ["BESIDE", "BUDGET", "CLINICAL", "CONVERGENCE", "RATES", "READING", "SYNTHETIC"]

CLINICAL = "Research, not for clinical use."
SYNTHETIC = (
    "SYNTHETIC data: {names}, drawn by a program. These numbers show that the commands work and say nothing about "
    "medicine."
)
BUDGET = (
    "All trainings have the same number of iterations, to within half the distance of two validations, and as many "
    "validations: with fewer cases there are more epochs, and a batch cannot be larger than the share. The split and "
    "the cases of a share are the same in all trainings; those of one seed also have the same order of the cases, "
    "augmentation and, where nothing is pre-trained, first weights."
)
RATES = (
    "As in the paper, the rate is 0.01 from scratch and 0.001 from pre-trained weights. scratch_0.001 is from scratch "
    "at 0.001: what it gains on scratch, the rate explains, not the weights."
)
CONVERGENCE = (
    "The factor is scratch's iterations to its own best validation score, divided by the iterations to the first "
    "validation that reaches this score from the other start, with the same seed. Medians of the seeds that reach it. "
    "It is no finer than the distance of two validations, and the best score of a noisy curve is a lucky one. A time "
    "is the part of a training's whole time that its part of the iterations is, and the machine may have been busy."
)
READING = (
    "Pairs have the same seed, or the same validation case; a case counts once, with the mean over the seeds. Scores "
    "are those at the end, so no epoch was chosen by the cases it is scored on. Of a case it is the mean Dice, or "
    "whether it is classified rightly at a probability of 0.5. The interval is Student's, p is that of the sign-flip "
    "test: exact up to 13 pairs, else from 9999 random flips. p is not corrected for the number of comparisons in "
    "this table. A difference whose interval holds 0 is no difference; 'by the intervals alone' means that a p is "
    "0.05 or more, often because the pairs are too few. With n seeds p cannot fall below 2 to the power of 1 - n: "
    "three seeds can never be significant at 0.05, six can. Seeds tell how much the training varies, cases how much "
    "the patients do; neither tells of another split, another share drawn, or other data."
)
BESIDE = (
    "Ours: mean and standard deviation over seeds of the score at the end. The paper's numbers were measured on other "
    "data, with another split, unknown epochs and input sizes: compare the order, not the level."
)
