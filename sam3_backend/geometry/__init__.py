"""Shapes of masks: what stands for a mask where pixels are not wanted. Knows neither the model nor any wire format.

Coordinates are pixels of the upright picture, x to the right and y down, measured at pixel edges: the picture's corners
are (0, 0) and (width, height), the first pixel's centre is (0.5, 0.5), and a square of 10 x 10 pixels has area 100.
"""

from sam3_backend.geometry.png import png_rgba
from sam3_backend.geometry.polygons import Polygon, polygons
from sam3_backend.geometry.raster import rasterize
from sam3_backend.geometry.shapes import Ellipse, bounding_box, ellipse, smoothed

__all__ = ["Ellipse", "Polygon", "bounding_box", "ellipse", "png_rgba", "polygons", "rasterize", "smoothed"]
