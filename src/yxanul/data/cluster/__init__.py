"""Many tasks treat the texts of a source, on one machine or a cluster; prepare joins them."""
