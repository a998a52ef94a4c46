"""What the scripts in the folder above run, a module for each. A script only names it, so that help comes at once."""
