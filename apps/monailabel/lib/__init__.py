"""The parts of the app; MONAI Label reloads a package of this name with each app."""
