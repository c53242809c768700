"""Judges of pictures: a matched filter, which is not learned, and a small network. Both read a picture without its caption."""
