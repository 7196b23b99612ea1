"""The common part of the formats for training: classes, folders, paths and the choice of images."""
