"""Helpers of the book on label-aware quantization of CNNs.

One module an idea; a chapter imports two or three of them.
"""

__version__ = "0.1.0"
