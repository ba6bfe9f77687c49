"""Readers and writers of image files (NIfTI, NRRD, MetaImage, DICOM) with a common set of checks."""
