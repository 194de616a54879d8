"""The reference pages of docs/, drawn from the code: what cannot drift is not written by hand."""
