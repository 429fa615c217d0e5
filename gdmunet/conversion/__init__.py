"""Ways into the raw data set format: plain folders, sparse-view CT, generated phantoms."""
