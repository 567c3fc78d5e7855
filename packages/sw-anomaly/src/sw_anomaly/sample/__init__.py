"""The embedded SYNTHETIC sample: three drawn categories in MVTec AD layout."""
