"""Drivers of peers, each run in an environment of its own that the text file of its name describes.

Each takes the fastest route that its library documents for the task; what it cannot do, it says why.
"""
