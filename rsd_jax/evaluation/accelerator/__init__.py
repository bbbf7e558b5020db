"""Everything that has to be measured on a GPU or TPU, cell by cell, in order of worth."""
