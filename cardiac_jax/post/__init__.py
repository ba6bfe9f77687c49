"""What happens to a label map after it was drawn, by whatever program: on the host, on the file's own grid."""
