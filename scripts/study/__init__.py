"""Compare initialisations of a bundle's network with one another, as Table 2 of Med3D does: plan, run, report."""
