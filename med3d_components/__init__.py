"""Networks, transforms, data and handlers shared by the Med3D and Models Genesis bundles."""

__version__ = "0.2.0"
