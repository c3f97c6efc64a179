"""Networks over scans: read, prepare, run whole or in windows, bring the result back to the scan's own grid."""
