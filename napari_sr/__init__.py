"""The napari plugin: super-resolution of layers, with its gradients and its trust beside it.

A thin form around `srpipe`. napari reads `napari.yaml`; each file is imported when it is used.
"""
