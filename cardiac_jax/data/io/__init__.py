"""Image files: NIfTI, NRRD, MetaImage, DICOM, read and written under one set of checks."""
