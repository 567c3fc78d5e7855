"""Reading weights: safely, and from the published code's names into this package's."""
