"""What a training had best begin with, from the data and the memory at hand."""
